"""What a whole evaluation of each family costs beside the bare encoder: images a second, processor time, memory.

    python benchmarks/bench_evaluation.py [--task rooms-seg,...] [--model tips-s14] [--images 48] [--dtype fp32] [--workers 2]

efficiency: images a second of a run (all its splits, from image files to the record) divided by those of the bare encoder on the same
size and batches, in the same process, before and after. in processor time: the same with seconds of the processor, which other jobs on
the machine change less; on a GPU it means nothing. inside: share of the run's time inside the encoder. Texts are no images: where there
are any, their tower is inside, too, but not in the efficiency. The encoder's weights are random: its cost is that of real ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass

import torch

from tips_bench.encoders.base import Encoder
from tips_bench.encoders.load import load_encoder
from tips_bench.evaluation.run import BATCH_SIZE, RunOptions, evaluate_spec
from tips_bench.evaluation.spec import resolve
from tips_bench.features.extract import Extractor

SIDE = 224  # of the rooms' images, in pixels
# One task a family, with what makes its images as large as the others'.
TASKS: dict[str, list[str]] = {
    "rooms-seg": [],
    "rooms-zeroshot": [],
    "rooms-depth": [],
    "rooms-normals": [],
    "rooms-scannet": [],
    "rooms-retrieval": [],
    "rooms-knn": ["image.short_side=224", "image.crop=224"],
    "rooms-linear": ["image.short_side=224", "image.crop=224"],
    "rooms-instances": ["image.short_side=224"],
}


@dataclass(frozen=True)
class Row:
    """One task. forwards: images through the encoder. bare, whole: images a second of the encoder alone and of the run.

    wait_s: seconds of waiting for decoded images.
    """

    task: str
    forwards: int
    bare: float
    whole: float
    efficiency: float
    in_processor_time: float
    inside: float
    wait_s: float
    memory_mb: float


@dataclass(frozen=True)
class Seconds:
    """Of one image: on the clock, and of the processor."""

    wall: float
    processor: float


def bare(encoder: Encoder, size: tuple[int, int], images: int) -> Seconds:
    """Of the encoder alone, at this height and width in pixels, in the batches of a run."""
    batch = BATCH_SIZE[encoder.device.type]
    pixels_B3HW = torch.rand(batch, 3, *size)
    encoder.encode_image(pixels_B3HW)
    rounds = -(-images // batch)
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        encoder.encode_image(pixels_B3HW)
    if encoder.device.type == "cuda":
        torch.cuda.synchronize(encoder.device)
    done = rounds * batch
    return Seconds((time.perf_counter() - wall) / done, (time.process_time() - processor) / done)


def measure(task: str, model: str, dtype: str, images: int, workers: int, compiled: bool) -> Row:
    """Figures of one task."""
    encoder = load_encoder(model, "random", dtype=dtype, compiled=compiled)
    few, spec = (resolve(task, model, overrides=TASKS.get(task, []), weights="random", limit=limit) for limit in (8, images))
    size = Extractor(encoder, spec.applied.image, spec.applied.features).inner_size(SIDE, SIDE)
    with tempfile.TemporaryDirectory() as folder:
        evaluate_spec(few, RunOptions(dtype=dtype, compile=compiled, out=folder), encoder)  # the rooms are there, the code is loaded
        before = bare(encoder, size, images)
        start = time.process_time()
        cost = evaluate_spec(spec, RunOptions(dtype=dtype, workers=workers, compile=compiled, out=folder), encoder).cost
        processor = time.process_time() - start
        after = bare(encoder, size, images)
    bare_s = (before.wall + after.wall) / 2
    return Row(
        task=task,
        forwards=cost.image_forwards,
        bare=1 / bare_s,
        whole=cost.images_per_s,
        efficiency=cost.images_per_s * bare_s,
        in_processor_time=cost.image_forwards * (before.processor + after.processor) / 2 / processor,
        inside=cost.encoder_s / cost.wall_s,
        wait_s=cost.data_wait_s or 0.0,
        memory_mb=cost.peak_memory_mb,
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default=",".join(TASKS), help="one or more of the rooms, with commas")
    parser.add_argument("--model", default="tips-s14")
    parser.add_argument("--images", type=int, default=48, help="of each split")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    if not args.json:
        print(f"{args.model}, {args.dtype}, {args.images} images a split, {torch.get_num_threads()} threads, {args.workers} workers")
        print(f"{'task':<17}{'forwards':>9}{'bare':>8}{'whole':>8}{'efficiency':>12}{'processor':>11}{'inside':>8}{'wait s':>8}{'MB':>7}")
    for task in args.task.split(","):
        row = measure(task, args.model, args.dtype, args.images, args.workers, args.compile)
        rows.append(vars(row))
        if not args.json:
            speeds = f"{row.forwards:>9}{row.bare:>8.2f}{row.whole:>8.2f}{row.efficiency:>12.3f}{row.in_processor_time:>11.3f}"
            print(f"{task:<17}{speeds}{row.inside:>8.3f}{row.wait_s:>8.2f}{row.memory_mb:>7.0f}", flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
