"""A corpus as the web gives it, made of rooms: planted copies, planted test images, captions of other images.

Each sample has a web caption alone. What it shows, and what benchmarks/rooms_describer.py says of it, stand in a table beside the corpus.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from benchmarks.curation import CASES, CHANGES
from tips_bench.cards import load_card
from tips_bench.corpus.curation.task_images import open_images, prepare, root_of
from tips_bench.corpus.store import Sample, read_samples, write_shard
from tips_bench.data.split import Split
from tips_bench.files import write_text

SHARD = 1024  # samples
SWAPPED = 0.4  # share of web captions that belong to another image
COPIES = 0.5  # changed copies, for each image of rooms
HEAD = 20  # image k of a random order is copied in proportion to 1 / (HEAD + k), so that few images have many copies
TASKS = ("rooms-seg", "rooms-retrieval")  # whose test images are planted, each once
Kind = Literal["room", "copy", "test"]


@dataclass(frozen=True)
class Planted:
    """A sample of the corpus. shows: the name of the picture that it shows. synthetic: what the describer says of it."""

    sample: Sample
    kind: Kind
    shows: str
    synthetic: tuple[str, ...]


def originals(shards: Sequence[Path]) -> list[Planted]:
    """The images of rooms with their own captions."""
    samples = [sample for shard in shards for sample in read_samples(shard)]
    return [Planted(sample, "room", sample.key, tuple(sample.said["synthetic"])) for sample in samples]


def changed(image: Image.Image, rng: np.random.Generator) -> bytes:
    """A JPEG of an image, changed in a way and by a strength drawn from those of benchmarks/curation.py."""
    kind, strength = CASES[int(rng.integers(len(CASES)))]
    out = io.BytesIO()
    CHANGES[kind][0](image, strength, rng).save(out, "JPEG", quality=92)
    return out.getvalue()


def copied_rows(images: int, copies: int, rng: np.random.Generator) -> np.ndarray:
    """Which of the images each copy is of [copies]."""
    weights = 1 / (HEAD + np.arange(images))
    return rng.permutation(images)[rng.choice(images, copies, p=weights / weights.sum())]


def copies_of(rooms: Sequence[Planted], rng: np.random.Generator) -> Iterator[Planted]:
    """Changed copies of some images. The captions are those of the originals."""
    for row in copied_rows(len(rooms), round(COPIES * len(rooms)), rng).tolist():
        one = rooms[row]
        image = Image.open(io.BytesIO(one.sample.image)).convert("RGB")
        yield Planted(Sample("", changed(image, rng), "jpg", {"web": one.sample.said["web"]}), "copy", one.shows, one.synthetic)


def planted_tests(rng: np.random.Generator) -> Iterator[Planted]:
    """A changed copy of each test image of TASKS, with captions of that image."""
    for task in TASKS:
        card = load_card("task", task)
        root = root_of(card, None)
        prepare(card, root)
        images = open_images(card, "test", root)
        captions = captions_of_tests(task)
        for place in range(images.count):
            id, image_HW3 = images.load(place)
            web, *synthetic = captions[id]
            sample = Sample("", changed(Image.fromarray(image_HW3), rng), "jpg", {"web": web})
            yield Planted(sample, "test", picture(id), tuple(synthetic))


def captions_of_tests(task: str) -> dict[str, list[str]]:
    """Test image of a task of TASKS -> its web caption, the whole account, and the first two sentences of that."""
    card: Any = load_card("task", task)
    root = root_of(card, None)
    folder, found = root / card.data.root, {}
    if card.data.reader == "folder":
        for line in (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines():
            said = json.loads(line)
            found[Path(said["image"]).stem] = [said["web"], said["synthetic"]]
    else:
        reader: Any = Split.open(card.data, folder, "test", None).reader
        found = {id: [web, synthetic] for id, (synthetic, web, *_) in zip(reader.ids, reader.captions, strict=True)}
    return {id: [web, synthetic, ". ".join(synthetic.split(". ")[:2]).rstrip(".") + "."] for id, (web, synthetic) in found.items()}


def plant(shards: Sequence[Path], folder: Path, table: Path, seed: int) -> None:
    """Write the shards of the raw corpus, and what each sample shows. Nothing is done where the table, which is written last, is there."""
    if table.is_file():
        return
    rng = np.random.default_rng(seed)
    rooms = originals(shards)
    everything = [*rooms, *copies_of(rooms, rng), *planted_tests(rng)]
    webs = swapped([one.sample.said["web"] for one in everything], rng)
    order = rng.permutation(len(everything)).tolist()
    known: dict[str, dict[str, Any]] = {}
    for start in range(0, len(order), SHARD):
        part = []
        for place, row in enumerate(order[start : start + SHARD], start):
            one, key = everything[row], f"{place:06d}"
            part.append(Sample(key, one.sample.image, one.sample.extension, {"web": webs[row]}))
            hashed = hashlib.sha256(one.sample.image).hexdigest()
            known[key] = {"kind": one.kind, "shows": one.shows, "sha256": hashed, "synthetic": one.synthetic}
        write_shard(folder / f"{start // SHARD:03d}.tar", part)
    write_text(table, json.dumps(known) + "\n")


def swapped(captions: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The captions, a share SWAPPED of them handed on among themselves."""
    rows = rng.choice(len(captions), round(SWAPPED * len(captions)), replace=False)
    found = list(captions)
    for row, other in zip(rows.tolist(), np.roll(rows, 1).tolist(), strict=True):
        found[row] = captions[other]
    return found


def picture(id: str) -> str:
    """One name for what both tasks of TASKS have: image 500001 of rooms-retrieval is the first frame of the first room of rooms-seg."""
    found = re.fullmatch(r"COCO_val2014_0*5(\d{5})", id)
    return f"val{int(found[1]) - 1:05d}_00" if found else id


def left_over(known: dict[str, dict[str, Any]], dropped: Sequence[dict[str, Any]]) -> dict[str, int]:
    """What a curation found, before its draw.

    known: key -> kind and shows. dropped: the lines of its dropped.jsonl. Pairs of a dropped image and what it was said to show are
    "right pairs", "pairs of one room" (its close-ups overlap) or "wrong pairs".
    """
    gone, counts = set(), Counter[str]()
    for line in dropped:
        key = line["image"].rpartition("/")[2]
        gone.add(key)
        source, _, other = line["same_as"].rpartition("/")
        shown = known[key]["shows"], known[other]["shows"] if source.endswith(".tar") else picture(other)
        counts["right pairs" if shown[0] == shown[1] else "pairs of one room" if _room(shown[0]) == _room(shown[1]) else "wrong pairs"] += 1
    stays = {key: one for key, one in known.items() if key not in gone}
    shows = Counter(one["shows"] for one in stays.values() if one["kind"] != "test")
    counts["copies"] = sum(one["kind"] == "copy" for one in known.values())
    counts["copies left"] = sum(number - 1 for number in shows.values())
    counts["test images"] = sum(one["kind"] == "test" for one in known.values())
    counts["test images left"] = sum(one["kind"] == "test" for one in stays.values())
    counts["pictures"] = len({one["shows"] for one in known.values() if one["kind"] == "room"})
    counts["pictures lost"] = counts["pictures"] - len(shows)
    return dict(counts)


def _room(shown: str) -> str:
    """The room of a frame or close-up: train00000_00_3 is of train00000."""
    return shown.partition("_")[0]
