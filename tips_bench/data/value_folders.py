"""Readers of depth and of surface normals from plain folders, in the layout that rooms are written in.

    images/SPLIT/ID.jpg (or .png)    depth/SPLIT/ID.png    normals/SPLIT/ID.png    cameras/SPLIT/ID.json (may be absent)

Each reader is a function (root, split, **options) -> PairReader.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from tips_bench.cards import Strict, parse
from tips_bench.data.camera_geometry import Intrinsics
from tips_bench.data.dataset_files import IMAGE_SUFFIXES, files_below, group_pattern, lacking
from tips_bench.data.pixel_values import DepthPairs, NormalsPairs, PairReader
from tips_bench.errors import UserError


class DepthOptions(Strict):
    """group: as in PairReader. scale: stored units in a metre."""

    group: str | None = None
    scale: float = Field(1000, gt=0, allow_inf_nan=False)


class NormalsOptions(Strict):
    """group: as in PairReader."""

    group: str | None = None


class CameraFile(Strict):
    """cameras/SPLIT/ID.json. size: of the square image, or (height, width). intrinsics: 3 x 3. pose: 4 x 4, camera to world."""

    size: int | tuple[int, int]
    intrinsics: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
    pose: list[list[float]] | None = None


class FolderDepth(DepthPairs):
    """Depth from a plain folder, with its cameras where it has them."""

    def intrinsics(self, index: int) -> Intrinsics | None:
        return read_camera(Path(self.root) / "cameras" / self.split / f"{self.ids[index]}.json")


class FolderNormals(NormalsPairs):
    """Normals from a plain folder, with its cameras where it has them."""

    def intrinsics(self, index: int) -> Intrinsics | None:
        return read_camera(Path(self.root) / "cameras" / self.split / f"{self.ids[index]}.json")


def depth_folder(root: str | Path, split: str, **options: Any) -> PairReader:
    """Images beside 16-bit depth PNGs; option scale: stored units in a metre, 1000 where millimetres are stored."""
    chosen = parse(DepthOptions, options, where="data.options")
    name, pairs, how = _pairs("depth", root, split)
    return FolderDepth(name, split, Path(root), pairs, scale=chosen.scale, how=how, group=group_pattern(chosen.group))


def normals_folder(root: str | Path, split: str, **options: Any) -> PairReader:
    """Images beside 8-bit colour PNGs of normals, round((n + 1) * 127.5), camera frame x right, y down, z forward."""
    chosen = parse(NormalsOptions, options, where="data.options")
    name, pairs, how = _pairs("normals", root, split)
    return FolderNormals(name, split, Path(root), pairs, how=how, group=group_pattern(chosen.group))


def read_camera(path: Path) -> Intrinsics | None:
    """The camera of a file; None without one. Errors: a file that is none of a camera."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"not a camera: {error}", where=path, fix='Write {"size": ..., "intrinsics": [[...]]}.') from error
    stated = parse(CameraFile, data, where=path)
    height, width = (stated.size, stated.size) if isinstance(stated.size, int) else stated.size
    (fx, _, cx), (_, fy, cy), _ = stated.intrinsics
    return Intrinsics(fx, fy, cx, cy, height, width)


def _pairs(kind: str, root: str | Path, split: str) -> tuple[str, dict[str, tuple[str, str]], str]:
    """(name of the reader, id -> (image file, file of its values), how to lay the folder out). Errors: nothing of the kind there."""
    root, images, values = Path(root), f"images/{split}", f"{kind}/{split}"
    how = f"Lay it out as {images}/ID.jpg (or .png) and {values}/ID.png."
    missing = lacking(root, [images, values])
    found = {} if missing else files_below(root / images, IMAGE_SUFFIXES)
    if not found:
        problem = "there is no such folder" if not root.is_dir() else f"there is no {' and no '.join(missing) or 'image'}"
        raise UserError(f"{problem}; looked for {images}/*.jpg (or .png) and {values}/*.png", where=root, fix=how)
    return f"{kind}-folder", {id: (path, f"{root}/{values}/{id}.png") for id, path in found.items()}, how
