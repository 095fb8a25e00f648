"""ScanNet's .sens files: all RGB-D frames of a scan in one file, read one at a time.

The layout is that of version 4 as ScanNet's own reader has it (SensReader/python/SensorData.py): a header with the two cameras,
then a record a frame (camera-to-world pose, two time stamps, two sizes, a JPEG, the zlib-compressed 16-bit depth). Opening a file
reads the records and skips over the pictures.

Axes: F frames, H W pixels.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tips_bench.data.images import MAX_PIXELS, decode_image
from tips_bench.errors import UserError

VERSION = 4
JPEG, PNG = 2, 1  # of m_colorCompressionType
RAW, ZLIB = 0, 1  # of m_depthCompressionType
MAX_NAME = 1 << 12
RECORD = np.dtype([("pose", "<f4", (4, 4)), ("time", "<u8", 2), ("color", "<u8"), ("depth", "<u8")])
CAMERAS = struct.Struct("<64f2i4IfQ")
FIX = "Fetch it again."


@dataclass(frozen=True)
class SensFile:
    """An open scan. colour_44, depth_44: intrinsics; extrinsics: of both cameras. colour_size, depth_size: (height, width).

    depth_unit: stored values in a metre. poses_F44: camera-to-world, not finite where tracking was lost. Errors: see `open_sens`.
    """

    path: Path
    color_44: np.ndarray
    depth_44: np.ndarray
    extrinsics: tuple[np.ndarray, np.ndarray]
    color_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_unit: float
    zlib: bool
    poses_F44: np.ndarray
    offsets_F: np.ndarray
    sizes_F2: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets_F)

    def color(self, frame: int) -> np.ndarray:
        """image_HW3, uint8 RGB. Errors: a broken picture."""
        return decode_image(self.color_bytes(frame), f"{self.path}, frame {frame}")

    def color_bytes(self, frame: int) -> bytes:
        """The JPEG file as it was stored."""
        return self._bytes(int(self.offsets_F[frame]), int(self.sizes_F2[frame, 0]))

    def depth(self, frame: int) -> np.ndarray:
        """values_HW, uint16 as stored. Errors: broken data, or data of another size."""
        where = f"{self.path}, frame {frame}"
        data = self._bytes(int(self.offsets_F[frame] + self.sizes_F2[frame, 0]), int(self.sizes_F2[frame, 1]))
        expected = 2 * self.depth_size[0] * self.depth_size[1]
        if self.zlib:
            try:
                data = zlib.decompressobj().decompress(data, expected + 1)
            except zlib.error as error:
                raise UserError(f"the depth is corrupt: {error}", where=where, fix=FIX) from error
        if len(data) != expected:
            raise UserError(f"{len(data)} bytes of depth, not {expected}", where=where, fix=FIX)
        return np.frombuffer(data, "<u2").reshape(self.depth_size)

    def _bytes(self, offset: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


def open_sens(path: Path) -> SensFile:
    """Read the header and the record of every frame.

    Errors: no such file, not a .sens file of version 4, pictures in another compression, a truncated file (the frame is named).
    """
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(12)
            version, length = struct.unpack("<IQ", start) if len(start) == 12 else (0, 0)
            if version != VERSION or length > MAX_NAME:
                raise UserError(f"not a .sens file of version {VERSION}", where=path, fix=FIX)
            file.seek(length, 1)
            header = file.read(CAMERAS.size)
            if len(header) < CAMERAS.size:
                raise UserError("the file is truncated within its header", where=path, fix=FIX)
            values = CAMERAS.unpack(header)
            count = values[71]
            if count * RECORD.itemsize > total:
                raise _truncated(path, total // RECORD.itemsize, count)
            records, offsets = np.zeros(count, RECORD), np.zeros(count, np.int64)
            for frame in range(count):
                record = file.read(RECORD.itemsize)
                if len(record) < RECORD.itemsize:
                    raise _truncated(path, frame, count)
                records[frame] = np.frombuffer(record, RECORD)[0]
                offsets[frame] = file.tell()
                end = int(offsets[frame]) + int(records[frame]["color"]) + int(records[frame]["depth"])
                if end > total:
                    raise _truncated(path, frame, count)
                file.seek(end)
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror or error}", where=path) from error
    matrices = np.array(values[:64]).reshape(4, 4, 4)
    color_type, depth_type, color_width, color_height, depth_width, depth_height, unit = values[64:71]
    if color_type not in (JPEG, PNG) or depth_type not in (RAW, ZLIB):
        problem = f"colour of compression {color_type} and depth of compression {depth_type}"
        raise UserError(problem, where=path, fix="JPEG (2) or PNG (1), and zlib (1) or raw (0) are understood, as ScanNet V2 has them.")
    if max(color_width * color_height, depth_width * depth_height) > MAX_PIXELS or not unit > 0:
        problem = f"pictures of {color_height}x{color_width} and {depth_height}x{depth_width} pixels, a depth unit of 1/{unit} m"
        raise UserError(problem, where=path, fix=FIX)
    return SensFile(
        path=path,
        color_44=matrices[0],
        depth_44=matrices[2],
        extrinsics=(matrices[1], matrices[3]),
        color_size=(color_height, color_width),
        depth_size=(depth_height, depth_width),
        depth_unit=unit,
        zlib=depth_type == ZLIB,
        poses_F44=records["pose"].astype(np.float64),
        offsets_F=offsets,
        sizes_F2=np.stack([records["color"], records["depth"]], 1),
    )


def _truncated(path: Path, frame: int, count: int) -> UserError:
    return UserError(f"the file is truncated: it ends in frame {frame} of {count}", where=path, fix=FIX)
