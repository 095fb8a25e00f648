"""What is attacked: small real forms of all that the suite reads, made once a process and copied for each case."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.integration.conftest import write_shapes

SMALL = ["--set", "image.short_side=84", "--set", "probe.max_patches=600"]
SHAPES: dict[str, Any] = {
    "name": "shapes",
    "family": "segmentation",
    "title": "Shapes",
    "version": 1,
    "data": {"reader": "folder", "root": "shapes", "splits": {"train": "train", "test": "val"}},
    "protocol": "convex",
    "protocols": ["convex", "convex-224"],
    "primary": "mIoU",
    "license": "none",
    "citation": "none",
    "homepage": "none",
    "how_to_get": "It is drawn by the tests.",
}
HOME = Path(tempfile.mkdtemp(prefix="attack-seeds-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)


def run_shapes(folder: Path, *arguments: str, model: str = "pixels") -> list[str]:
    """The arguments of a run on the shapes, whose data and card are put into the folder."""
    shutil.copytree(shapes_folder(), folder / "data" / "shapes")
    write_card(folder, "task", SHAPES)
    return ["run", "--task", "shapes", "--model", model, "--out", "out", "--workers", "0", *SMALL, *arguments]


@functools.cache
def shapes_folder() -> Path:
    """Four images to fit on and three to score, as a folder of images and labels."""
    write_shapes(HOME / "shapes", train=4, val=3)
    return HOME / "shapes"


def write_card(folder: Path, kind: str, card: Any, name: str | None = None) -> Path:
    """One of the user's own cards: a mapping, or the text of a file."""
    place = {"task": "tasks", "protocol": "tasks/protocols", "model": "model_zoo"}[kind]
    path = folder / "tips-bench-cards" / place / f"{name or card['name']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(card, bytes):
        path.write_bytes(card)
    else:
        text = card if isinstance(card, str) else yaml.safe_dump(card, sort_keys=False)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return path
