"""One picture with many copies: how many of them a curation leaves, where it should leave one.

    python -m benchmarks.crowds [--copies 8 30 100 1000]

The picture is a frame of generated rooms, among 240 frames of others. Copies are resized and compressed, or cut in addition, by amounts of
their own. "without the second look" looks for copies with duplicates.rounds=0, "without both" with duplicates.largest=0 in addition.
"""

from __future__ import annotations

import argparse
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.curation import compress, crop, looked_again, pairs_of, resize
from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.duplicates import stands_for
from tips_bench.corpus.curation.library import Library
from tips_bench.corpus.curation.signatures import sign_shard
from tips_bench.corpus.store import Sample, read_samples, write_shard
from tips_bench.rooms.writing.writers import write_rooms
from tips_bench.training.crops import read_image

ROOMS, OTHERS = 11, 240  # seed, and frames of other rooms
CARD = DuplicateCard()
WITHOUT = {"both": CARD.model_copy(update={"largest": 0, "rounds": 0}), "second-look": CARD.model_copy(update={"rounds": 0})}
SIGNER = {"model": "tips-nano", "device": "cpu", "dtype": "bf16"}


def copies_of(image: Image.Image, count: int, *, cut: bool, seed: int) -> list[Image.Image]:
    """Each with its own scale, quality and, if cut, part."""
    rng, found = np.random.default_rng([seed, count, cut]), []
    for _ in range(count):
        changed = crop(image, rng.uniform(0.5, 1), rng) if cut else image
        found.append(compress(resize(changed, rng.uniform(0.4, 1), rng), rng.uniform(30, 90), rng))
    return found


def left(work: Path, picture: Sample, others: list[Sample], count: int, *, cut: bool) -> list[int]:
    """Of a picture and its copies, how many stay: with each card of WITHOUT, and with the card as it is."""
    image = Image.fromarray(read_image({picture.extension: picture.image}).permute(1, 2, 0).numpy())
    crowd = [picture, *(_sample(f"copy{n:05d}", copy) for n, copy in enumerate(copies_of(image, count, cut=cut, seed=ROOMS)))]
    mixed = [*others, *crowd]
    rows = np.random.default_rng(count).permutation(len(mixed))
    write_shard(work / "0.tar", [mixed[row] for row in rows])
    sign_shard(str(work / "0.tar"), SIGNER, str(work / "0.npz"))
    library = Library.make(work, {"0.npz": "0.tar"})
    pixels_N, crowded_N = library.array(0, "sizes_N2").prod(1), rows >= len(others)
    found = [pairs_of(library, library, card, work / name) for name, card in WITHOUT.items()]
    found.append(looked_again(library, found[-1], CARD, work))
    stay = (stands_for(pairs, pixels_N) == np.arange(len(library)) for pairs in found)
    return [int(stays_N[crowded_N].sum()) for stays_N in stay]


def _sample(key: str, image: Image.Image) -> Sample:
    out = BytesIO()
    image.save(out, "PNG")
    return Sample(key, out.getvalue(), "png", {})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, nargs="*", default=[8, 30, 100, 1000])
    asked = parser.parse_args()
    print(
        "| copies | what was done to them | left without both | left without the second look | left |\n| ---: | --- | ---: | ---: | ---: |"
    )
    with tempfile.TemporaryDirectory() as folder:
        write_rooms("webdataset", Path(folder) / "rooms", seed=ROOMS, train=OTHERS + 1, val=0, frames_per_scene=1)
        samples = [one for shard in sorted((Path(folder) / "rooms").glob("*.tar")) for one in read_samples(shard)]
        for cut in (False, True):
            for count in asked.copies:
                work = Path(folder) / f"{count}-{cut}"
                for name in WITHOUT:
                    (work / name).mkdir(parents=True)
                counts = " | ".join(str(one) for one in left(work, samples[0], samples[1:], count, cut=cut))
                done = "resized and compressed" + (", and cut" if cut else "")
                print(f"| {count:,} | {done} | {counts} |", flush=True)


if __name__ == "__main__":
    main()
