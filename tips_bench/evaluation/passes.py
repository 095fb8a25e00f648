"""Notes of what --cache has kept, so that a plan can take it off without opening data or weights.

    CACHE/passes/KEY-DEVICE.json    of a part of a split, as one encoder reads it: how many images, and the files that held the features

A note is written when an evaluation has ended. What of those files was deleted since then is found by their names. As all of a plan, the
number is an estimate: of a part of the files, the same part of the images is taken to be there.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from tips_bench.catalog import cache_root
from tips_bench.evaluation.counting import VECTORS, Role, parts, solved_on
from tips_bench.evaluation.sharing import images_key
from tips_bench.evaluation.spec import Spec
from tips_bench.files import digest, write_text


def note_passes(spec: Spec, precision: str, device: str, folder: Path) -> None:
    """Once an evaluation with --cache has ended. precision: as `precision_of`. device: "cpu" or "cuda". folder: of its features.

    Errors: the cache takes no file.
    """
    if spec.model.source == "callable" or spec.applied.features.attention != "itself":
        return  # code that may have changed, or features that are read in a way of their own each time
    files = sorted(path.stem for path in folder.glob("part-*.index"))
    for role, images in solved_on(spec).items():
        for part, number in parts(spec, role, images).items():
            if files and number > images_kept(spec, role, part, precision, device):
                path = _notes() / f"{_key(spec, role, part, precision)}-{device}.json"
                write_text(path, json.dumps({"images": number, "encoder": folder.name, "files": files}))


def images_kept(spec: Spec, role: Role, part: str, precision: str, device: str | None) -> int:
    """Images of a part of a split whose features are in the cache. device: None = of any."""
    key, most = _key(spec, role, part, precision), 0
    for path in _notes().glob(f"{key}-{device or '*'}.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # another version's note, or one that is gone
            note = json.loads(path.read_text(encoding="utf-8"))
            folder = cache_root() / "features" / note["encoder"]
            there = sum((folder / f"{name}.index").is_file() for name in note["files"])
            most = max(most, note["images"] * there // len(note["files"]))
    return most


def _notes() -> Path:
    return cache_root() / "passes"


def _key(spec: Spec, role: Role, part: str, precision: str) -> str:
    """Of the pixels, of what is read of the encoder, and of its weights, as far as cards and files tell."""
    kind = spec.task.family if spec.task.family in VECTORS else "patches"
    weights = ""
    if spec.weights and Path(spec.weights).exists():
        found = os.stat(spec.weights)
        weights = f"{found.st_size} {found.st_mtime_ns}"
    read = spec.applied.features.model_dump_json(), kind, precision, spec.cache_dtype, weights
    return digest(*images_key(spec), *read, role, part)[:32]
