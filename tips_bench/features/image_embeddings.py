"""Features of whole images: global tokens, the mean of the patches, or embeddings beside a text's, kept in a store.

Axes: B batch, H W pixels, D feature of a layer, F features of an image, N images.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.features.cache import DISK_TYPES, FeatureCache, to_disk
from tips_bench.features.extract import Extractor
from tips_bench.features.memory import What
from tips_bench.features.store import ResumableArray
from tips_bench.features.upsampling import refuse
from tips_bench.files import atomic, digest
from tips_bench.progress import bar


@dataclass(frozen=True)
class ImageEmbedding:
    """What is kept of an image. encode: pixels_B3HW -> [B,F]. dim: F."""

    encode: Callable[[Tensor], Tensor]
    dim: int

    @classmethod
    def tokens(cls, extractor: Extractor, *, mean: bool = False, scales: Sequence[float] = (1.0,)) -> ImageEmbedding:
        """The global token that the protocol names of each of its layers, or, where it names none, the mean of the layer's patches.

        mean: the mean of the last layer's patches after them. scales: the image that the protocol's card makes is resized by each of
        these factors, bilinearly and not antialiased, and the features are averaged. Errors: a protocol with
        an upsampler.
        """
        refuse(extractor.upsampler)
        if extractor.features.facet != "token":
            raise UserError(f"features.facet = {extractor.features.facet} is for patches, not for whole images", fix="Set it to token.")
        token = extractor.features.global_token
        first_kind: What = "means" if token is None else "tokens"
        whats: list[What] = [first_kind, "means"] if mean and token is not None else [first_kind]

        def encode(pixels_B3HW: Tensor) -> Tensor:
            if len(scales) == 1 and scales[0] == 1:
                return once(pixels_B3HW)
            return torch.stack([once(scaled(pixels_B3HW, scale)) for scale in scales]).mean(0)

        def once(pixels_B3HW: Tensor) -> Tensor:
            pixels_B3HW = extractor.normalized(extractor.fitted(pixels_B3HW))
            first, *means = extractor.look(pixels_B3HW, *whats)
            parts = [own_BKD[:, token or 0] for own_BKD in first]
            return torch.cat([*parts, (means[0] if means else first)[-1][:, 0]] if mean else parts, 1)

        return cls(encode, extractor.encoder.spec.embed_dim * (len(extractor.layers) + mean))

    @classmethod
    def embedding(cls, extractor: Extractor, number: int, dim: int) -> ImageEmbedding:
        """One of the embeddings that can be compared with a text's. dim: of both."""
        return cls(lambda pixels_B3HW: extractor.embed(pixels_B3HW)[:, number], dim)


def scaled(pixels_B3HW: Tensor, scale: float) -> Tensor:
    """The images resized by a factor, bilinearly and not antialiased, as facebookresearch/dino 7c446df has it (utils.py:815-829)."""
    return pixels_B3HW if scale == 1 else F.interpolate(pixels_B3HW, scale_factor=scale, mode="bilinear", align_corners=False)


def encode_images(extractor: Extractor, split: Split, embedding: ImageEmbedding, cache: FeatureCache, name: str) -> ResumableArray:
    """The features of the split's samples, an item each in the order of its indices; what an earlier try encoded is taken up."""
    indices = split.indices
    arrays: dict[str, Any] = {"features": ((embedding.dim,), DISK_TYPES[extractor.encoder.dtype])}
    store = cache.open(name, [1] * len(indices), arrays, digest(*split.ids))
    item = {index: place for place, index in enumerate(indices)}
    missing = store.missing()
    with bar(f"features of {name}", len(indices)) as advance:
        advance(len(indices) - len(missing))
        for batch, _, pixels_B3HW in extractor.batches(split.reader, [indices[place] for place in missing]):
            for index, features_F in zip(batch, to_disk(embedding.encode(pixels_B3HW)), strict=True):
                store.write(item[index], features=features_F[None])
            advance(len(batch))
    return store.join()


def point_to(features_NF: np.ndarray, file: Path, name: str = "features") -> dict[str, Any]:
    """What `file` has to hold for `follow` to find features, or another array, that stay in the file of their store.

    Where that lies elsewhere, it gets a second name beside `file`, for a store goes with the work folder of its run.
    """
    assert isinstance(features_NF, np.memmap) and features_NF.filename, "features of a store"
    source, folder = Path(str(features_NF.filename)).resolve(), file.parent.resolve()
    if not source.is_relative_to(folder):
        source = _second_name(source, folder / f"{name}.bin")
    return {name: str(source.relative_to(folder)), f"{name}_type": str(features_NF.dtype), f"{name}_shape": features_NF.shape}


def _second_name(source: Path, target: Path) -> Path:
    """A hard link to a file, or a copy where a disk has none."""
    with atomic(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
    return target


def follow(data: Mapping[str, np.ndarray], file: Path, name: str = "features") -> np.ndarray:
    """The array that a file points to, as a memory map. Errors: OSError, ValueError, KeyError."""
    kind, shape = str(data[f"{name}_type"]), tuple(data[f"{name}_shape"].tolist())
    return np.memmap(file.parent / str(data[name]), dtype=kind, mode="r", shape=shape)
