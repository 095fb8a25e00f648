"""What a whole evaluation costs beside the bare encoder: images a second, backbone images, memory.

    python benchmarks/bench_evaluation.py [--task rooms-seg,rooms-depth,rooms-normals] [--model tips-b14] [--images 48] [--dtype fp32]

efficiency: images a second of a convex run at 448 px (both splits, from image files to the record) divided by those of the bare encoder
on the same sizes and batches, in the same process, before and after. The encoder's weights are random: its cost is that of the real ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from tips_bench.cards import load_card
from tips_bench.encoders.load import load_encoder
from tips_bench.evaluation.run import BATCH_SIZE, evaluate

# Training and validation images of ADE20K, and the passes over validation that DINOv3's configuration makes.
ADE20K = {"train": 20210, "val": 2000}
PROTOCOLS = {"rooms-seg": "convex", "rooms-depth": "convex-depth", "rooms-normals": "convex-normals"}


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


def efficiency(task: str, model: str, dtype: str, images: int) -> dict[str, float]:
    """Figures of one task."""
    protocol = PROTOCOLS[task]
    size = load_card("protocol", protocol).image.short_side
    with tempfile.TemporaryDirectory() as folder:
        options = {"protocol": protocol, "out": Path(folder)}
        evaluate(task, "pixels", limit=8, **options)  # the rooms are there, and the code is loaded
        before = bare_images_per_s(model, size, dtype, images)
        record = evaluate(task, model, weights="random", dtype=dtype, limit=images, **options)
        bare = (before + bare_images_per_s(model, size, dtype, images)) / 2
    return {
        f"{task}: bare encoder, images/s": round(bare, 3),
        f"{task}: whole run, images/s": round(record.cost.images_per_s, 3),
        f"{task}: efficiency": round(record.cost.images_per_s / bare, 3),
        f"{task}: share of the run inside the encoder": round(record.cost.encoder_s / record.cost.wall_s, 3),
        f"{task}: peak memory, MB": round(record.cost.peak_memory_mb),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default=",".join(PROTOCOLS), help="one or more of the rooms, with commas")
    parser.add_argument("--model", default="tips-b14")
    parser.add_argument("--images", type=int, default=48, help="of each split")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for task in arguments.task.split(","):
        figures |= efficiency(task, arguments.model, arguments.dtype, arguments.images)
    ours, published = sum(ADE20K.values()), sum(published_images("linear-dinov2").values())
    figures |= {
        "ADE20K, backbone images, convex": ours,
        "ADE20K, backbone images, linear-dinov2": published,
        "ratio": round(published / ours, 1),
    }
    print(json.dumps(figures, indent=1) if arguments.json else "\n".join(f"{name:52} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
