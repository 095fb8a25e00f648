"""JPEG files into pixels: images a second of OpenCV (ours) beside simplejpeg, Pillow and torchvision, in one process and one thread.

    python benchmarks/bench_decode.py [--rounds 5] [--json] [FILE ...]

Without files, the photos that installed packages bring, and one of them as progressive, 4:4:4, gray and CMYK. Rounds are interleaved
and the best one counts. "equal" counts the files whose pixels are those of OpenCV, with which mmcv reads. "ours" is `decode_image`, as
a run calls it, with its checks of the file.
"""

from __future__ import annotations

import argparse
import io
import json
import site
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from tips_bench.data.images import decode_image

VARIANTS: dict[str, dict[str, object]] = {"progressive": {"progressive": True}, "4:4:4": {"subsampling": 0}}


def by_opencv(data: bytes) -> np.ndarray:
    image_HW3 = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image_HW3, cv2.COLOR_BGR2RGB, dst=image_HW3)


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def by_simplejpeg(data: bytes) -> np.ndarray:
    return simplejpeg.decode_jpeg(data, "RGB")


def by_torchvision(data: bytes) -> np.ndarray:
    return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB).permute(1, 2, 0).numpy()


DECODERS: dict[str, Callable[[bytes], np.ndarray]] = {
    "OpenCV": by_opencv,
    "simplejpeg": by_simplejpeg,
    "Pillow": by_pillow,
    "torchvision": by_torchvision,
    "ours": lambda data: decode_image(data, "a photo", turned=False),
}


def photos() -> list[bytes]:
    """The JPEG files of installed packages, and the largest of them in other forms."""
    paths = sorted(path for folder in site.getsitepackages() for path in Path(folder).rglob("*.jpg"))
    found = [data for path in paths if (data := path.read_bytes()).startswith(b"\xff\xd8")]
    if not found:
        raise SystemExit("no installed package brings a photo: name files")
    return found + variants(max(found, key=len))


def variants(photo: bytes) -> list[bytes]:
    """The photo as progressive, with all colors, gray, and CMYK."""
    image, made = Image.open(io.BytesIO(photo)).convert("RGB"), []
    for options in VARIANTS.values():
        image.save(file := io.BytesIO(), "JPEG", **options)
        made.append(file.getvalue())
    for mode in ("L", "CMYK"):
        image.convert(mode).save(file := io.BytesIO(), "JPEG")
        made.append(file.getvalue())
    return made


def measure(files: list[bytes], rounds: int) -> dict[str, dict[str, float]]:
    """For each decoder: images a second of the best round, how many times OpenCV's, and of how many files the pixels are equal."""
    best = dict.fromkeys(DECODERS, float("inf"))
    for _ in range(rounds):
        for name, decode in DECODERS.items():
            start = time.perf_counter()
            for data in files:
                decode(data)
            best[name] = min(best[name], time.perf_counter() - start)
    return {
        name: {
            "images_per_s": len(files) / best[name],
            "over_opencv": best["OpenCV"] / best[name],
            "equal": sum(np.array_equal(decode(data), by_opencv(data)) for data in files),
        }
        for name, decode in DECODERS.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    files = [path.read_bytes() for path in args.files] or photos()
    found = measure(files, args.rounds)
    if args.json:
        print(json.dumps({"files": len(files), "decoders": found}, indent=2))
        return
    print(f"{len(files)} files, one thread")
    print(f"{'decoder':<14}{'images/s':>9}{'/ OpenCV':>10}{'equal':>7}")
    for name, row in found.items():
        print(f"{name:<14}{row['images_per_s']:>9.1f}{row['over_opencv']:>10.2f}{row['equal']:>7.0f}")


if __name__ == "__main__":
    main()
