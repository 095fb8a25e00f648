"""Features on disk that are found by an image's own pixels, so that whatever needs them again spares the backbone.

The same pixels before the same encoder give the same features, whichever task, split or protocol they belong to: the key is a hash of
the pixels as the encoder gets them. Evaluations of several tasks on the same images share one pass that way, and so do later runs.

Each process appends to parts of its own, without a lock: first the features, then a record in the part's index, with a CRC-32 of both.
A thread does so, while the encoder goes on.
What a kill or a fault of the disk left is not found, and neither is what another process has deleted to make room: both are made anew.

Axes: B images, P patches, D feature.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tips_bench.cards import FeatureCard
from tips_bench.encoders.base import Encoder, ImageFeatures
from tips_bench.errors import UserError
from tips_bench.features.cache import DISK_TYPES, from_disk, to_disk
from tips_bench.features.part_writer import PartWriter
from tips_bench.features.parts import Place, places

STAMP_EVERY = 60  # seconds between two notes that a part is in use
WAITING_BYTES = 2**29  # of features that are not written yet; more of them wait for the disk


class FeatureMemory:
    """Arrays of two axes by (key, kind), in one precision. folder: of one encoder; made when the first array is kept. encoder: its name.

    dtype: of the features. kept: to which they are rounded first; None = they are not. most_bytes: for all encoders beside it.
    A key is the text that `keys` gives; a kind is a short text, as "patches 11 True".
    """

    def __init__(
        self, folder: Path, dtype: torch.dtype, encoder: str = "", kept: torch.dtype | None = None, most_bytes: int | None = None
    ) -> None:
        self.folder, self.dtype, self.kept = folder, dtype, kept or dtype
        self.disk_type = np.dtype(DISK_TYPES[self.kept])
        self._places: dict[tuple[bytes, bytes], Place] = {}
        self._waiting: dict[tuple[bytes, bytes], tuple[int, Future[None]]] = {}  # bytes of what is to be written
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="features")
        self._readers: dict[Path, int] = {}
        self._stamped: dict[Path, float] = {}
        self._writer = PartWriter(folder, {"encoder": encoder, "type": self.disk_type.name}, most_bytes)
        for path in sorted(folder.glob("part-*.index")):
            with contextlib.suppress(FileNotFoundError):  # another process has just deleted it
                self._places |= dict(places(path))

    def has(self, key: bytes, kinds: Sequence[str]) -> bool:
        """Whether all of these are kept for a key."""
        names = [(key, kind.encode()) for kind in kinds]
        return all(name in self._places or name in self._waiting for name in names)

    def read(self, key: bytes, kind: str) -> Tensor | None:
        """[P,D] as `rounded` gave it, or None where it is not kept or not what was kept. Errors: a full disk, of what is written now."""
        self._written(key, kind)
        place = self._places.get((key, kind.encode()))
        if place is None:
            return None
        try:
            if place.part not in self._readers:
                self._readers[place.part] = os.open(place.part, os.O_RDONLY)
            size = place.rows * place.columns * self.disk_type.itemsize
            data = os.pread(self._readers[place.part], size, place.offset)
        except OSError:
            data = b""
        if zlib.crc32(data) != place.check:
            del self._places[key, kind.encode()]
            return None
        self._stamp(place.part)
        return from_disk(np.frombuffer(bytearray(data), self.disk_type).reshape(place.rows, place.columns)).to(self.dtype)

    def _stamp(self, part: Path) -> None:
        """Note that a part is in use, so that others go before it. One that is gone, or another user's, is left as it is."""
        now = time.monotonic()
        if now - self._stamped.get(part, -STAMP_EVERY) >= STAMP_EVERY:
            self._stamped[part] = now
            with contextlib.suppress(OSError):
                os.utime(part.with_suffix(".index"))

    def rounded(self, features: Tensor) -> Tensor:
        """The features as they are when they are read again. Errors: some that the precision on disk cannot hold."""
        if self.kept == self.dtype:
            return features
        rounded = features.to(self.kept)
        if not torch.isfinite(rounded).all():
            problem = f"features of up to {features.abs().max():.3g} do not fit into {str(self.kept).removeprefix('torch.')}"
            raise UserError(problem, where="--cache-dtype", fix="Use bf16.")
        return rounded.to(self.dtype)

    def keep(self, key: bytes, kind: str, features_PD: Tensor) -> None:
        """Append an array, unless the limit leaves no room for it. Errors: a full disk, of this array or of one before."""
        self._settle(WAITING_BYTES)
        name = key, kind.encode()
        self._waiting[name] = features_PD.nbytes, self._thread.submit(self._append, key, kind, features_PD)

    def _append(self, key: bytes, kind: str, features_PD: Tensor) -> None:
        place = self._writer.append(key, kind, np.ascontiguousarray(to_disk(features_PD.to(self.kept))))
        if place is None:
            return
        if place.part not in self._readers:  # what was kept here can be read even if another process deletes the file
            self._readers[place.part] = self._writer.duplicate()
        self._places[key, kind.encode()] = place

    def _written(self, key: bytes, kind: str) -> None:
        """Wait until an array is written, if it waits."""
        _, written = self._waiting.pop((key, kind.encode()), (0, None))
        if written is not None:
            written.result()

    def _settle(self, most_bytes: int) -> None:
        """Wait until no more than so many bytes are to be written; those that came first are written first."""
        for name, (_, written) in list(self._waiting.items()):
            if not written.done() and sum(size for size, _ in self._waiting.values()) <= most_bytes:
                return
            del self._waiting[name]
            written.result()

    def flush(self) -> None:
        """Hand what was kept to the disk. Errors: a full disk."""
        self._settle(0)
        self._writer.flush()

    def close(self) -> None:
        """Let go of the files, once what waits is written; a second time does nothing."""
        self._thread.shutdown()
        self._writer.close()
        for descriptor in self._readers.values():
            os.close(descriptor)
        self._readers = {}


def keys(pixels_B3HW: Tensor) -> list[bytes]:
    """A key of each image's pixels."""
    with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter
        return list(pool.map(key_of, pixels_B3HW.cpu()))


def key_of(pixels_3HW: Tensor) -> bytes:
    """The key of an image's pixels: 128 bits in hexadecimal digits."""
    image_3HW = pixels_3HW.float().contiguous().numpy()
    hashed = hashlib.sha256("x".join(map(str, image_3HW.shape)).encode())
    hashed.update(image_3HW.data)
    return hashed.hexdigest()[:32].encode()


@dataclass(frozen=True)
class HashedPixels:
    """A batch as it was decoded, with the keys that the threads that decoded it have found."""

    pixels_B3HW: Tensor
    keys: list[bytes]

    def keys_of(self, pixels_B3HW: Tensor) -> list[bytes]:
        """The keys of these pixels, which are not hashed again where they are the batch itself, or some of its images one after another."""
        own, start = self.pixels_B3HW, pixels_B3HW.data_ptr() - self.pixels_B3HW.data_ptr()
        first, rest = divmod(start, own[0].nbytes)
        same = pixels_B3HW.shape[1:] == own.shape[1:] and pixels_B3HW.dtype == own.dtype and pixels_B3HW.is_contiguous()
        if same and not rest and 0 <= first <= len(own) - len(pixels_B3HW):
            return self.keys[first : first + len(pixels_B3HW)]
        return keys(pixels_B3HW)


What = Literal["patches", "tokens", "means"]
Wanted = tuple[What, int]
"""A part of an image's features, and the layer that it is of."""


def part_of(found: ImageFeatures, what: What, position: int) -> Tensor:
    """Of a layer, by its position among those that were asked for: patches [B,h,w,D], tokens [B,K,D], or means of patches [B,1,D]."""
    if what == "tokens":
        return found.layer_globals[position]
    patches_BhwD = found.patches[position]
    if what == "patches":
        return patches_BhwD
    return patches_BhwD.flatten(1, 2).float().mean(1, keepdim=True).to(patches_BhwD.dtype)


@dataclass(frozen=True)
class Recall:
    """What one protocol reads of an encoder, from a memory or through the backbone.

    also: layers that other protocols read of the same images, which are kept in the same pass. keys: finds those of pixels.
    """

    memory: FeatureMemory
    encoder: Encoder
    card: FeatureCard
    also: tuple[int, ...] = ()
    keys: Callable[[Tensor], list[bytes]] = keys

    def has(self, pixels_B3HW: Tensor, wanted: Sequence[Wanted]) -> bool:
        """Whether all of this is kept."""
        kinds = [self._kind(part) for part in wanted]
        return all(self.memory.has(name, kinds) for name in self.keys(pixels_B3HW))

    def parts(
        self, pixels_B3HW: Tensor, wanted: Sequence[Wanted], through: Callable[[Tensor, tuple[int, ...]], ImageFeatures]
    ) -> dict[Wanted, Tensor]:
        """As `part_of` gives them. through: pixels and layers -> features, by the backbone."""
        layers = tuple(sorted({*(layer for _, layer in wanted), *self.also}))

        def make(pixels_M3HW: Tensor) -> dict[str, Tensor]:
            found = through(pixels_M3HW, layers)
            every = [(what, position, layer) for what in self._kept(wanted) for position, layer in enumerate(layers)]
            return {self._kind((what, layer)): part_of(found, what, position) for what, position, layer in every}

        rows = self._found(pixels_B3HW, [self._kind(part) for part in wanted], make)
        grid = [-(-side // self.encoder.spec.patch_size) for side in pixels_B3HW.shape[-2:]]
        return {part: found.unflatten(1, grid) if part[0] == "patches" else found for part, found in zip(wanted, rows, strict=True)}

    def _kept(self, wanted: Sequence[Wanted]) -> list[What]:
        """What is wanted; tokens beside patches, too, which cost next to nothing."""
        whats = {what for what, _ in wanted}
        return sorted(whats | {"tokens"} if "patches" in whats and self.encoder.spec.global_tokens else whats)

    def embeddings(self, pixels_B3HW: Tensor, through: Callable[[Tensor], Tensor]) -> Tensor:
        """As `embed_image`. through: pixels -> embeddings, by the backbone."""
        (rows,) = self._found(pixels_B3HW, ["embeddings"], lambda images: {"embeddings": through(images)})
        return rows

    def _found(self, pixels_B3HW: Tensor, kinds: list[str], make: Callable[[Tensor], dict[str, Tensor]]) -> list[Tensor]:
        """[B,P,D] of each kind on the encoder's device. make: pixels of images of which something is missing -> what is to be kept."""
        names = self.keys(pixels_B3HW)
        found = [[self.memory.read(name, kind) for name in names] for kind in kinds]
        missing = [image for image in range(len(names)) if any(rows[image] is None for rows in found)]
        made = {kind: self.memory.rounded(rows.flatten(1, -2)) for kind, rows in make(pixels_B3HW[missing]).items()} if missing else {}
        for kind, rows_MPD in made.items():
            for image, rows_PD in zip(missing, rows_MPD, strict=True):
                if not self.memory.has(names[image], [kind]):
                    self.memory.keep(names[image], kind, rows_PD)
        device = self.encoder.device
        new = {image: place for place, image in enumerate(missing)}
        return [
            torch.stack([made[kind][new[image]] if row is None else row.to(device) for image, row in enumerate(rows)])
            for kind, rows in zip(kinds, found, strict=True)
        ]

    def _kind(self, part: Wanted) -> str:
        way = "values" if self.card.values else "normed" if self.card.norm else "raw"
        return f"{part[0]} {part[1]} {way}"
