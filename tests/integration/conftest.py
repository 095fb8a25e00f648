"""A small segmentation set that any encoder can learn: coloured shapes on a coloured ground, in images of several sizes."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

CLASSES = ["ground", "disc", "bar", "ring"]
COLORS = np.array([[60, 110, 60], [200, 60, 50], [50, 70, 200], [220, 210, 80]])


def draw(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(image_HW3, labels_HW)."""
    y, x = np.mgrid[:height, :width]
    labels = np.zeros((height, width), dtype=np.uint8)
    for shape in rng.permutation([1, 2, 3]):
        cy, cx, size = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(12, 26)
        distance = np.hypot(y - cy, x - cx)
        inside = {1: distance < size, 2: (abs(y - cy) < 7) & (abs(x - cx) < size), 3: (distance < size) & (distance > size / 2)}[int(shape)]
        labels[inside] = shape
    noise = rng.normal(0, 25, (height, width, 3))
    image = np.clip(COLORS[labels] + noise, 0, 255).astype(np.uint8)
    labels[:3] = 255
    return image, labels


def write_shapes(root: Path, train: int = 14, val: int = 8, seed: int = 0) -> None:
    """images/, labels/ and classes.json of the folder reader."""
    rng = np.random.default_rng(seed)
    for split, number in (("train", train), ("val", val)):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for index in range(number):
            image, labels = draw(rng, *[(84, 98), (98, 84), (70, 90)][index % 3])
            Image.fromarray(image).save(root / "images" / split / f"{index:03d}.png")
            Image.fromarray(labels).save(root / "labels" / split / f"{index:03d}.png")
    palette = COLORS.tolist()
    (root / "classes.json").write_text(json.dumps({"classes": CLASSES, "palette": palette}))


SHAPES = {
    "name": "shapes",
    "family": "segmentation",
    "title": "Shapes",
    "version": 1,
    "data": {"reader": "folder", "root": "shapes", "splits": {"train": "train", "test": "val"}},
    "protocol": "convex",
    "protocols": ["convex", "convex-224", "linear-dinov2", "linear-dinov2-ms", "linear-dinov3", "linear-tips"],
    "primary": "mIoU",
    "license": "none",
    "citation": "none",
    "homepage": "none",
    "how_to_get": "It is drawn by the tests.",
}


@pytest.fixture
def shapes(tmp_path, monkeypatch) -> Path:
    """A folder with the set in data/shapes and a task card `shapes` beside it; the working directory."""
    write_shapes(tmp_path / "data" / "shapes")
    (tmp_path / "tips-bench-cards" / "tasks").mkdir(parents=True)
    (tmp_path / "tips-bench-cards" / "tasks" / "shapes.yaml").write_text(yaml.safe_dump(SHAPES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIPS_BENCH_DATA", str(tmp_path / "data"))
    return tmp_path
