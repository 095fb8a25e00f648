"""Samples a second of one reader, beside webdataset's own loader and litdata's, in one run on the same samples.

    python benchmarks/bench_reading.py [--samples 4000] [--rounds 5]

Each loader gives every sample once, shuffled over a pool of 1000 samples, with an image and its captions as bytes; then again with the
image decoded, by the same decoder for all three. Ours reads at random places of the shards, webdataset's reads them from end to end, and
litdata's has its own files, which are written before. Rounds take turns; figures are processor seconds of the best round, threads
included, and ratios of them: above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tips_bench.corpus.store import Sample, write_shard
from tips_bench.training.crops import read_image
from tips_bench.training.shards import Cursor, ShardOrder

POOL, A_SHARD = 1000, 500
Reader = Callable[[], Iterator[dict[str, bytes]]]


def pictures(count: int) -> list[bytes]:
    """JPEG files of 256 x 256 pixels, some 20 kB each, cut from one large picture of smooth noise."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).resize((1024, 1024), Image.Resampling.BICUBIC)
    large = np.clip(np.asarray(noise) + rng.normal(0, 6, (1024, 1024, 3)), 0, 255).astype(np.uint8)
    made = []
    for y, x in rng.integers(0, 1024 - 256, (count, 2)):
        buffer = io.BytesIO()
        Image.fromarray(large[y : y + 256, x : x + 256]).save(buffer, "JPEG", quality=85)
        made.append(buffer.getvalue())
    return made


def write(folder: Path, count: int) -> tuple[list[Path], Path]:
    """The samples as shards and as litdata's files."""
    import litdata

    samples = [Sample(f"{n:06d}", image, "jpg", {"web": f"a picture, {n}"}) for n, image in enumerate(pictures(count))]
    shards = []
    for first in range(0, count, A_SHARD):
        shards.append(folder / f"{first // A_SHARD:05d}.tar")
        write_shard(shards[-1], samples[first : first + A_SHARD])
    files = folder / "litdata"
    writer = litdata.streaming.writer.BinaryWriter(str(files), chunk_size=A_SHARD)
    for number, sample in enumerate(samples):
        writer.add_item(number, {"jpg": sample.image, "json": json.dumps(sample.said).encode()})
    writer.done()
    writer.merge(1)
    return shards, files


def readers(shards: list[Path], files: Path, count: int) -> dict[str, Reader]:
    """Each gives all samples once."""
    import litdata
    import webdataset as wds

    order = ShardOrder(shards, seed=0, shuffle=POOL)

    def ours() -> Iterator[dict[str, bytes]]:
        return (draw.read("jpg", "json") for draw in itertools.islice(order.draws(Cursor()), count))

    def webdataset() -> Iterator[dict[str, bytes]]:
        return iter(wds.WebDataset([str(path) for path in shards], shardshuffle=len(shards), seed=0).shuffle(POOL, initial=POOL))

    def of_litdata() -> Iterator[dict[str, bytes]]:
        return iter(litdata.StreamingDataset(str(files), shuffle=True, seed=0))

    next(ours())  # the index, which is made once
    return {"ours": ours, "webdataset": webdataset, "litdata": of_litdata}


def seconds(reader: Reader, decode: bool, count: int) -> float:
    """Processor time of one pass."""
    start, read = time.process_time(), 0
    for sample in reader():
        if decode:
            read_image({"jpg": sample["jpg"]})
        json.loads(sample["json"])
        read += 1
    if read != count:
        raise SystemExit(f"{read} samples in place of {count}")
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TIPS_BENCH_CACHE"] = folder  # the indexes of shards that go again
        shards, files = write(Path(folder), arguments.samples)
        known = readers(shards, files, arguments.samples)
        figures: dict[str, Any] = {
            "samples": arguments.samples,
            "bytes of an image": sum(map(os.path.getsize, shards)) // arguments.samples,
        }
        for decode in (False, True):
            best = dict.fromkeys(known, float("inf"))
            for _, (name, reader) in itertools.product(range(arguments.rounds), known.items()):
                best[name] = min(best[name], seconds(reader, decode, arguments.samples))
            what = "decoded" if decode else "as bytes"
            for name, spent in best.items():
                figures[f"{name}, {what}, samples a processor second"] = round(arguments.samples / spent)
            for name in ("webdataset", "litdata"):
                figures[f"ours / {name}, {what}"] = round(best[name] / best["ours"], 2)
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
