"""The chosen samples of a corpus in a new order, in bounded memory.

First each shard's samples are copied to one file, sorted by the place that they will have. Then each new shard is put together from its
stretch of every such file. Many sorted files are merged before, MERGED at a time, for a new shard looks into each file: S shards would be
S x S looks, of 28,000 shards 800 million, and with merged files 3 million. A step holds one sample at a time, then one new shard, whatever
the size of the corpus; the copies need as much disk as the chosen samples, and a group that is being merged twice as much.

A sorted file has two parts: NAME.samples, one packed sample after the other, and its index NAME.npy, int64 [2,n+1]: the new places, and
where each sample begins in NAME.samples. The last column is END, and the size of NAME.samples. An index is mapped into memory and searched.

Axes: N samples that are chosen, n those of a file, C captions of theirs that are taken out.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from tips_bench.corpus.facts import captions
from tips_bench.corpus.storage import at_hand
from tips_bench.corpus.store import Sample, read_sample, with_licenses, write_shard
from tips_bench.corpus.target import Destination, bring
from tips_bench.errors import UserError
from tips_bench.files import atomic
from tips_bench.npz import read_npz, save_npz
from tips_bench.training.shard_files import shard_path
from tips_bench.training.shard_index import index_shard

MERGED = 256  # files at a time, which are all open
END = np.iinfo(np.int64).max


def order(count: int, seed: int) -> np.ndarray:
    """[N] the new place of each sample."""
    return np.random.default_rng([seed, count]).permutation(count)


def plan_shard(file: Path, places_n: np.ndarray, targets_n: np.ndarray, without_C2: np.ndarray) -> None:
    """Note which samples of a shard are chosen, by their places in it, and their new places.

    without_C2: captions that are taken out, the place of the sample and the number of the caption among its web captions.
    """
    by_target = np.argsort(targets_n)
    save_npz(file, places_n=places_n[by_target], targets_n=targets_n[by_target], without_C2=without_C2)


def sort_shard(shard: str, plan: str, done: str) -> None:
    """Copy the chosen samples of a shard to a sorted file, whose index is `done`."""
    names = ("places_n", "targets_n", "without_C2")
    places_n, targets_n, without_C2 = read_npz(Path(plan), "plan of a shard", lambda data: tuple(data[name] for name in names))

    def packed() -> Iterator[tuple[int, bytes]]:
        with at_hand(shard_path(shard)) as copy, copy.open("rb") as file:
            entries = index_shard(copy)
            for place, target in zip(places_n.tolist(), targets_n.tolist(), strict=True):
                sample = read_sample(file, entries[place])
                assert isinstance(sample, Sample), "a signed sample has an image"
                gone = without_C2[without_C2[:, 0] == place, 1].tolist()
                yield target, _packed(_without(sample, gone), copy.name)

    _write_sorted(Path(done), packed())


def merge(indexes: list[str], done: str) -> None:
    """Merge sorted files, named by their indexes, to one, whose index is `done`; their samples are removed."""
    with ExitStack() as stack:
        stretches = [stack.enter_context(closing(_stretch(Path(index), 0, END))) for index in indexes]
        _write_sorted(Path(done), heapq.merge(*stretches, key=lambda pair: pair[0]))
    for index in indexes:
        Path(index).with_suffix(".samples").unlink(missing_ok=True)


def put_together(indexes: list[str], number: int, samples: int, shard: str, done: str, to: Destination | None) -> None:
    """Write new shard `number` of `samples` each from all sorted files, and what it is, with its licenses, to `done`.

    to: object storage that the shard is brought to; None = it stays. A choice that is made anew need not be the same, so that its shards
    are, too.
    """
    found = [pair for index in indexes for pair in _stretch(Path(index), number * samples, (number + 1) * samples)]
    licenses = Counter[str]()
    made = write_shard(Path(shard), with_licenses(_unpacked(sorted(found, key=lambda pair: pair[0])), licenses))
    bring(Path(shard), {"shard": made.model_dump(mode="json"), "licenses": licenses}, Path(done), to, again=False)


def _without(sample: Sample, gone: list[int]) -> Sample:
    """A sample without some of its web captions. gone: their numbers; others are left."""
    if not gone:
        return sample
    left = [text for number, text in enumerate(captions(sample.said, "web")) if number not in gone]
    return replace(sample, said=sample.said | {"web": left})


def _packed(sample: Sample, shard: str) -> bytes:
    """A line of what is known of a sample, then its image. It is noted which sample of which shard it was, unless that is known."""
    said = {"origin": f"{shard}/{sample.key}"} | sample.said
    return json.dumps([sample.extension, said]).encode() + b"\n" + sample.image


def _write_sorted(index: Path, packed: Iterable[tuple[int, bytes]]) -> None:
    """Write a sorted file, its index last. packed: (new place, packed sample) in ascending order."""
    targets, begins, size = list[int](), list[int](), 0
    with atomic(index.with_suffix(".samples")) as temporary, temporary.open("wb") as out:
        for target, data in packed:
            out.write(data)
            targets.append(target)
            begins.append(size)
            size += len(data)
    with atomic(index) as temporary, temporary.open("wb") as out:
        np.save(out, np.array([[*targets, END], [*begins, size]], np.int64))


def _stretch(index: Path, first: int, behind: int) -> Generator[tuple[int, bytes], None, None]:
    """(new place, packed sample) of the samples of a sorted file that go to places in [first, behind), one at a time."""
    try:
        targets_n1, begins_n1 = np.load(index, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UserError("not an index of sorted samples, or a broken one", where=index, fix="Delete its folder and run again.") from error
    low, high = np.searchsorted(targets_n1, [first, behind]).tolist()
    if low == high:
        return
    with index.with_suffix(".samples").open("rb") as file:
        file.seek(begins_n1[low])
        for place in range(low, high):
            yield int(targets_n1[place]), file.read(int(begins_n1[place + 1] - begins_n1[place]))


def _unpacked(packed: list[tuple[int, bytes]]) -> Iterator[Sample]:
    for target, data in packed:
        head, _, image = data.partition(b"\n")
        extension, said = json.loads(head)
        yield Sample(f"{target:012d}", image, extension, said)
