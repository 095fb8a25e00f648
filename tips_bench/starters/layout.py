"""Which plain layout a folder of data has, and its splits, found from the names in it (docs/new-task.md shows them)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError

TRAIN = ("train", "training", "trainval")
TEST = ("val", "validation", "valid", "test")  # of several the first: labels of a split named test are often kept back
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
HOW = (
    "Lay it out as images/SPLIT/ID.jpg with labels/, depth/ or normals/ beside images/; as SPLIT/CLASS/ID.jpg; or as images/ with "
    "SPLIT.csv of captions."
)


@dataclass(frozen=True)
class Layout:
    """family, reader, protocol, protocols, primary: what a card says for such data. splits: role -> name. more: other keys of the card."""

    family: str
    reader: str
    protocols: tuple[str, ...]
    primary: str
    splits: dict[str, str]
    more: dict[str, Any]


def find_layout(folder: Path) -> Layout:
    """The layout of a folder. Errors: no such folder, none of the layouts, a split that is scored is missing."""
    if not folder.is_dir():
        raise UserError("there is no such folder", where=folder, fix="Give the folder that holds the data.")
    for beside, own in BESIDE.items():
        if (folder / "images").is_dir() and (folder / beside).is_dir():
            return Layout(*own, splits=_splits(_folders(folder / "images"), folder), more=MORE.get(beside, {}))
    captions = [path.stem for path in sorted(folder.iterdir()) if path.suffix in (".csv", ".jsonl")]
    if (folder / "images").is_dir() and captions:
        own = "retrieval", "captions-folder", ("retrieval-own", "retrieval-clip"), "text-to-image R@1"
        return Layout(*own, splits={"test": _splits(captions, folder)["test"]}, more={})
    splits = [name for name in _folders(folder) if name in (*TRAIN, *TEST)]
    if splits and all(_has_classes(folder / name) for name in splits):
        own = "classification", "imagefolder", ("knn-20", "convex-classifier"), "top1"
        return Layout(*own, splits=_splits(splits, folder), more={})
    raise UserError("none of the layouts that need only a card", where=folder, fix=HOW)


BESIDE: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "labels": ("segmentation", "folder", ("convex", "linear-dinov2"), "mIoU"),
    "depth": ("depth", "depth-folder", ("convex-depth", "linear-dinov2-nyu"), "RMSE"),
    "normals": ("normals", "normals-folder", ("convex-normals",), "RMSE"),
}
MORE: dict[str, dict[str, Any]] = {"depth": {"options": {"min_depth": 0.001, "max_depth": 10}}}


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _has_classes(folder: Path) -> bool:
    inner = _folders(folder)
    return bool(inner) and any(path.suffix.lower() in IMAGES for path in (folder / inner[0]).rglob("*"))


def _splits(names: Iterable[str], folder: Path) -> dict[str, str]:
    """Role -> name of a split. Errors: none that is scored."""
    found = set(names)
    test = [name for name in TEST if name in found]
    if not test:
        problem = f"no split to score among {', '.join(sorted(found)) or 'no folders'}"
        raise UserError(problem, where=folder, fix=f"Name one of them {', '.join(TEST)}.")
    train = [name for name in TRAIN if name in found]
    return ({"train": train[0]} if train else {}) | {"test": test[0]}
