"""Signatures of images: hashes, a thumbnail and an embedding each, a file for each shard or part of a data set.

An image is decoded once for all of them. A file holds some 4 kB an image at 256 features, in half precision, and is written last and whole.

Axes: N images, D features, S pixels of a thumbnail, C of its colors, 4 hashes, B batch, H W pixels.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from tips_bench.cards import FeatureCard, ImageCard, load_card
from tips_bench.corpus.curation.looks import COARSE, SIDE, Thumbnail, look_at
from tips_bench.corpus.curation.task_images import open_images
from tips_bench.corpus.storage import at_hand
from tips_bench.corpus.store import read_sample
from tips_bench.encoders import load_encoder
from tips_bench.features.ahead import loaded
from tips_bench.features.extract import Extractor
from tips_bench.features.image_embeddings import ImageEmbedding
from tips_bench.npz import map_npz, read_npz, save_npz
from tips_bench.training.crops import read_image
from tips_bench.training.shard_files import shard_path
from tips_bench.training.shard_index import index_shard
from tips_bench.training.shards import SampleFault

BATCH = 32
WORKERS = 2


@dataclass(frozen=True)
class Signer:
    """Which encoder embeds. model, weights, device, dtype: as for `load_encoder`. text: images are embedded in the space of its texts."""

    model: str
    weights: str | None = None
    device: str | None = None
    dtype: str | None = None
    text: bool = False

    def extractor(self) -> tuple[Extractor, ImageEmbedding]:
        """The encoder with its way from an image to an embedding: one global token, or the mean of the patches where it has none.

        Of several embeddings in the space of texts, it is the first: TIPS trains it with web captions.
        """
        return _extractor(self)


@functools.lru_cache(maxsize=1)
def _extractor(signer: Signer) -> tuple[Extractor, ImageEmbedding]:
    encoder = load_encoder(signer.model, signer.weights, signer.device, signer.dtype)
    image = ImageCard(short_side=encoder.spec.resolution, shape="square", library="torchvision")
    token = 0 if encoder.spec.global_tokens else None
    extractor = Extractor(encoder, image, FeatureCard(layers=[-1], global_token=token), batch_size=BATCH, workers=WORKERS)
    if signer.text:
        return extractor, ImageEmbedding.embedding(extractor, 0, encoder.encode_text(["a"]).shape[1])
    return extractor, ImageEmbedding.tokens(extractor)


@dataclass(frozen=True)
class Signatures:
    """What a file holds. places_N: the number of each image in its shard or set. keys_N: its key or id. sizes_N2: height, width, pixels.

    hashes_N4: uint64, thumbnails_NSS, colors_NCC2: uint8, see `looks`. embeddings_ND: float16, of length 1. dropped: reason -> images that
    were left out.
    """

    places_N: np.ndarray
    keys_N: np.ndarray
    sizes_N2: np.ndarray
    hashes_N4: np.ndarray
    thumbnails_NSS: np.ndarray
    colors_NCC2: np.ndarray
    embeddings_ND: np.ndarray
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.places_N)

    def thumbnail(self, place: int) -> Thumbnail:
        """That of one image."""
        height, width = self.sizes_N2[place].tolist()
        return Thumbnail(self.thumbnails_NSS[place], self.colors_NCC2[place], width / height)


def read_signatures(file: Path) -> Signatures:
    """Errors: a file that is missing, broken or of something else."""

    def read(data: Any) -> Signatures:
        arrays = {name: data[name] for name in Signatures.__annotations__ if name != "dropped"}
        return Signatures(**arrays, dropped=json.loads(str(data["dropped"])))

    return read_npz(file, "file of signatures", read)


def read_array(file: Path, name: str) -> np.ndarray:
    """One of its arrays, without the others. Errors: as `read_signatures`."""
    return read_npz(file, "file of signatures", lambda data: data[name])


def map_looks(file: Path) -> dict[str, np.ndarray]:
    """What a comparison of single images needs: sizes_N2, hashes_N4, thumbnails_NSS and colors_NCC2. What is not taken is not read.

    Errors: as `read_signatures`.
    """
    return map_npz(file, "file of signatures", ("sizes_N2", "hashes_N4", "thumbnails_NSS", "colors_NCC2"))


def sign_shard(shard: str, signer: dict[str, Any], done: str) -> None:
    """Sign the samples of a shard. One without an image, or with a broken one, is left out and counted."""
    with at_hand(shard_path(shard)) as copy:
        entries = index_shard(copy)

        def load(place: int) -> tuple[str, np.ndarray]:
            with copy.open("rb") as file:
                sample = read_sample(file, entries[place])
            if isinstance(sample, str):
                raise SampleFault(sample)
            return sample.key, read_image({sample.extension: sample.image}).permute(1, 2, 0).numpy()

        _sign(range(len(entries)), load, Signer(**signer), Path(done))


def sign_images(task: str, role: str, root: str, first: int, behind: int, signer: dict[str, Any], done: str) -> None:
    """Sign the images first to behind (exclusive) of a task's split. root: the data root. Errors: a broken image, named."""
    _sign(range(first, behind), open_images(load_card("task", task), role, Path(root)).load, Signer(**signer), Path(done))


Loaded = tuple[str, tuple[int, int], np.ndarray, np.ndarray, np.ndarray, torch.Tensor]
"""Key, (height, width), hashes_4, thumbnail_SS, colors_CC2, pixels_3HW."""


def _sign(places: Sequence[int], load: Callable[[int], tuple[str, np.ndarray]], signer: Signer, done: Path) -> None:
    extractor, embedding = signer.extractor()

    def one(place: int) -> Loaded | str:
        try:
            key, image_HW3 = load(place)
        except SampleFault as fault:
            return str(fault)
        return key, image_HW3.shape[:2], *look_at(image_HW3), extractor.pixels(image_HW3)

    dropped: Counter[str] = Counter()
    parts: list[_Part] = []
    batches = [places[start : start + BATCH] for start in range(0, len(places), BATCH)]
    for batch, found in zip(batches, loaded(one, batches, WORKERS, _bytes, lambda _: None), strict=True):
        dropped.update(fault for fault in found if isinstance(fault, str))
        whole = [(place, image) for place, image in zip(batch, found, strict=True) if not isinstance(image, str)]
        if whole:
            parts.append(_part(whole, embedding))
    _save(parts, embedding.dim, dropped, done)


def _bytes(image: Loaded | str) -> int:
    return 0 if isinstance(image, str) else image[-1].nbytes


_Part = tuple[list[int], list[str], list[tuple[int, int]], np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _part(images: list[tuple[int, Loaded]], embedding: ImageEmbedding) -> _Part:
    places = [place for place, _ in images]
    keys, sizes, hashes, thumbnails, colors, pixels = zip(*(image for _, image in images), strict=True)
    embeddings_BD = F.normalize(embedding.encode(torch.stack(pixels)).float(), dim=-1)
    looks = np.stack(hashes), np.stack(thumbnails), np.stack(colors)
    return places, list(keys), list(sizes), *looks, embeddings_BD.cpu().numpy().astype(np.float16)


def _save(parts: list[_Part], dim: int, dropped: Counter[str], done: Path) -> None:
    def joined(place: int, empty: np.ndarray) -> np.ndarray:
        return np.concatenate([empty, *(np.asarray(part[place]) for part in parts)])

    save_npz(
        done,
        places_N=joined(0, np.zeros(0, np.int64)),
        keys_N=joined(1, np.zeros(0, "U1")),
        sizes_N2=joined(2, np.zeros((0, 2), np.int64)),
        hashes_N4=joined(3, np.zeros((0, 4), np.uint64)),
        thumbnails_NSS=joined(4, np.zeros((0, SIDE, SIDE), np.uint8)),
        colors_NCC2=joined(5, np.zeros((0, COARSE, COARSE, 2), np.uint8)),
        embeddings_ND=joined(6, np.zeros((0, dim), np.float16)),
        dropped=json.dumps(dict(sorted(dropped.items()))),
    )
