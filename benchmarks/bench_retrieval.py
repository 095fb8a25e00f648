"""Ranks of images and captions in tiles, beside the one matrix that most code makes: time, and the greatest memory in use.

    python benchmarks/bench_retrieval.py                      both, at sizes where the matrix fits
    python benchmarks/bench_retrieval.py --images 200000      tiles alone, 200,000 x 200,000 x 512, from files on disk

The one matrix is CLIP_benchmark's way: all similarities in float32, then the ten greatest of each row and of each column. Each candidate
runs in a process of its own, so that its peak is its own; rounds are interleaved and the best of each is reported, in seconds of processor
time, which a busy machine disturbs least. The hit rates must agree: the random vectors have no ties.

Axes: I images, T texts, D feature.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tips_bench.metrics.ranks import count_images, fixed_point
from tips_bench.metrics.retrieval import RANKS, summary

SIZES = [1_000, 5_000, 10_000]
DIM = 512


def write(folder: Path, images: int, each: int, noise: float = 14.0) -> None:
    """images.npy and texts.npy: random unit vectors of fixed point; a text is its image and noise."""
    rng = np.random.default_rng(0)
    tables = {"images": images, "texts": images * each}
    files = {name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.int32, (rows, DIM)) for name, rows in tables.items()}
    for start in range(0, images, 1000):
        image_iD = rng.standard_normal((min(1000, images - start), DIM), np.float32)
        files["images"][start : start + len(image_iD)] = fixed_point(image_iD)
        text_tD = np.repeat(image_iD, each, axis=0) + noise * rng.standard_normal((len(image_iD) * each, DIM), np.float32)
        files["texts"][start * each : (start + len(image_iD)) * each] = fixed_point(text_tD)
    for file in files.values():
        file.flush()


def tiles(images_ID: np.ndarray, texts_TD: np.ndarray, starts: np.ndarray) -> list[float]:
    """R@1, 5, 10 from images to texts and back, in percent."""
    found = summary(count_images(images_ID, texts_TD, starts)[:, None].sum(axis=0))
    return [float(found[f"{way} R@{k}"]) for way in ("image-to-text", "text-to-image") for k in RANKS]


def one_matrix(images_ID: np.ndarray, texts_TD: np.ndarray, starts: np.ndarray) -> list[float]:
    """The same from one float32 matrix."""
    images, texts = (
        torch.nn.functional.normalize(torch.from_numpy(np.asarray(table, np.float32)), dim=1) for table in (images_ID, texts_TD)
    )
    owner_T = torch.from_numpy(np.repeat(np.arange(len(images)), np.diff(starts)))
    similar_IT = images @ texts.T
    of_image, of_text = similar_IT.topk(max(RANKS), dim=1).indices, similar_IT.topk(max(RANKS), dim=0).indices
    found_image, found_text = owner_T[of_image] == torch.arange(len(images))[:, None], (of_text == owner_T).T
    return [100 * float(found[:, :k].any(1).double().mean()) for found in (found_image, found_text) for k in RANKS]


CANDIDATES = {"tiles": tiles, "one matrix": one_matrix}


def measure(name: str, folder: Path, threads: int) -> None:
    """One run in this process; prints its processor seconds, the peak of this process in MB and the rates."""
    torch.set_num_threads(threads)
    images_ID, texts_TD = (np.load(folder / f"{table}.npy", mmap_mode="r") for table in ("images", "texts"))
    starts = np.arange(len(images_ID) + 1) * (len(texts_TD) // len(images_ID))
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    rates = CANDIDATES[name](images_ID, texts_TD, starts)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "idle_mb": idle, "rates": rates}))


def compare(folder: Path, names: list[str], rounds: int, threads: int) -> dict[str, dict]:
    """The best of each candidate. Errors: two that give other rates."""
    best: dict[str, dict] = {}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--measure", name, "--folder", str(folder), "--threads", str(threads)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            if name not in best or found["seconds"] < best[name]["seconds"]:
                best[name] = found
    rates = [found["rates"] for found in best.values()]
    if any(abs(a - b) > 0.02 for one in rates for a, b in zip(one, rates[0], strict=True)):
        raise SystemExit(f"the rates differ: {best}")
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help="this size alone, in tiles")
    parser.add_argument("--each", type=int, default=1, help="captions of an image")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="one JSON object a size")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.folder, options.threads)
        return
    for images in [options.images] if options.images else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), images, options.each)
            names = ["tiles"] if options.images else list(CANDIDATES)
            best = compare(Path(folder), names, 1 if options.images else options.rounds, options.threads)
        if options.json:
            print(json.dumps({"images": images, "texts": images * options.each, "dim": DIM, "threads": options.threads, **best}))
            continue
        parts = [f"{name} {found['seconds']:.2f} s, {found['peak_mb']:.0f} MB" for name, found in best.items()]
        if len(best) > 1:
            ratios = [best["one matrix"][key] / best["tiles"][key] for key in ("seconds", "peak_mb")]
            parts.append(f"one matrix / tiles: time {ratios[0]:.2f}, memory {ratios[1]:.2f}")
        rate = best["tiles"]["rates"]
        print(f"{images} x {images * options.each} x {DIM}: {'; '.join(parts)}; R@1 {rate[0]:.1f} and {rate[3]:.1f} %", flush=True)


if __name__ == "__main__":
    main()
