"""`corpus check`: a look at every sample before it is trained on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from tips_bench.catalog import cache_root
from tips_bench.corpus.facts import knows_languages
from tips_bench.corpus.look import HASH, Look
from tips_bench.corpus.pieces import Piece, run_pieces
from tips_bench.corpus.storage import MISSING, address, versions
from tips_bench.corpus.store import load_manifest, shards_of
from tips_bench.executors.chosen import Chosen
from tips_bench.files import digest
from tips_bench.strict import Strict
from tips_bench.terminal import printable
from tips_bench.training.caption_layouts import KINDS
from tips_bench.training.captions import wanted_kinds
from tips_bench.training.first_samples import LEAST_USABLE
from tips_bench.training.recipe_files import load_recipe

CACHE = "corpus-checks"
LAYOUT = 3  # of files there: another one for each change of `look`
PICTURES = 24


class CorpusReport(Strict):
    """What was found. skipped, uncaptioned, sides and others: as in `Look`, of all shards.

    duplicates: images that came before, byte for byte. noted: what the steps that made the corpus counted beside the samples that they
    dropped, step by step, as the manifest has it. faults: what training would stop at, a sentence each.
    """

    folder: str
    shards: int
    samples: int
    bytes: int
    skipped: dict[str, tuple[int, str]]
    duplicates: int
    sides: list[int]
    aspects: list[int]
    lengths: dict[str, list[int]]
    with_caption: dict[str, int]
    uncaptioned: tuple[int, str]
    languages: dict[str, int]
    pictures: list[tuple[str, str]]
    noted: list[tuple[str, int]]
    faults: list[str]

    def facts(self) -> list[tuple[str, str]]:
        """(what, how many) of the corpus as a whole."""
        have = {kind: self.with_caption.get(kind, 0) for kind in KINDS}
        share = {kind: f"{number:,} ({number / max(1, self.samples):.1%})" for kind, number in have.items()}
        languages = sum(self.languages.values())
        common = sorted(self.languages.items(), key=lambda one: (-one[1], one[0]))[:6]
        return [
            ("shards", f"{self.shards:,}"),
            ("samples", f"{self.samples:,}"),
            ("size", f"{self.bytes / 1e9:,.1f} GB" if self.bytes >= 1e9 else f"{self.bytes / 1e6:,.1f} MB"),
            *((f"with {kind} captions", text) for kind, text in share.items()),
            *([("without any caption", f"{self.uncaptioned[0]:,}, the first is {self.uncaptioned[1]}")] if self.uncaptioned[0] else []),
            ("exact duplicates", f"{self.duplicates:,}"),
            *((what, f"{number:,}") for what, number in self.noted),
            *([("languages", ", ".join(f"{name} {number / languages:.0%}" for name, number in common))] if languages else []),
        ]

    def render(self) -> list[Any]:
        """For a terminal."""
        table = Table(show_header=False, box=None)
        for what, text in self.facts():
            table.add_row(what, printable(text))
        for reason, (number, first) in self.skipped.items():
            table.add_row(f"skipped: {reason}", printable(f"{number:,}, the first is {first}"))
        return [table, *(Text(printable(f"error: {fault}"), "red") for fault in self.faults)]


def check_corpus(folder: Path, recipe: str | None = None, chosen: Chosen | None = None) -> CorpusReport:
    """Look at all of a corpus. recipe: its kinds of captions have to be there.

    Errors: no corpus is there, or its step has not ended; no such recipe; a shard that is there and cannot be read.
    """
    wanted = wanted_kinds(load_recipe(recipe).method.contrastive) if recipe else []
    manifest, shards = load_manifest(folder), shards_of(folder)
    known = dict(zip(shards, versions(shards), strict=True))
    pieces = [_piece(path, version) for path, version in known.items() if version != MISSING]
    run_pieces(pieces, "check", chosen)
    looks = [Look(**json.loads(piece.done.read_text(encoding="utf-8"))) for piece in pieces]
    stated = {} if manifest is None else {shard.name: shard.sha256 for shard in manifest.shards}
    noted = [(f"{step.name}: {note}", number) for step in (manifest.steps if manifest else []) for note, number in step.notes.items()]
    report = _gathered(folder, looks).model_copy(update={"noted": noted})
    faults = [f"{path}: the shard is missing. Fetch it again." for path, version in known.items() if version == MISSING]
    faults += [one.fault for one in looks if one.fault]
    faults += [
        f"{folder / one.shard}: it is not the shard that the manifest states. Fetch it again."
        for one in looks
        if one.sha256 and stated.get(one.shard, one.sha256) != one.sha256
    ]
    if not report.samples:
        faults.append(f"{folder}: not one sample can be trained on.")
    faults += [
        f"{folder}: recipe {recipe} trains with {kind} captions, and {have:,} of {report.samples:,} samples have one."
        for kind, have in ((kind, report.with_caption.get(kind, 0)) for kind in wanted)
        if report.samples and have < LEAST_USABLE * report.samples
    ]
    return report.model_copy(update={"faults": faults})


def _piece(path: Path, version: str) -> Piece:
    """Its file lies in the cache, under a name that changes with the shard and with what is looked for."""
    shard = address(path)
    done = cache_root() / CACHE / f"{digest(LAYOUT, shard, version, knows_languages())[:24]}.json"
    return Piece("tips_bench.corpus.look:look", {"shard": shard, "file": str(done)}, done)


def _gathered(folder: Path, looks: list[Look]) -> CorpusReport:
    skipped: dict[str, tuple[int, str]] = {}
    for one in looks:
        for reason, (number, first) in one.skipped.items():
            before, earliest = skipped.get(reason, (0, f"{one.shard}: {first}"))
            skipped[reason] = before + number, earliest
    hashes = np.frombuffer(bytes.fromhex("".join(one.hashes for one in looks)), f">u{HASH}")
    step = max(1, len(looks) // PICTURES)
    pictures = [picture for one in looks[::step] for picture in one.pictures][:PICTURES]
    return CorpusReport(
        folder=str(folder),
        shards=len(looks),
        samples=sum(one.samples for one in looks),
        bytes=sum(one.bytes for one in looks),
        skipped=dict(sorted(skipped.items(), key=lambda item: -item[1][0])),
        duplicates=len(hashes) - len(np.unique(hashes)),
        sides=_sum([one.sides for one in looks]),
        aspects=_sum([one.aspects for one in looks]),
        lengths={kind: _sum([one.lengths[kind] for one in looks if kind in one.lengths]) for kind in KINDS},
        with_caption=dict(sum((Counter(one.with_caption) for one in looks), Counter())),
        uncaptioned=(
            sum(one.uncaptioned[0] for one in looks),
            next((f"{one.shard}: {one.uncaptioned[1]}" for one in looks if one.uncaptioned[0]), ""),
        ),
        languages=dict(sum((Counter(one.languages) for one in looks), Counter())),
        pictures=pictures,
        noted=[],
        faults=[],
    )


def _sum(counts: list[list[int]]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=True)]
