"""Draw a small segmentation set in the layout of the reader `folder`: images and label maps of one name, and classes.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path("data/my-shapes")
COLORS = {"ground": (90, 120, 90), "disc": (200, 70, 60), "square": (60, 80, 200)}
IMAGES = {"train": 24, "val": 12}
SIDE, BORDER = 128, 255  # 255 is ignored


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(image_HW3, labels_HW): a disc and a square, with noise; labels are the places of the names in COLORS."""
    y, x = np.mgrid[:SIDE, :SIDE]
    labels_HW = np.zeros((SIDE, SIDE), np.uint8)
    (disc_y, disc_x), (square_y, square_x) = rng.integers(24, SIDE - 24, (2, 2))
    labels_HW[np.hypot(y - disc_y, x - disc_x) < 22] = 1
    labels_HW[(abs(y - square_y) < 18) & (abs(x - square_x) < 18)] = 2
    noise_HW3 = rng.normal(0, 20, (SIDE, SIDE, 3))
    image_HW3 = np.clip(np.array(list(COLORS.values()))[labels_HW] + noise_HW3, 0, 255).astype(np.uint8)
    labels_HW[:2] = BORDER
    return image_HW3, labels_HW


def main() -> None:
    rng = np.random.default_rng(0)
    for split, number in IMAGES.items():
        for kind in ("images", "labels"):
            (FOLDER / kind / split).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            for kind, values in zip(("images", "labels"), draw(rng), strict=True):
                Image.fromarray(values).save(FOLDER / kind / split / f"{index:04}.png")
    (FOLDER / "classes.json").write_text(json.dumps({"classes": list(COLORS), "palette": list(COLORS.values())}))


if __name__ == "__main__":
    main()
