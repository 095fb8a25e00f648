"""Lists of (image, depth map, focal length) lines, as BTS and the Monocular-Depth-Estimation-Toolbox keep splits of NYU and KITTI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tips_bench.data.dataset_files import inside, read_lines
from tips_bench.errors import UserError


@dataclass(frozen=True)
class ListedSplit:
    """Where a list stands under the root, and the folders that its image and depth paths are relative to (the first that holds one)."""

    listing: str
    images: tuple[str, ...]
    depths: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One sample: image and depth map relative to the set's folders; no depth map where the list says None."""

    image: str
    depth: str | None


def choose(root: Path, layouts: tuple[ListedSplit, ...], name: str, how: str) -> ListedSplit:
    """The first layout whose list is there. Errors: none; says all that were looked for."""
    for layout in layouts:
        if (root / layout.listing).is_file():
            return layout
    problem = "there is no such folder" if not root.is_dir() else f"the files are not in the layout of {name}"
    wanted = ", or ".join(f"{layout.listing} with {_places(layout.images[0], layout.depths[0])}" for layout in layouts)
    raise UserError(f"{problem}; looked for {wanted}", where=root, fix=how)


def _places(*folders: str) -> str:
    named = [f"{folder}/" for folder in dict.fromkeys(folders) if folder]
    return " and ".join(named) or "all files beside it"


def read_listed(path: Path) -> list[Line]:
    """The lines of a list, in its order. Errors: a line without an image and a depth map, an image named twice."""
    lines, seen = [], set()
    for text in read_lines(path):
        image, *rest = (part.lstrip("/") for part in text.split())
        if not rest:
            raise UserError(f"the line {text!r} names no depth map", where=path, fix="Write IMAGE DEPTH FOCAL, or None for no depth.")
        if image in seen:
            raise UserError(f"the list names {image} twice", where=path, fix="Get the list again.")
        seen.add(image)
        lines.append(Line(inside(image, path), None if rest[0] == "None" else inside(rest[0], path)))
    return lines


def under(root: Path, folders: tuple[str, ...], name: str) -> str:
    """The path of a file in the first folder that holds it; in the first folder where none does."""
    paths = [f"{root}/{folder}/{name}" if folder else f"{root}/{name}" for folder in folders]
    return next((path for path in paths if Path(path).exists()), paths[0])


def found_in(root: Path, listing: str, pairs: Mapping[str, tuple[str, str]], names: Mapping[str, tuple[str, str]]) -> str:
    """Which known layout a set has, for people. pairs: id -> (image file, depth file); names: id -> both, as the list has them."""
    start = len(str(root)) + 1
    images, depths = ({pairs[id][part][start:].removesuffix(names[id][part]) or "./" for id in pairs} for part in (0, 1))
    return f"{listing}, images in {' and '.join(sorted(images))}, depth in {' and '.join(sorted(depths))}"
