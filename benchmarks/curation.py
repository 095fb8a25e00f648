"""Planted duplicates and planted test images: how many a curation finds, by kind and strength of the change, against imagehash alone.

    python -m benchmarks.curation --seed 8           # seeds of rooms that are not the one that the thresholds were chosen on
    python -m benchmarks.curation --seed 7 --choose  # precision and recall over thresholds
    python -m benchmarks.curation --seed 9 --images 2400 --each 30 --cells 100,30  # duplicates looked for in cells of so many images

The corpus is generated rooms, four frames of each: frames of one room are alike, and are no duplicates. Changed copies of some are put
into it, and changed copies of test images of `rooms-seg`. A pair is right if both show one image; precision is the share of the pairs
that are right, recall the share of the copies whose own image was found.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import imagehash
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from tips_bench.cards import load_card
from tips_bench.corpus.curation import again
from tips_bench.corpus.curation.alike import Pairs, find_pairs, find_pairs_in_cell, joined, load_pairs, same_picture
from tips_bench.corpus.curation.candidates import By
from tips_bench.corpus.curation.card import CellCard, DuplicateCard
from tips_bench.corpus.curation.cells import divide, make_centroids, parts, read_centroids
from tips_bench.corpus.curation.library import Library
from tips_bench.corpus.curation.signatures import sign_images, sign_shard
from tips_bench.corpus.curation.task_images import TaskImages, open_images, prepare, root_of
from tips_bench.corpus.store import Sample, read_samples, write_shard
from tips_bench.rooms.writing.writers import write_rooms

SHARD = 256
LOW = 0.85  # agreement from which pairs are kept for the choice of a threshold


def crop(image: Image.Image, area: float, rng: np.random.Generator) -> Image.Image:
    """A part with a share of the area, of any place, its aspect up to a third wider or higher than the image's."""
    aspect = float(np.exp(rng.uniform(-1, 1) * np.log(4 / 3)))
    width, height = min(1.0, (area * aspect) ** 0.5), min(1.0, (area / aspect) ** 0.5)
    width, height = round(image.width * width), round(image.height * height)
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def resize(image: Image.Image, scale: float, rng: np.random.Generator) -> Image.Image:
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def compress(image: Image.Image, quality: float, rng: np.random.Generator) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=int(quality))
    return Image.open(out).convert("RGB")


def recolor(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation, each up or down by the strength."""
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(1 + float(rng.choice([-1, 1])) * strength)
    return image


def flip(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image)


def blur(image: Image.Image, radius: float, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius))


def several(image: Image.Image, area: float, rng: np.random.Generator) -> Image.Image:
    """Mirrored, cropped, recolored by a fifth, then compressed at quality 50."""
    return compress(recolor(crop(flip(image, 1, rng), area, rng), 0.2, rng), 50, rng)


CHANGES: dict[str, tuple[Callable[[Image.Image, float, np.random.Generator], Image.Image], tuple[float, ...]]] = {
    "crop (share of the area)": (crop, (0.9, 0.7, 0.5, 0.35)),
    "resize (scale)": (resize, (0.75, 0.5, 0.25)),
    "JPEG (quality)": (compress, (75, 40, 15)),
    "color (strength)": (recolor, (0.1, 0.25, 0.5)),
    "flip": (flip, (1,)),
    "blur (radius, pixels)": (blur, (1, 2, 4)),
    "flip, crop (share), color, JPEG": (several, (0.9, 0.7, 0.5)),
}
CASES = [(kind, strength) for kind, (_, strengths) in CHANGES.items() for strength in strengths]


@dataclass(frozen=True)
class Planted:
    """What stands in a row of the corpus. shows: what it shows. case: the change, None of an image as it was. test: of a test image."""

    shows: str
    case: tuple[str, float] | None = None
    test: bool = False


def plant(folder: Path, samples: Sequence[Sample], tests: TaskImages, each: int, seed: int) -> list[Planted]:
    """Write shards of the samples and of `each` changed copies of some, and of some test images, for every case; what is in which row."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[Planted, Image.Image]] = []
    rows += [(Planted(sample.key), Image.open(io.BytesIO(sample.image)).convert("RGB")) for sample in samples]
    originals = len(rows)
    for kind, strength in CASES:
        change = CHANGES[kind][0]
        for number in rng.choice(originals, each, replace=False).tolist():
            rows.append((Planted(rows[number][0].shows, (kind, strength)), change(rows[number][1], strength, rng)))
        for number in rng.choice(tests.count, each, replace=False).tolist():
            id, image_HW3 = tests.load(number)
            rows.append((Planted(id, (kind, strength), True), change(Image.fromarray(image_HW3), strength, rng)))
    order = rng.permutation(len(rows)).tolist()
    for start in range(0, len(order), SHARD):
        part = [Sample(f"{row:06d}", _png(rows[row][1]), "png") for row in order[start : start + SHARD]]
        write_shard(folder / f"{start // SHARD:03d}.tar", part)
    return [rows[row][0] for row in order]


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def sign(folder: Path, tests: TaskImages, signer: dict[str, str], work: Path) -> tuple[Library, Library]:
    """Signatures of the corpus and of the test images."""
    shards = sorted(folder.glob("*.tar"))
    for number, shard in enumerate(shards):
        sign_shard(str(shard), signer, str(work / "corpus" / f"{number:06d}.npz"))
    sign_images(tests.task, tests.role, tests.root, 0, tests.count, signer, str(work / "sets" / "000000.npz"))
    corpus = Library.make(work / "corpus", {f"{number:06d}.npz": shard.name for number, shard in enumerate(shards)})
    return corpus, Library.make(work / "sets", {"000000.npz": tests.source})


def pairs_of(corpus: Library, among: Library, card: DuplicateCard, work: Path) -> Pairs:
    """What a curation finds with the card, where it looks among all images."""
    files = [work / f"{number:06d}.npz" for number in range(len(corpus.files))]
    for number, file in enumerate(files):
        find_pairs(str(corpus.folder), number, str(among.folder), card.model_dump(), str(file))
    return looked_again(corpus, load_pairs(files), card, work) if among is corpus else load_pairs(files)


def looked_again(corpus: Library, pairs: Pairs, card: DuplicateCard, work: Path) -> Pairs:
    """Pairs, and those that a curation's second look finds in addition."""
    lists = [work / f"again-{number}" / again.LISTED for number in range(card.rounds)]
    for number, listed in enumerate(lists):
        again.list_pairs(corpus, pairs, np.zeros(len(corpus), bool), lists[:number], listed)
        for first in range(0, len(again.listed_pairs(listed)), again.PART):
            file = listed.with_name(f"{first}.npz")
            again.find_pairs_again(str(corpus.folder), str(listed), first, card.model_dump(), str(file))
            pairs = joined([pairs, load_pairs([file])])
    return pairs


def pairs_in_cells(corpus: Library, card: DuplicateCard, work: Path) -> Pairs:
    """What a curation finds with the card where it looks in cells alone, without its second look."""
    found = list[Path]()
    for by, visited in cast(list[tuple[By, int]], [("embedding", card.cells.visited), ("hash", card.cells.visited_by_hash)]):
        folder, centroids = work / by, work / by / "centroids.npz"
        make_centroids(corpus, by, card.cells, 0, centroids)
        for number, (first, behind) in enumerate(parts(corpus)):
            divide(str(corpus.folder), first, behind, by, str(centroids), visited, str(folder / f"{number:06d}.npy"))
        files = [folder / f"{number:06d}.npz" for number in range(len(read_centroids(centroids)))]
        for number, file in enumerate(files):
            find_pairs_in_cell(str(folder), number, by, card.model_dump(), str(file))
        found += files
    return load_pairs(found)


def hash_pairs(corpus: Library, among: Library, folder: Path, tests: TaskImages, bits: int) -> Pairs:
    """What imagehash's phash alone finds: all pairs whose hashes differ by so many bits at most, as its own examples use it."""
    own_N = _phashes(Image.open(io.BytesIO(sample.image)) for shard in sorted(folder.glob("*.tar")) for sample in read_samples(shard))
    others_M = own_N if among is corpus else _phashes(Image.fromarray(tests.load(place)[1]) for place in range(tests.count))
    differ_NM = np.bitwise_count(own_N[:, None] ^ others_M[None])
    if among is corpus:
        differ_NM[np.arange(len(own_N)), np.arange(len(own_N))] = 64
    rows_P, others_P = (differ_NM <= bits).nonzero()
    bits_P = differ_NM[rows_P, others_P]
    return Pairs(rows_P, others_P, -bits_P.astype(np.float64), bits_P)


def _phashes(images: Iterator[Image.Image]) -> np.ndarray:
    return np.array([int(str(imagehash.phash(image)), 16) for image in images], np.uint64)


@dataclass(frozen=True)
class Found:
    """precision: of all pairs. recall: of the copies of each case."""

    precision: float
    recall: dict[tuple[str, float], float]

    @property
    def mean_recall(self) -> float:
        return float(np.mean(list(self.recall.values())))


def score(pairs: Pairs, planted: Sequence[Planted], test_ids: Sequence[str] | None) -> Found:
    """test_ids: what the other side shows, None = the corpus itself."""
    others = [row.shows for row in planted] if test_ids is None else list(test_ids)
    links = list(zip(pairs.rows_P.tolist(), pairs.others_P.tolist(), strict=True))
    right = [planted[row].shows == others[other] and (test_ids is None or planted[row].test) for row, other in links]
    found = {row for link, good in zip(links, right, strict=True) if good for row in (link if test_ids is None else link[:1])}
    copies = [row for row, what in enumerate(planted) if what.case and what.test == (test_ids is not None)]
    recall = {case: float(np.mean([row in found for row in copies if planted[row].case == case])) for case in CASES}
    return Found(float(np.mean(right)) if right else 1.0, recall)


@dataclass(frozen=True)
class Bench:
    """One corpus with what was found in it: by curation and by hashes alone, inside the corpus and among the test images."""

    planted: list[Planted]
    test_ids: list[str]
    curation: dict[str, Pairs]
    hashes: dict[str, Pairs]

    def found(self, kind: str, by: str, least: float) -> Found:
        """kind: "duplicates" or "test images". by: "curation" or "hashes". least: agreement; for hashes minus the bits."""
        pairs: Pairs = getattr(self, by)[kind]
        same_P = pairs.agreement_P >= least
        if by == "curation":
            same_P = same_picture(pairs.agreement_P, pairs.bits_P, DuplicateCard(agreement=least))
        return score(pairs.at(same_P), self.planted, None if kind == "duplicates" else self.test_ids)


KINDS = ("duplicates", "test images")


def measure(work: Path, samples: Sequence[Sample], tests: TaskImages, card: DuplicateCard, *, each: int, seed: int, encoder: str) -> Bench:
    """Plant, sign and compare."""
    folder = work / "corpus-shards"
    planted = plant(folder, samples, tests, each, seed)
    corpus, sets = sign(folder, tests, {"model": encoder, "device": "cpu"}, work)
    among = dict(zip(KINDS, (corpus, sets), strict=True))
    curation = {kind: pairs_of(corpus, other, card, work / kind) for kind, other in among.items()}
    hashes = {kind: hash_pairs(corpus, other, folder, tests, 24) for kind, other in among.items()}
    return Bench(planted, [tests.load(place)[0] for place in range(tests.count)], curation, hashes)


def cells_table(bench: Bench, corpus: Library, cells: Sequence[int], work: Path) -> str:
    """Markdown: what is found of duplicates in cells of so many images, by the cells that are visited, beside all pairs."""
    lines = ["| images of a cell | cells | visited, by hash | pairs of all | precision | mean recall |", "|---|---:|---:|---:|---:|---:|"]
    exact, every = bench.curation["duplicates"], score(bench.curation["duplicates"], bench.planted, None)
    lines.append(f"| all pairs | | | 1.000 | {every.precision:.3f} | {every.mean_recall:.3f} |")
    for images in cells:
        for visited, by_hash in ((1, 1), (2, 1), (4, 2), (8, 4)):
            card = DuplicateCard(cells=CellCard(images=images, visited=visited, visited_by_hash=by_hash))
            pairs = pairs_in_cells(corpus, card, work / f"cells-{images}-{visited}")
            found, share = score(pairs, bench.planted, None), len(_links(pairs) & _links(exact)) / len(_links(exact))
            count = max(1, len(corpus) // images)
            lines.append(f"| {images} | {count} | {visited}, {by_hash} | {share:.3f} | {found.precision:.3f} | {found.mean_recall:.3f} |")
    return "\n".join(lines)


def _links(pairs: Pairs) -> set[tuple[int, int]]:
    return {(min(link), max(link)) for link in zip(pairs.rows_P.tolist(), pairs.others_P.tolist(), strict=True)}


def table(bench: Bench, least: float, bits: int) -> str:
    """Markdown."""
    ways = {"curation": least, "hashes": -float(bits)}
    found = [bench.found(kind, by, limit) for kind in KINDS for by, limit in ways.items()]
    lines = ["| change | strength | duplicates | phash alone | test images | phash alone |", "|---|---:|---:|---:|---:|---:|"]
    for kind, strength in CASES:
        lines.append(f"| {kind} | {strength:g} | " + " | ".join(f"{one.recall[kind, strength]:.2f}" for one in found) + " |")
    lines.append("| **mean recall** | | " + " | ".join(f"{one.mean_recall:.3f}" for one in found) + " |")
    lines.append("| **precision** | | " + " | ".join(f"{one.precision:.3f}" for one in found) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--images", type=int, default=480, help="of rooms")
    parser.add_argument("--rooms", type=Path, help="shards of rooms of that seed that are there, in place of generated ones")
    parser.add_argument("--each", type=int, default=12, help="copies of each change and strength")
    parser.add_argument("--encoder", default="tips-nano")
    parser.add_argument("--bits", type=int, default=8, help="for phash alone")
    parser.add_argument(
        "--cells",
        type=lambda text: [int(images) for images in text.split(",")],
        default=[],
        help="images of a cell, as 100,30; then all is without the second look",
    )
    parser.add_argument("--choose", action="store_true", help="print precision and recall over thresholds")
    arguments = parser.parse_args()
    task = load_card("task", "rooms-seg")
    prepare(task, root_of(task, None))
    tests = open_images(task, "test", root_of(task, None))
    default = DuplicateCard().agreement
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        rooms = arguments.rooms or work / "rooms"
        if arguments.rooms is None:
            write_rooms("webdataset", rooms, seed=arguments.seed, train=arguments.images, val=4)
        samples = [sample for shard in sorted(rooms.glob("train-*.tar")) for sample in read_samples(shard)][: arguments.images]
        options = {"each": arguments.each, "seed": arguments.seed, "encoder": arguments.encoder}
        rounds = 0 if arguments.cells else DuplicateCard().rounds  # what cells find is compared with what all pairs find
        card = DuplicateCard(agreement=LOW if arguments.choose else default, rounds=rounds)
        bench = measure(work, samples, tests, card, **options)
        in_cells = cells_table(bench, Library.load(work / "corpus"), arguments.cells, work) if arguments.cells else ""
    print(json.dumps({"images": len(bench.planted), "copies": len(CASES) * arguments.each, **options}))
    if arguments.choose:
        for by, limits in (("curation", np.arange(LOW, 0.991, 0.005)), ("hashes", -np.arange(0, 25, 2.0))):
            for limit in limits:
                ones = [bench.found(kind, by, float(limit)) for kind in KINDS]
                print(by, f"{limit:.3f}", *(f"precision {one.precision:.4f} recall {one.mean_recall:.4f}" for one in ones))
    print(table(bench, default, arguments.bits), in_cells, sep="\n\n")


if __name__ == "__main__":
    main()
