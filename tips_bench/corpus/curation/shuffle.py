"""The chosen samples of a corpus in a new order, in bounded memory.

First each shard's samples are copied to one file, sorted by the place that they will have. Then each new shard is put together from its
stretch of every such file. A step holds one sample at a time, then one new shard, whatever the size of the corpus; the copies need as
much disk as the chosen samples.

Axes: N samples that are chosen, n those of a shard, C captions of theirs that are taken out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from tips_bench.corpus.facts import captions
from tips_bench.corpus.store import Sample, read_sample, write_shard
from tips_bench.files import atomic, write_text
from tips_bench.npz import read_npz, save_npz
from tips_bench.training.shard_index import index_shard


def order(count: int, seed: int) -> np.ndarray:
    """[N] the new place of each sample."""
    return np.random.default_rng([seed, count]).permutation(count)


def plan_shard(file: Path, places_n: np.ndarray, targets_n: np.ndarray, without_C2: np.ndarray) -> None:
    """Note which samples of a shard are chosen, by their places in it, and their new places.

    without_C2: captions that are taken out, the place of the sample and the number of the caption among its web captions.
    """
    by_target = np.argsort(targets_n)
    save_npz(file, places_n=places_n[by_target], targets_n=targets_n[by_target], without_C2=without_C2)


def sort_shard(shard: str, plan: str, samples: str, done: str) -> None:
    """Copy the chosen samples of a shard to the file `samples`, and where each is there to `done`."""
    names = ("places_n", "targets_n", "without_C2")
    places_n, targets_n, without_C2 = read_npz(Path(plan), "plan of a shard", lambda data: tuple(data[name] for name in names))
    entries, ends = index_shard(Path(shard)), [0]
    with atomic(Path(samples)) as temporary, temporary.open("wb") as out, open(shard, "rb") as file:
        for place in places_n.tolist():
            sample = read_sample(file, entries[place])
            assert isinstance(sample, Sample), "a signed sample has an image"
            gone = without_C2[without_C2[:, 0] == place, 1].tolist()
            out.write(_packed(_without(sample, gone), Path(shard).name))
            ends.append(out.tell())
    save_npz(Path(done), targets_n=targets_n, ends_n1=np.array(ends, np.int64))


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


def put_together(folder: str, number: int, samples: int, shard: str, done: str) -> None:
    """Write new shard `number` of `samples` each from all sorted files of a folder, and what it is to `done`."""
    found = [pair for index in sorted(Path(folder).glob("*.npz")) for pair in _stretch(index, number * samples, (number + 1) * samples)]
    made = write_shard(Path(shard), _unpacked(sorted(found, key=lambda pair: pair[0])))
    write_text(Path(done), json.dumps(made.model_dump(mode="json")) + "\n", durable=True)


def _stretch(index: Path, first: int, behind: int) -> Iterator[tuple[int, bytes]]:
    """(new place, packed sample) of the samples of a sorted file that go to places in [first, behind)."""
    targets_n, ends_n1 = read_npz(index, "index of sorted samples", lambda data: (data["targets_n"], data["ends_n1"]))
    low, high = np.searchsorted(targets_n, [first, behind])
    if low == high:
        return
    with index.with_suffix(".samples").open("rb") as file:
        data = os.pread(file.fileno(), int(ends_n1[high] - ends_n1[low]), int(ends_n1[low]))
    for place in range(low, high):
        yield int(targets_n[place]), data[ends_n1[place] - ends_n1[low] : ends_n1[place + 1] - ends_n1[low]]


def _unpacked(packed: list[tuple[int, bytes]]) -> Iterator[Sample]:
    for target, data in packed:
        head, _, image = data.partition(b"\n")
        extension, said = json.loads(head)
        yield Sample(f"{target:012d}", image, extension, said)
