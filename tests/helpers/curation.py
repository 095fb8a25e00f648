"""Small corpora of drawn images with planted copies, and a task whose test images some of them show."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageOps

from tips_bench.corpus.curation.library import Library
from tips_bench.corpus.curation.looks import look_at
from tips_bench.corpus.store import Sample, write_shard
from tips_bench.npz import save_npz

SIDE = 56
TASK = "drawings"


def drawing(seed: int, height: int = 120, width: int = 160) -> Image.Image:
    """Blurred colored noise: structure at all scales, as a photograph has it."""
    rng = np.random.default_rng(seed)
    planes = []
    for _ in range(3):
        layers = [rng.random((size, size)) * (12 / size) for size in (3, 6, 12, 24, 48)]
        total = sum(np.asarray(Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC)) for layer in layers)
        planes.append((255 * (total - total.min()) / np.ptp(total)).astype(np.uint8))
    return Image.fromarray(np.stack(planes, 2))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    """The bytes of an image file."""
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def signed(
    folder: Path, files: list[list[Image.Image]], embeddings: Sequence[np.ndarray] = (), sources: Sequence[str] | None = None
) -> Library:
    """Signatures of images, in so many files. embeddings: [N,D] of each file; else random ones that say nothing. sources: of each file."""
    rng = np.random.default_rng(0)
    for number, images in enumerate(files):
        looks = [look_at(np.asarray(image)) for image in images]
        embeddings_ND = embeddings[number] if embeddings else rng.standard_normal((len(images), 8))
        save_npz(
            folder / f"{number}.npz",
            places_N=np.arange(len(images)),
            keys_N=np.array([f"{number}-{place:03d}" for place in range(len(images))], "U8"),
            sizes_N2=np.array([image.size[::-1] for image in images]).reshape(-1, 2),
            hashes_N4=np.array([look[0] for look in looks], np.uint64).reshape(-1, 4),
            thumbnails_NSS=np.array([look[1] for look in looks], np.uint8).reshape(-1, 48, 48),
            colors_NCC2=np.array([look[2] for look in looks], np.uint8).reshape(-1, 24, 24, 2),
            embeddings_ND=(embeddings_ND / np.linalg.norm(embeddings_ND, axis=1, keepdims=True)).astype(np.float16),
            dropped="{}",
        )
    named = sources or [f"{number}.tar" for number in range(len(files))]
    return Library.make(folder, {f"{number}.npz": source for number, source in enumerate(named)})


def write_corpus(folder: Path) -> dict[str, str]:
    """Three shards of fourteen images each; key -> what was planted: "N" = a copy of drawing N, "test N" = of test image N, "broken"."""
    images: dict[str, tuple[bytes, str]] = {f"{one:02d}": (encoded(drawing(one)), "") for one in range(30)}
    images["copy-smaller"] = encoded(drawing(3).resize((96, 72)), "JPEG"), "3"
    images["copy-mirrored"] = encoded(ImageOps.mirror(drawing(3))), "3"
    images["copy-larger"] = encoded(drawing(5).resize((320, 240)), "WEBP"), "5"
    images["copy-cropped"] = encoded(drawing(8).crop((8, 6, 150, 112))), "8"
    for number in range(3):
        images[f"shows-{number}"] = encoded(drawing(100 + number).resize((80, 60)), "JPEG"), f"test {number}"
    images["shows-again"] = encoded(drawing(101)), "test 1"
    images["broken"] = b"no image", "broken"
    images |= {f"{one:02d}": (encoded(drawing(one)), "") for one in range(40, 43)}
    names = [name for _, name in sorted((hash_of(name), name) for name in images)]
    for shard in range(3):
        part = [
            Sample(name, images[name][0], _extension(images[name][0]), {"web": f"drawing {name}", "license": "CC0-1.0"})
            for name in names[shard::3]
        ]
        write_shard(folder / f"{shard:03d}.tar", part)
    return {name: planted for name, (_, planted) in images.items() if planted}


def hash_of(name: str) -> int:
    """A number of a name, to mix names by."""
    return sum((place + 7) * ord(letter) ** 2 for place, letter in enumerate(name)) % 997


def _extension(image: bytes) -> str:
    return "jpg" if image[:2] == b"\xff\xd8" else "webp" if image[:4] == b"RIFF" else "png"


def write_task(cards: Path, data: Path, tests: list[Image.Image] | None = None) -> None:
    """A task of images in folders: four test images, drawings 100 to 103, or those given, and six training images, 0 to 5 but smaller."""
    splits = {"train": [drawing(number, 90, 120) for number in range(6)]}
    splits["val"] = tests or [drawing(number, 90, 120) for number in range(100, 104)]
    for split, images in splits.items():
        for number, image in enumerate(images):
            folder = data / TASK / split / ("even", "odd")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{number:03d}.png")
    card: dict[str, Any] = {
        "name": TASK,
        "family": "classification",
        "title": "Drawings",
        "version": 1,
        "data": {"reader": "imagefolder", "root": TASK, "splits": {"train": "train", "test": "val"}},
        "protocol": "knn-20",
        "protocols": ["knn-20"],
        "primary": "accuracy",
        "license": "none",
        "citation": "none",
        "homepage": "",
        "how_to_get": "Drawn.",
    }
    (cards / "tasks").mkdir(parents=True, exist_ok=True)
    (cards / "tasks" / f"{TASK}.yaml").write_text(yaml.safe_dump(card))
