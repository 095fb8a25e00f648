"""What a whole evaluation costs beside the bare encoder: images a second, backbone images, memory.

    python benchmarks/bench_evaluation.py [--model tips-b14] [--images 48] [--dtype fp32]

efficiency: images a second of a `convex` run (both splits, from JPEG files to the record) divided by those of the bare encoder on
the same sizes and batches, in the same process. The encoder's weights are random: its cost is that of the real ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from tips_bench.adapters.run import BATCH_SIZE, evaluate
from tips_bench.cards import load_card
from tips_bench.encoders.load import load_encoder

# Training and validation images of ADE20K, and the passes over validation that DINOv3's configuration makes.
ADE20K = {"train": 20210, "val": 2000}


def bare_images_per_s(model: str, size: int, dtype: str, images: int) -> float:
    """Of the encoder alone, at size x size pixels, in the batches of a run."""
    encoder = load_encoder(model, "random", dtype=dtype)
    batch = BATCH_SIZE[encoder.device.type]
    pixels_B3HW = torch.rand(batch, 3, size, size)
    encoder.encode_image(pixels_B3HW)
    start = time.perf_counter()
    for _ in range(-(-images // batch)):
        encoder.encode_image(pixels_B3HW)
    return -(-images // batch) * batch / (time.perf_counter() - start)


def published_images(protocol: str) -> dict[str, int]:
    """Crops and windows through the backbone for ADE20K. Its images have a mean aspect of about 4:3, which is two windows."""
    probe = load_card("protocol", protocol).probe
    return {"train": probe["iterations"] * probe["batch_size"], "val": 2 * ADE20K["val"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tips-b14")
    parser.add_argument("--images", type=int, default=48, help="of each split")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    size = load_card("protocol", "convex").image.short_side
    with tempfile.TemporaryDirectory() as folder:
        options = {"weights": "random", "dtype": arguments.dtype, "out": Path(folder), "protocol": "convex"}
        evaluate("rooms-seg", "pixels", out=Path(folder), protocol="convex", limit=4)  # the rooms are there, and the code is loaded
        before = bare_images_per_s(arguments.model, size, arguments.dtype, arguments.images)
        record = evaluate("rooms-seg", arguments.model, limit=arguments.images, **options)
        after = bare_images_per_s(arguments.model, size, arguments.dtype, arguments.images)
    bare, ours, published = (before + after) / 2, sum(ADE20K.values()), published_images("linear-dinov2")
    figures = {
        "bare encoder, images/s": round(bare, 3),
        "whole run, images/s": round(record.cost.images_per_s, 3),
        "efficiency": round(record.cost.images_per_s / bare, 3),
        "share of the run inside the encoder": round(record.cost.encoder_s / record.cost.wall_s, 3),
        "peak memory, MB": round(record.cost.peak_memory_mb),
        "ADE20K, backbone images, convex": ours,
        "ADE20K, backbone images, linear-dinov2": sum(published.values()),
        "ratio": round(sum(published.values()) / ours, 1),
    }
    print(json.dumps(figures, indent=1) if arguments.json else "\n".join(f"{name:42} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
