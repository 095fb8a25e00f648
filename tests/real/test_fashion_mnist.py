"""Real input: Fashion-MNIST as Debian packages it, laid out as folders of classes, kNN on raw pixels against scikit-learn.

    apt-get install dataset-fashion-mnist

Without the package the test is skipped, and says so: it is 30 MB that no Python package brings. FASHION_MNIST names another folder.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from tips_bench.cards import load_card
from tips_bench.data.checks.task import check_task
from tips_bench.evaluation.run import evaluate

FOLDER = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
NAMES = ["top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
USED = {"train": ("train", 800), "val": ("t10k", 250)}
K, T = 10, 0.07

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"{FOLDER} is not there: the Debian package dataset-fashion-mnist is not installed"
)


def images(split: str) -> tuple[np.ndarray, np.ndarray]:
    """(images_N28x28, labels_N) of a split's first images; the IDX format has 16 and 8 bytes of header."""
    name, count = USED[split]
    with gzip.open(FOLDER / f"{name}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + 784 * count)[16:], np.uint8).reshape(-1, 28, 28)
    with gzip.open(FOLDER / f"{name}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + count)[8:], np.uint8)
    return pixels, labels


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for split in USED:
        for number, (pixels_HW, label) in enumerate(zip(*images(split), strict=True)):
            path = tmp_path / "data" / "fashion" / split / NAMES[label] / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels_HW).save(path)
    card = {
        "name": "fashion",
        "family": "classification",
        "title": "A part of Fashion-MNIST",
        "version": 1,
        "data": {
            "reader": "imagefolder",
            "root": "fashion",
            "splits": {"train": "train", "test": "val"},
            "expected": {split: count for split, (_, count) in USED.items()},
        },
        "protocol": "knn-20",
        "protocols": ["knn-20"],
        "primary": "top1",
        "license": "MIT",
        "citation": "H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST. 2017.",
        "homepage": "https://github.com/zalandoresearch/fashion-mnist",
        "how_to_get": "apt-get install dataset-fashion-mnist",
    }
    whole = load_card("model", "pixels").model_dump(mode="json") | {"name": "pixels-28", "patch_size": 28, "embed_dim": 3 * 28 * 28}
    for folder, name, data in (("tasks", "fashion", card), ("model_zoo", "pixels-28", whole)):
        path = tmp_path / "tips-bench-cards" / folder / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(data))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIPS_BENCH_DATA", "data")
    return tmp_path


def test_knn_on_raw_pixels_is_that_of_scikit_learn(task: Path) -> None:
    assert all(report.ok for report in check_task(load_card("task", "fashion"), Path("data")))
    overrides = ["image.short_side=28", "image.crop=28", "features.global_token=null", f"probe.k=[{K}]"]
    record = evaluate("fashion", "pixels-28", out=task / "out", overrides=overrides, batch_size=64)
    order = np.argsort(NAMES)  # classes are numbered in the order of their folders' names
    (train_N, labels_N), (test_N, truth_N) = images("train"), images("val")
    theirs = KNeighborsClassifier(K, weights=lambda distance: np.exp((1 - distance) / T), algorithm="brute", metric="cosine")
    theirs.fit(train_N.reshape(len(train_N), -1).astype(float), np.argsort(order)[labels_N])
    accuracy = 100 * theirs.score(test_N.reshape(len(test_N), -1).astype(float), np.argsort(order)[truth_N])
    assert record.metrics["top1"].value == pytest.approx(accuracy) and accuracy > 70
    assert record.dataset.classes == sorted(NAMES) and record.cost.image_forwards == 1050
