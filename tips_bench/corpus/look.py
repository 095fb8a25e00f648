"""A piece of `corpus check`: what one shard holds, sample by sample, as counts that add up over shards."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from bisect import bisect_right
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from tips_bench.corpus.facts import EXTENSIONS, captions, decoded, knows_languages, language_of, text_of
from tips_bench.corpus.storage import at_hand
from tips_bench.corpus.store import Sample, read_samples
from tips_bench.errors import UserError
from tips_bench.files import sha256, write_text
from tips_bench.strict import Strict
from tips_bench.training.caption_layouts import KINDS
from tips_bench.training.shard_files import patiently, shard_path
from tips_bench.training.shard_index import index_shard
from tips_bench.training.shards import SampleFault

SIDES = (64, 128, 224, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
ASPECTS = (1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 5.0)
LENGTHS = (5, 10, 20, 40, 60, 80, 100, 150, 200, 300, 500, 1000)
HASH = 8  # bytes of a SHA-256 by which images are compared
LANGUAGES = 200  # captions of a shard whose language is told
PICTURES, PICTURE = 4, 160  # of a shard; longer side in pixels


class Look(Strict):
    """What one shard holds.

    skipped: reason -> [number, name of the first]. sides, aspects, lengths: counts between the bounds SIDES (shorter side in pixels),
    ASPECTS (longer over shorter side), LENGTHS (characters, by kind of caption), one more than bounds. with_caption: kind -> samples that
    have one. uncaptioned: (number of samples without any, name of the first). hashes: hex of HASH bytes of each image's SHA-256.
    pictures: [JPEG in base64, caption]. fault: what training would stop at.
    """

    shard: str
    samples: int = 0
    bytes: int = 0
    sha256: str = ""
    skipped: dict[str, tuple[int, str]] = {}
    sides: list[int] = []
    aspects: list[int] = []
    lengths: dict[str, list[int]] = {}
    with_caption: dict[str, int] = {}
    uncaptioned: tuple[int, str] = (0, "")
    languages: dict[str, int] = {}
    hashes: str = ""
    pictures: list[tuple[str, str]] = []
    fault: str = ""


class _Counts:
    """What is counted of a shard while its samples pass."""

    def __init__(self) -> None:
        self.samples = 0
        self.skipped: dict[str, tuple[int, str]] = {}
        self.sides, self.aspects = [0] * (len(SIDES) + 1), [0] * (len(ASPECTS) + 1)
        self.lengths = {kind: [0] * (len(LENGTHS) + 1) for kind in KINDS}
        self.with_caption, self.languages = Counter[str](), Counter[str]()
        self.uncaptioned = 0, ""
        self.hashes: list[str] = []
        self.pictures: list[tuple[str, str]] = []

    def skip(self, reason: str, name: str) -> None:
        number, first = self.skipped.get(reason, (0, name))
        self.skipped[reason] = number + 1, first

    def add(self, sample: Sample) -> None:
        try:
            _, width, height = decoded(sample.image)
        except SampleFault as error:
            self.skip(str(error), sample.key)
            return
        self.samples += 1
        shorter, longer = sorted((width, height))
        self.sides[bisect_right(SIDES, shorter)] += 1
        self.aspects[bisect_right(ASPECTS, longer / shorter)] += 1
        self.hashes.append(hashlib.sha256(sample.image).hexdigest()[: 2 * HASH])
        for kind in KINDS:
            texts = captions(sample.said, kind)
            self.with_caption[kind] += bool(texts)
            for text in texts:
                self.lengths[kind][bisect_right(LENGTHS, len(text))] += 1
        if not any(captions(sample.said, kind) for kind in KINDS):
            self.uncaptioned = self.uncaptioned[0] + 1, self.uncaptioned[1] or sample.key
        text = text_of(sample)
        if text and self.languages.total() < LANGUAGES and knows_languages():
            self.languages[language_of(text)] += 1
        if len(self.pictures) < PICTURES:
            self.pictures.append((_small(sample.image), "\n".join(one for kind in KINDS for one in captions(sample.said, kind)[:2])))


def look(shard: str, file: str) -> None:
    """Write what a shard holds. A shard that is no whole archive is a finding, not an error. Errors: a shard that cannot be read."""
    path = shard_path(shard)
    with at_hand(path) as copy:
        found = patiently(copy, lambda: _looked_at(copy, path))
    write_text(Path(file), json.dumps(found.model_dump(mode="json")))


def _looked_at(copy: Path, shard: Path) -> Look:
    """What a shard holds. copy: where it is at hand. Errors: an OSError as it comes; what else keeps the shard from being read."""
    counts, dropped = _Counts(), list[tuple[str, str]]()
    size, whole = copy.stat().st_size, sha256(copy)
    try:
        fault = _torn(copy, str(shard))
        for sample in read_samples(copy, dropped):
            counts.add(sample)
    except UserError as error:
        if not isinstance(error.__cause__, tarfile.TarError):
            raise
        fault = str(UserError(error.problem, where=shard, fix=error.fix))
    for key, reason in dropped:
        counts.skip(reason, key)
    found: dict[str, Any] = {**vars(counts), "hashes": "".join(counts.hashes)}
    return Look(shard=shard.name, bytes=size, sha256=whole, fault=fault, **found)


def _torn(path: Path, name: str) -> str:
    """Why the layout is wrong, "" if it is not: members of one sample have to stand together."""
    seen: set[str] = set()
    for entry in index_shard(path):
        if entry.key in seen:
            return f"{name}: members of {entry.key} do not stand together. Write the shard again, sorted by name."
        seen.add(entry.key)
    return ""


def _small(image: bytes) -> str:
    with Image.open(io.BytesIO(image), formats=tuple(EXTENSIONS)) as opened:
        small = ImageOps.exif_transpose(opened).convert("RGB")
    small.thumbnail((PICTURE, PICTURE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
