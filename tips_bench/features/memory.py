"""Features on disk that are found by an image's own pixels, so that whatever needs them again spares the backbone.

The same pixels before the same encoder give the same features, whichever task, split or protocol they belong to: the key is a hash of
the pixels as the encoder gets them. Evaluations of several tasks on the same images share one pass that way, and so do later runs.

Each process appends to parts of its own, without a lock: first the features, then a record in the part's index, with a CRC-32 of both.
What a kill or a fault of the disk left is not found. Parts are closed at PART_BYTES, so that old ones can be deleted one by one.

Axes: B images, P patches, D feature.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tips_bench.cards import FeatureCard
from tips_bench.encoders.base import Encoder, ImageFeatures
from tips_bench.errors import UserError
from tips_bench.features.cache import DISK_TYPES, from_disk, to_disk
from tips_bench.features.store import checksum, write_all
from tips_bench.files import cannot_write, write_text

PART_BYTES = 1 << 30
ABOUT = "about.json"
RECORD = np.dtype(
    [("key", "S32"), ("kind", "S32"), ("offset", "<u8"), ("rows", "<u4"), ("columns", "<u4"), ("check", "<u4"), ("own", "<u4")]
)


class Place(NamedTuple):
    """Where an array lies: in which part, from which byte on, its shape and CRC-32."""

    part: Path
    offset: int
    rows: int
    columns: int
    check: int


class FeatureMemory:
    """Arrays of two axes by (key, kind), in one precision. folder: of one encoder; made when the first array is kept. encoder: its name.

    A key is the text that `keys` gives; a kind is a short text, as "patches 11 True".
    """

    def __init__(self, folder: Path, dtype: torch.dtype, encoder: str = "") -> None:
        self.folder, self.disk_type, self.encoder = folder, np.dtype(DISK_TYPES[dtype]), encoder
        self._places: dict[tuple[bytes, bytes], Place] = {}
        self._readers: dict[Path, int] = {}
        self._data: int | None = None
        self._index: int | None = None
        self._part = Path()
        self._end = 0
        for path in sorted(folder.glob("part-*.index")):
            os.utime(path)  # used now: the part is kept longer than older ones
            self._places |= dict(_records(path))

    def has(self, key: bytes, kinds: Sequence[str]) -> bool:
        """Whether all of these are kept for a key."""
        return all((key, kind.encode()) in self._places for kind in kinds)

    def read(self, key: bytes, kind: str) -> Tensor | None:
        """[P,D], or None where it is not kept or not what was kept."""
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
        return from_disk(np.frombuffer(bytearray(data), self.disk_type).reshape(place.rows, place.columns))

    def keep(self, key: bytes, kind: str, features_PD: Tensor) -> None:
        """Append an array. Errors: a full disk."""
        array_PD = np.ascontiguousarray(to_disk(features_PD))
        record = np.zeros((), RECORD)
        record["key"], record["kind"], record["rows"], record["columns"] = key, kind.encode(), *array_PD.shape
        record["check"] = checksum(array_PD)
        try:
            data, index = self._writers()
            record["offset"] = self._end
            record["own"] = zlib.crc32(record.tobytes()[:-4])
            write_all(data, array_PD)
            write_all(index, record)
        except OSError as error:
            self._close_writers()
            raise cannot_write(self.folder, error) from error
        self._places[key, kind.encode()] = Place(self._part, self._end, len(array_PD), array_PD.shape[1], int(record["check"]))
        self._end += array_PD.nbytes

    def _writers(self) -> tuple[int, int]:
        if self._end >= PART_BYTES:
            self._close_writers()
        if self._data is None or self._index is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / ABOUT, json.dumps({"encoder": self.encoder, "type": self.disk_type.name}))
            self._part, self._end = self.folder / f"part-{secrets.token_hex(8)}.bin", 0
            self._data, self._index = _open(self._part), _open(self._part.with_suffix(".index"))
            self._readers[self._part] = self._data  # what was kept here can be read even if another process deletes the file
        return self._data, self._index

    def _close_writers(self) -> None:
        if self._index is not None:
            os.close(self._index)
        self._data = self._index = None  # the data are still read

    def flush(self) -> None:
        """Hand what was kept to the disk."""
        for descriptor in (self._data, self._index):
            if descriptor is not None:
                os.fsync(descriptor)

    def close(self) -> None:
        """Let go of the files; a second time does nothing."""
        self._close_writers()
        for descriptor in self._readers.values():
            os.close(descriptor)
        self._readers = {}


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)


def _records(path: Path) -> Iterator[tuple[tuple[bytes, bytes], Place]]:
    data, part = path.read_bytes(), path.with_suffix(".bin")
    for record in np.frombuffer(data[: len(data) // RECORD.itemsize * RECORD.itemsize], RECORD):
        if zlib.crc32(record.tobytes()[:-4]) == record["own"]:
            shape = int(record["offset"]), int(record["rows"]), int(record["columns"])
            yield (bytes(record["key"]), bytes(record["kind"])), Place(part, *shape, int(record["check"]))


def records_of(index: Path) -> Iterator[tuple[Place, int]]:
    """Where the arrays of a part lie, and how many bytes a value has."""
    about = json.loads((index.parent / ABOUT).read_text(encoding="utf-8"))
    for _, place in _records(index):
        yield place, np.dtype(about["type"]).itemsize


def keys(pixels_B3HW: Tensor) -> list[bytes]:
    """A key of each image's pixels: 128 bits in hexadecimal digits."""
    images = [image_3HW.contiguous().numpy() for image_3HW in pixels_B3HW.cpu().float()]
    with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter
        return list(pool.map(_key, images))


def _key(image_3HW: np.ndarray) -> bytes:
    shape = "x".join(map(str, image_3HW.shape)).encode()
    return hashlib.sha256(shape + image_3HW.tobytes()).hexdigest()[:32].encode()


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

    also: layers that other protocols read of the same images, which are kept in the same pass.
    """

    memory: FeatureMemory
    encoder: Encoder
    card: FeatureCard
    also: tuple[int, ...] = ()

    def has(self, pixels_B3HW: Tensor, wanted: Sequence[Wanted]) -> bool:
        """Whether all of this is kept."""
        kinds = [self._kind(part) for part in wanted]
        return all(self.memory.has(name, kinds) for name in keys(pixels_B3HW))

    def parts(
        self, pixels_B3HW: Tensor, wanted: Sequence[Wanted], through: Callable[[Tensor, tuple[int, ...]], ImageFeatures]
    ) -> dict[Wanted, Tensor]:
        """As `part_of` gives them. through: pixels and layers -> features, by the backbone."""
        kept = self._kept(wanted)
        layers = tuple(sorted({*(layer for _, layer in wanted), *self.also}))

        def make(names: list[bytes], pixels_M3HW: Tensor) -> None:
            found = through(pixels_M3HW, layers)
            for what in kept:
                for position, layer in enumerate(layers):
                    self._keep(names, self._kind((what, layer)), part_of(found, what, position))

        rows = self._found(pixels_B3HW, [self._kind(part) for part in wanted], make)
        grid = [-(-side // self.encoder.spec.patch_size) for side in pixels_B3HW.shape[-2:]]
        return {part: found.unflatten(1, grid) if part[0] == "patches" else found for part, found in zip(wanted, rows, strict=True)}

    def _kept(self, wanted: Sequence[Wanted]) -> list[What]:
        """What is wanted; tokens beside patches, too, which cost next to nothing."""
        whats = {what for what, _ in wanted}
        return sorted(whats | {"tokens"} if "patches" in whats and self.encoder.spec.global_tokens else whats)

    def embeddings(self, pixels_B3HW: Tensor, through: Callable[[Tensor], Tensor]) -> Tensor:
        """As `embed_image`. through: pixels -> embeddings, by the backbone."""
        (rows,) = self._found(pixels_B3HW, ["embeddings"], lambda names, images: self._keep(names, "embeddings", through(images)))
        return rows

    def _found(self, pixels_B3HW: Tensor, kinds: list[str], make: Callable[[list[bytes], Tensor], None]) -> list[Tensor]:
        """[B,P,D] of each kind on the encoder's device. make: keeps what is not there, of these keys and pixels.

        Errors: what was kept just now cannot be read.
        """
        names = keys(pixels_B3HW)
        found = {kind: [self.memory.read(name, kind) for name in names] for kind in kinds}
        missing = [image for image in range(len(names)) if any(rows[image] is None for rows in found.values())]
        if missing:
            make([names[image] for image in missing], pixels_B3HW[missing])
        for kind, rows in found.items():
            for image in missing:
                rows[image] = self.memory.read(names[image], kind)
        kept = [[rows_PD for rows_PD in rows if rows_PD is not None] for rows in found.values()]
        if any(len(rows) < len(names) for rows in kept):
            raise UserError("features that were kept cannot be read", where=self.memory.folder, fix="Check the disk, and run again.")
        return [torch.stack(rows).to(self.encoder.device) for rows in kept]

    def _keep(self, names: list[bytes], kind: str, rows: Tensor) -> None:
        for name, rows_of_image in zip(names, rows, strict=True):
            if not self.memory.has(name, [kind]):
                self.memory.keep(name, kind, rows_of_image.flatten(0, -2))

    def _kind(self, part: Wanted) -> str:
        way = "values" if self.card.values else "normed" if self.card.norm else "raw"
        return f"{part[0]} {part[1]} {way}"
