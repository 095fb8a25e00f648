"""An encoder over the images of a reader: resized, in batches of one size, decoded ahead, counted.

Axes: B batch, H W pixels, h w token grid, D feature (layers and global token concatenated), N windows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.data.images import center_crop, resize, resize_shape, to_pixels
from tips_bench.encoders.base import Encoder, ImageFeatures, padding_of
from tips_bench.errors import UserError
from tips_bench.features.memory import FeatureMemory, Recall, Wanted, What, part_of
from tips_bench.ranks import ALONE, World


@dataclass
class Meter:
    """What was spent. image_forwards: images, crops or windows through the backbone. encoder_s: seconds inside it."""

    image_forwards: int = 0
    encoder_s: float = 0.0


@dataclass(frozen=True)
class PatchFeatures:
    """features_BhwD in float32 or the run's precision; padding as in ImageFeatures."""

    features_BhwD: Tensor
    padding: tuple[int, int, int, int]


def layer_indices(layers: list[int] | str, encoder: Encoder) -> tuple[int, ...]:
    """Block indices in [0, depth) of a FeatureCard's layers.

    "even4" of 24 blocks is 4, 11, 17, 23, as DINOv2 (hub/depthers.py) and DINOv3 (eval/depth/models/encoder.py) have it, where even
    spacing gives 5. "quarters" is that even spacing, rounded up, as the released DPT heads of TIPSv2 read it: of 27 blocks 6, 13, 20, 26.
    Errors: a block that the encoder does not have, four where there are fewer.
    """
    if not isinstance(layers, str):
        return encoder.resolve_layers(tuple(layers))
    depth, name = encoder.spec.depth, encoder.spec.name
    if depth < 4:
        problem = f"features.layers = {layers}: encoder {name!r} has {depth} block{'s' * (depth > 1)}"
        raise UserError(problem, fix="Use a protocol that reads only the last layer, or --set features.layers=[-1].")
    if layers == "last4":
        return tuple(range(depth - 4, depth))
    if layers == "quarters":
        return tuple(-(-depth * quarter // 4) - 1 for quarter in range(1, 5))
    return (4, 11, 17, 23) if depth == 24 else tuple(round(depth * quarter / 4) - 1 for quarter in range(1, 5))


class Images(Protocol):
    """What has images of known size: a reader, or the frames of a scan."""

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image in pixels, from its header."""

    def load(self, index: int) -> Any:
        """A sample with image_HW3. Errors: a broken or missing file, named."""


@dataclass
class Extractor:
    """Turns images into patch features as a protocol card says. batch_size: images of one size at a time.

    world: the ranks that share the images; each calls `batches` with the same ones and gets its part of them. memory: where features are
    looked up and kept. also: what is kept in it besides, for other protocols.
    """

    encoder: Encoder
    image: ImageCard
    features: FeatureCard
    batch_size: int = 8
    workers: int = 2
    world: World = ALONE
    memory: FeatureMemory | None = None
    also: frozenset[Wanted] = frozenset()
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        spec = self.encoder.spec
        if self.image.native:
            self.image = self.image.model_copy(update={"short_side": spec.resolution, "native": False})
        self.layers = layer_indices(self.features.layers, self.encoder)
        token = self.features.global_token
        if token is not None and not 0 <= token < spec.global_tokens:
            raise UserError(
                f"features.global_token = {token}: encoder {spec.name!r} has {spec.global_tokens} global tokens",
                fix="Use a protocol that needs none, or --set features.global_token=null.",
            )

    def alone(self) -> Extractor:
        """The same without other ranks: it gets all images. What it spends is entered into the same meter."""
        return replace(self, world=ALONE)

    @property
    def dim(self) -> int:
        """D: features a patch."""
        if self.features.values:
            return self.encoder.values_dim
        return self.encoder.spec.embed_dim * len(self.layers) * (1 if self.features.global_token is None else 2)

    def inner_size(self, height: int, width: int, scale: float = 1) -> tuple[int, int]:
        """(height, width) of the network input before padding. scale: on the protocol's own size."""
        resized, side = self._resized(height, width, scale), self.image.crop or self.image.short_side
        if self.image.shape != "center-crop" or side is None:
            return resized
        return min(*resized, round(side * scale)), min(*resized, round(side * scale))

    def _resized(self, height: int, width: int, scale: float) -> tuple[int, int]:
        card = self.image
        if card.short_side is not None and card.shape == "square":
            height = width = card.short_side
        multiple = self.encoder.spec.patch_size if card.patch_multiple else None
        short_side = max(1, int((card.short_side or min(height, width)) * scale))  # mmcv cuts: 640 x 1.32 is 844
        return resize_shape(height, width, short_side, multiple, card.library)

    def padding(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) pixels that are added around an image or window of this size."""
        spec = self.encoder.spec
        return padding_of(height, width, spec.patch_size, "resize" if self.image.fit == "enlarge" else spec.pad)

    def grid(self, height: int, width: int, scale: float = 1) -> tuple[int, int]:
        """(h, w) tokens of an image of this size."""
        patch = self.encoder.spec.patch_size
        inner = self.inner_size(height, width, scale)
        return -(-inner[0] // patch), -(-inner[1] // patch)

    def pixels(self, image_HW3: np.ndarray, scale: float = 1) -> Tensor:
        """The resized image as float32 [3,H,W] in [0, 1]."""
        height, width = image_HW3.shape[:2]
        resized_HW3 = resize(image_HW3, self._resized(height, width, scale), self.image.interpolation, self.image.library)
        return to_pixels(center_crop(resized_HW3, self.inner_size(height, width, scale), self.image.library))

    def encode(self, pixels_N3HW: Tensor) -> PatchFeatures:
        """Patch features of images or windows of one size, batch_size at a time."""
        if self.image.fit == "enlarge":
            pixels_N3HW = enlarge(pixels_N3HW, self.encoder.spec.patch_size)
        found = [self._encode(piece) for piece in pixels_N3HW.split(self.batch_size)]
        if len(found) == 1:
            return found[0]
        return PatchFeatures(torch.cat([piece.features_BhwD for piece in found]), found[0].padding)

    def _encode(self, pixels_B3HW: Tensor) -> PatchFeatures:
        token = self.features.global_token
        parts, *globals_ = self.look(pixels_B3HW, *self.whats)
        if token is not None:
            tokens = [own_BKD[:, token, None, None].expand_as(parts[0]) for own_BKD in globals_[0]]
            parts = [part for pair in zip(parts, tokens, strict=True) for part in pair]
        spec = self.encoder.spec
        padding = padding_of(pixels_B3HW.shape[-2], pixels_B3HW.shape[-1], spec.patch_size, spec.pad)
        return PatchFeatures(torch.cat(parts, -1) if len(parts) > 1 else parts[0], padding)

    @property
    def whats(self) -> tuple[What, ...]:
        """What `encode` reads of a layer."""
        return ("patches",) if self.features.global_token is None else ("patches", "tokens")

    def look(self, pixels_B3HW: Tensor, *whats: What) -> list[list[Tensor]]:
        """For each of `whats` a tensor of each of the protocol's layers, as `part_of` gives them; from the memory where there is one."""
        if self.memory is None:
            found = self._through(pixels_B3HW, self.layers)
            return [[part_of(found, what, position) for position in range(len(self.layers))] for what in whats]
        wanted = [(what, layer) for what in whats for layer in self.layers]
        parts = self._recall(self.memory).parts(pixels_B3HW, wanted, self._through)
        return [[parts[what, layer] for layer in self.layers] for what in whats]

    def embed(self, pixels_B3HW: Tensor) -> Tensor:
        """[B,E,D] embeddings of whole images in the space of the encoder's texts, not normalised."""
        if self.memory is None:
            return self._through_embedding(pixels_B3HW)
        return self._recall(self.memory).embeddings(pixels_B3HW, self._through_embedding)

    def _recall(self, memory: FeatureMemory) -> Recall:
        return Recall(memory, self.encoder, self.features, self.also)

    def _through(self, pixels_B3HW: Tensor, layers: tuple[int, ...]) -> ImageFeatures:
        card = self.features
        with self.timed(len(pixels_B3HW)):
            return self.encoder.encode_image(pixels_B3HW, layers=layers, norm=card.norm, values=card.values)

    def _through_embedding(self, pixels_B3HW: Tensor) -> Tensor:
        with self.timed(len(pixels_B3HW)):
            return self.encoder.embed_image(pixels_B3HW)

    def fresh(self) -> Extractor:
        """The same without a memory: for images that never come again, as random crops."""
        return replace(self, memory=None)

    @contextmanager
    def timed(self, images: int) -> Iterator[None]:
        """Enter what is done inside into the meter, as `images` forward passes of the backbone."""
        start = time.perf_counter()
        yield
        if self.encoder.device.type == "cuda":
            torch.cuda.synchronize(self.encoder.device)
        self.meter.encoder_s += time.perf_counter() - start
        self.meter.image_forwards += images

    def batches(self, reader: Images, indices: Sequence[int]) -> Iterator[tuple[list[int], list[Any], Tensor]]:
        """(indices, samples, pixels_B3HW) for this rank's part of `indices`, grouped by size; the next are decoded meanwhile.

        The batches are the same ones for any number of ranks, each of which takes every so-manieth.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        square = self.inner_size(1, 1) if self.image.shape != "aspect" else None  # the same for all: a million headers are not read
        for index in indices:
            groups.setdefault(square or self.inner_size(*reader.size(index)), []).append(index)
        size = self.batch_size
        every = [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]
        chunks = self.world.share(every)

        def load(index: int) -> tuple[Any, Tensor]:
            sample = reader.load(index)
            return sample, self.pixels(sample.image_HW3)

        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            ahead: list[list[Future[tuple[Any, Tensor]]]] = []
            try:
                for position, chunk in enumerate(chunks):
                    while len(ahead) < 2 and position + len(ahead) < len(chunks):
                        ahead.append([pool.submit(load, index) for index in chunks[position + len(ahead)]])
                    loaded = [future.result() for future in ahead.pop(0)]
                    yield chunk, [sample for sample, _ in loaded], torch.stack([pixels for _, pixels in loaded])
            finally:
                for futures in ahead:
                    for future in futures:
                        future.cancel()


def enlarge(pixels_B3HW: Tensor, patch_size: int) -> Tensor:
    """The images stretched bicubically to whole patches, as google-deepmind/tips does (pytorch/TIPS_zeroshot_segmentation.ipynb)."""
    height, width = pixels_B3HW.shape[-2:]
    size = height + -height % patch_size, width + -width % patch_size
    return pixels_B3HW if size == (height, width) else F.interpolate(pixels_B3HW, size, mode="bicubic", align_corners=False)
