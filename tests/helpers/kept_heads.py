"""Small runs on generated rooms that keep their fitted heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tips_bench.evaluation.run import evaluate
from tips_bench.results.record import Record

ROOMS = ["train=8", "val=4", "size=112", "frames_per_scene=2"]
SMALL = [*(f"task.data.generator_options.{option}" for option in ROOMS), "image.short_side=112"]


def fitted(task: str, model: str, data: Path, out: Path) -> Record:
    """The record of a run on few small rooms, with its head and its predictions."""
    options = {"overrides": SMALL, "data_root": data, "out": out, "device": "cpu", "workers": 0}
    return evaluate(task, model, keep_head=True, predictions=True, **options)


def images(data: Path) -> dict[str, np.ndarray]:
    """The scored images of these runs by their ids."""
    return {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in sorted((data / "rooms/seg-v1/images/val").iterdir())}
