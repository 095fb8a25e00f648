"""Labels that follow a video: ours against DINO's eval_video_segmentation.py, on the same features, in one run.

    python benchmarks/bench_propagation.py
    python benchmarks/bench_propagation.py --dino ../dino/eval_video_segmentation.py

Features of DAVIS's size at 480 px and patches of 16 px (30 x 52 patches, a ViT-S), DINO's own settings. Without --dino, a checkout of
facebookresearch/dino, only ours is measured. Each is run in a process of its own with the same number of threads, so that its peak of
memory is its own. Seconds are the processor's, of all threads, which other work on the machine does not change; DINO's table of which
patches are near each other, made once a video, is timed apart. Labels must agree to 1e-5. The best of interleaved rounds counts. Clips of
50 and of 1,000 frames show whether memory grows with the length.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
import types
from collections import deque
from pathlib import Path

import numpy as np
import torch

GRID, DIMENSIONS, LABELS = (30, 52), 384, 4
CONTEXT, RADIUS, TOP_K, TEMPERATURE = 7, 12, 5, 0.1
FRAMES, SHORT, LONG = 14, 50, 1000


def features(frame: int) -> torch.Tensor:
    """features_hwD of a frame: the one before, less a little."""
    draw = torch.Generator().manual_seed(frame)
    return torch.randn(*GRID, DIMENSIONS, generator=torch.Generator().manual_seed(0)) + 0.5 * torch.randn(*GRID, DIMENSIONS, generator=draw)


def first_labels() -> torch.Tensor:
    """labels_hwC of the first frame."""
    ids_hw = torch.arange(GRID[0])[:, None] // 8 + torch.arange(GRID[1]) // 20
    return torch.nn.functional.one_hot(ids_hw % LABELS, LABELS).float()


def ours(frames: int) -> tuple[np.ndarray, float, float]:
    """(labels of the last frame, seconds a frame, seconds of preparation)."""
    from tips_bench.features.propagation import Propagation, PropagationOptions

    chosen = {"context": CONTEXT, "radius": RADIUS, "window": "square", "top_k": TOP_K, "temperature": TEMPERATURE, "upsample": "input"}
    carried = Propagation(PropagationOptions(type="propagation", **chosen))
    carried.give(features(0), first_labels())
    spent, labels_hwC = 0.0, first_labels()
    for frame in range(1, frames):
        features_hwD = features(frame)
        start = time.process_time()
        labels_hwC = carried.follow(features_hwD)
        carried.keep(features_hwD, labels_hwC)
        spent += time.process_time() - start
    return labels_hwC.numpy(), spent / (frames - 1), 0.0


def dino(frames: int, path: str) -> tuple[np.ndarray, float, float]:
    """The same by the source's own functions."""
    theirs = types.ModuleType("dino_video")
    sys.modules |= {name: types.ModuleType(name) for name in ("utils", "vision_transformer")}  # which these functions do not use
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    exec(compile(Path(path).read_text(encoding="utf-8"), path, "exec"), theirs.__dict__)
    options = types.SimpleNamespace(size_mask_neighborhood=RADIUS, topk=TOP_K)
    theirs.args = options  # type: ignore[attr-defined]
    theirs.extract_feature = lambda model, frame, return_h_w: (frame.flatten(0, 1), *GRID)  # type: ignore[attr-defined]
    start = time.process_time()
    mask = theirs.restrict_neighborhood(*GRID).unsqueeze(0)
    preparation, spent = time.process_time() - start, 0.0
    labels_1Chw = first_labels().permute(2, 0, 1)[None]
    given, last = (features(0).flatten(0, 1).T, labels_1Chw), deque(maxlen=CONTEXT)
    for frame in range(1, frames):
        features_hwD, context = features(frame), [given, *last]
        start = time.process_time()
        parts = [list(part) for part in zip(*context, strict=True)]
        labels_1Chw, features_DQ, _ = theirs.label_propagation(options, None, features_hwD, *parts, mask.repeat(len(context), 1, 1))
        last.append((features_DQ, labels_1Chw))
        spent += time.process_time() - start
    return labels_1Chw[0].permute(1, 2, 0).numpy(), spent / (frames - 1), preparation


def measure(name: str, frames: int, threads: int, path: str) -> tuple[np.ndarray, float, float, float]:
    """One of them in this process: labels, seconds a frame, seconds of preparation, MB above what was there before."""
    torch.set_num_threads(threads)
    run = {"ours": lambda count: ours(count), "dino": lambda count: dino(count, path)}[name]
    if name == "ours":
        run(2)  # imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.inference_mode():
        found = run(frames)
    return *found, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Measure and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dino", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--long", type=int, default=LONG)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    context, best, labels = multiprocessing.get_context("spawn"), {}, {}
    for _ in range(options.rounds):
        for name in ("ours", "dino") if options.dino else ("ours",):
            with context.Pool(1) as pool:
                labels[name], *found = pool.apply(measure, (name, FRAMES, options.threads, options.dino))
            best[name] = [min(pair) for pair in zip(best.get(name, found), found, strict=True)]
    if options.dino:
        apart = float(np.abs(labels["ours"] - labels["dino"]).max())
        if apart > 1e-5:
            raise SystemExit(f"labels differ by {apart}")
    for frames in (SHORT, options.long):
        with context.Pool(1) as pool:
            _, *best[f"ours, {frames} frames"] = pool.apply(measure, ("ours", frames, options.threads, ""))
    if options.json:
        print(json.dumps({name: dict(zip(("s_per_frame", "preparation_s", "mb"), found, strict=True)) for name, found in best.items()}))
        return
    for name, (seconds, preparation, memory) in best.items():
        print(f"{name:20} {seconds:8.3f} s a frame  {preparation:6.1f} s a video before  {memory:7.0f} MB")
    if options.dino:
        print(f"DINO / ours: {best['dino'][0] / best['ours'][0]:.1f} times the seconds, {best['dino'][2] / best['ours'][2]:.1f} the memory")


if __name__ == "__main__":
    main()
