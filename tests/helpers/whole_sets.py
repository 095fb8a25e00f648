"""Small sets of labelled images on disk, features of whole images without an encoder, and readers that need no disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.segmentation_sets import picture
from tips_bench.data.base import LabeledImage


def write_classes(root: Path, images: dict[str, int], seed: int = 0, side: int = 48, suffix: str = ".png") -> None:
    """`root/CLASS/CLASS_N.png`, N images a class; each class has a colour of its own under noise."""
    rng = np.random.default_rng(seed)
    for number, (name, count) in enumerate(images.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        color_3 = np.array([(37 + 89 * number) % 256, (201 * number) % 256, (90 + 53 * number) % 256])
        for image in range(count):
            noise_HW3 = rng.integers(-60, 60, (side, side + 8, 3))
            pixels_HW3 = np.clip(0.5 * picture(seed + image, side, side + 8) + 0.5 * color_3 + noise_HW3, 0, 255)
            Image.fromarray(pixels_HW3.astype(np.uint8)).save(root / name / f"{name}_{image}{suffix}")


def write_uned(root: Path, lists: dict[tuple[str, str], list[tuple[str, int | list[int]]]], side: int = 48) -> None:
    """UnED's layout: (domain, list) -> (path, class_id); an image's colour tells its first class, nearly."""
    rng = np.random.default_rng(0)
    for (domain, name), entries in lists.items():
        path = root / "info_files" / domain / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([{"path": image, "class_id": label} for image, label in entries]))
        for image, label in entries:
            file = root / "images" / image
            file.parent.mkdir(parents=True, exist_ok=True)
            first = label if isinstance(label, int) else label[0]
            color_3 = np.array([(97 * first + len(domain)) % 256, (41 * first) % 256, (151 * first + 5) % 256])
            pixels_HW3 = np.clip(color_3 + rng.integers(-25, 25, (side, side, 3)), 0, 255)
            if not file.exists():
                Image.fromarray(pixels_HW3.astype(np.uint8)).save(file)


@dataclass
class Drawn:
    """A reader of images that are drawn on demand."""

    labels_N: np.ndarray
    classes: list[str]
    side: int = 32
    name: str = "drawn"
    split: str = "train"
    root: str = "nowhere"
    fingerprint: str = "drawn"
    ids: list[str] = field(init=False)
    groups: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = [f"{index:04}" for index in range(len(self.labels_N))]
        self.groups = self.ids

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        return self.side, self.side

    def load(self, index: int) -> LabeledImage:
        image_HW3 = picture(int(self.labels_N[index]) * 1000 + index % 3, self.side, self.side)
        return LabeledImage(self.ids[index], self.groups[index], image_HW3, int(self.labels_N[index]))
