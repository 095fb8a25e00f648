"""One picture with many copies: how many of them a curation leaves, where it should leave one.

    python -m benchmarks.crowds [--copies 8 30 100 1000]

The picture is a frame of generated rooms, among 240 frames of others. Copies are resized and compressed, or cut in addition, by amounts of
their own. "without the largest" looks for copies with duplicates.largest=0.
"""

from __future__ import annotations

import argparse
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.curation import compress, crop, pairs_of, resize
from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.duplicates import stands_for
from tips_bench.corpus.curation.library import Library
from tips_bench.corpus.curation.signatures import sign_shard
from tips_bench.corpus.store import Sample, read_samples, write_shard
from tips_bench.rooms.writing.writers import write_rooms
from tips_bench.training.crops import read_image

ROOMS, OTHERS = 11, 240  # seed, and frames of other rooms
LARGEST = (0, 1)  # of duplicates.largest
SIGNER = {"model": "tips-nano", "device": "cpu", "dtype": "bf16"}


def copies_of(image: Image.Image, count: int, *, cut: bool, seed: int) -> list[Image.Image]:
    """Each with its own scale, quality and, if cut, part."""
    rng, found = np.random.default_rng([seed, count, cut]), []
    for _ in range(count):
        changed = crop(image, rng.uniform(0.5, 1), rng) if cut else image
        found.append(compress(resize(changed, rng.uniform(0.4, 1), rng), rng.uniform(30, 90), rng))
    return found


def left(work: Path, picture: Sample, others: list[Sample], count: int, *, cut: bool) -> tuple[int, int]:
    """Of a picture and its copies, how many stay, without and with the largest among the candidates."""
    image = Image.fromarray(read_image({picture.extension: picture.image}).permute(1, 2, 0).numpy())
    crowd = [picture, *(_sample(f"copy{n:05d}", copy) for n, copy in enumerate(copies_of(image, count, cut=cut, seed=ROOMS)))]
    mixed = [*others, *crowd]
    rows = np.random.default_rng(count).permutation(len(mixed))
    write_shard(work / "0.tar", [mixed[row] for row in rows])
    sign_shard(str(work / "0.tar"), SIGNER, str(work / "0.npz"))
    library = Library.make(work, {"0.npz": "0.tar"})
    pixels_N, crowded_N = library.array(0, "sizes_N2").prod(1), rows >= len(others)
    found = []
    for largest in LARGEST:
        stays_N = stands_for(pairs_of(library, library, DuplicateCard(largest=largest), work / f"pairs-{largest}"), pixels_N)
        found.append(int((stays_N == np.arange(len(stays_N)))[crowded_N].sum()))
    return found[0], found[1]


def _sample(key: str, image: Image.Image) -> Sample:
    out = BytesIO()
    image.save(out, "PNG")
    return Sample(key, out.getvalue(), "png", {})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, nargs="*", default=[8, 30, 100, 1000])
    asked = parser.parse_args()
    print("| copies | what was done to them | left without the largest | left |\n| ---: | --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        write_rooms("webdataset", Path(folder) / "rooms", seed=ROOMS, train=OTHERS + 1, val=0, frames_per_scene=1)
        samples = [one for shard in sorted((Path(folder) / "rooms").glob("*.tar")) for one in read_samples(shard)]
        for cut in (False, True):
            for count in asked.copies:
                work = Path(folder) / f"{count}-{cut}"
                for largest in LARGEST:
                    (work / f"pairs-{largest}").mkdir(parents=True)
                before, after = left(work, samples[0], samples[1:], count, cut=cut)
                done = "resized and compressed" + (", and cut" if cut else "")
                print(f"| {count:,} | {done} | {before} | {after} |", flush=True)


if __name__ == "__main__":
    main()
