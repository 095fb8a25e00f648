"""`tips-bench corpus curate`: which images of a corpus stay, and in which order they are written.

Each stage leaves files in the target's folder .curation, so that a curation that is stopped at any moment goes on there:

    corpus, sets, near    signatures of the corpus and of the data sets that are named (pieces)
    pairs, matches        images of the corpus that are the same picture as others, or as images of the data sets (pieces)
    captions              how well web captions agree with their images (pieces)
    tree                  the images near the named sets, and the clusters of a balanced draw
    sorted, shards        the chosen samples, sorted by their new places, and what became of them (pieces)
    made                  the new shards, the page and the list of what was dropped

What was made is then moved to the target, the manifest is written, and the folder goes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench import __version__
from tips_bench.corpus.card import finish
from tips_bench.corpus.curation import shuffle
from tips_bench.corpus.curation.agreeing import NONE as NO_CAPTIONS
from tips_bench.corpus.curation.agreeing import WebCaptions, load_captions
from tips_bench.corpus.curation.alike import NONE, Pairs, load_pairs
from tips_bench.corpus.curation.choice import Choice, choose
from tips_bench.corpus.curation.library import LISTED, Library
from tips_bench.corpus.curation.looks import check_imagehash
from tips_bench.corpus.curation.page import write_page
from tips_bench.corpus.curation.task_images import TaskImages
from tips_bench.corpus.curation.wish import Wish
from tips_bench.corpus.pieces import Piece, begin, run_pieces
from tips_bench.corpus.store import Manifest, Shard, Step, load_manifest, shards_of
from tips_bench.executors.chosen import Chosen
from tips_bench.files import sha256

STEP = "curate"
WORK, MADE = ".curation", "made"
TAKEN_OUT = "web captions taken out of images that have others"
PART = 4096  # images of a data set that a piece signs
ROOM = "tips_bench.corpus.curation"


def curate(source: Path, target: Path, wish: Wish, chosen: Chosen | None = None) -> Manifest:
    """Curate a corpus; its new manifest. chosen: the executor of the pieces; None = this process.

    Errors: those of `begin` and of the pieces; nothing was asked for; no image is left.
    """
    wish.check()
    check_imagehash()
    before, shards, target = load_manifest(source) or Manifest(), shards_of(source), target.absolute()
    hashes = [shard.sha256 for shard in before.shards] or [sha256(path) for path in shards]
    settings = wish.settings(hashes)
    if not begin(target, STEP, settings):
        _Curation(target, wish, [path.absolute() for path in shards], chosen).run(before, settings)
    shutil.rmtree(target / WORK, ignore_errors=True)
    return load_manifest(target) or before


@dataclass(frozen=True)
class _Curation:
    """One that has begun. target: the folder of the new corpus. shards: of the source."""

    target: Path
    wish: Wish
    shards: Sequence[Path]
    chosen: Chosen | None

    @property
    def work(self) -> Path:
        """Where its stages leave their files."""
        return self.target / WORK

    def run(self, before: Manifest, settings: dict[str, Any]) -> None:
        """All stages. before: the manifest of the source."""
        corpus = self._sign_corpus()
        sets, near = self._sign_sets("sets", self.wish.against), self._sign_sets("near", self.wish.near)
        pairs = self._compare("pairs", corpus, corpus) if self.wish.dedup else NONE
        matches = NONE if sets is None else self._compare("matches", corpus, sets)
        captions = None if self.wish.agree is None else self._compare_captions(corpus)
        choice = choose(self.wish, corpus, sets, near, pairs, matches, captions, self.work / "tree")
        for number in range(len(corpus.files)):
            choice.dropped.update(json.loads(str(corpus.array(number, "dropped"))))
        written = self._write(corpus, choice)
        write_page(self.work / MADE, self.wish, self.shards, corpus, sets, choice)
        for file in sorted((self.work / MADE).glob("[!.]*")):
            os.replace(file, self.target / file.name)
        samples, dropped = sum(shard.samples for shard in written), {name: count for name, count in choice.dropped.items() if count}
        gone = choice.taken_out()
        notes = {} if gone is None else {TAKEN_OUT: len(gone.rows_T)}
        step = Step(name=STEP, settings=settings, version=__version__, samples=samples, dropped=dict(sorted(dropped.items())), notes=notes)
        finish(self.target, Manifest(steps=[*before.steps, step], shards=written))

    def _sign_corpus(self) -> Library:
        names = {f"{number:06d}.npz": shard.name for number, shard in enumerate(self.shards)}
        calls = [{"shard": str(shard)} for shard in self.shards]
        return self._sign("corpus", "sign_shard", names, calls)

    def _sign_sets(self, name: str, sets: Sequence[TaskImages]) -> Library | None:
        """None where no sets are named."""
        parts = [(images, first) for images in sets for first in range(0, images.count, PART)]
        names = {f"{number:06d}.npz": images.source for number, (images, _) in enumerate(parts)}
        calls = [
            {"task": images.task, "role": images.role, "root": images.root, "first": first, "behind": min(first + PART, images.count)}
            for images, first in parts
        ]
        return self._sign(name, "sign_images", names, calls) if calls else None

    def _sign(self, name: str, function: str, names: dict[str, str], calls: Sequence[dict[str, Any]]) -> Library:
        folder, signer = self.work / name, asdict(self.wish.signs_with)
        pieces = [
            Piece(
                f"{ROOM}.signatures:{function}",
                {**call, "signer": signer, "done": str(folder / file)},
                folder / file,
                self.wish.signer.device,
            )
            for file, call in zip(names, calls, strict=True)
        ]
        run_pieces(pieces, f"signatures of {name}", self.chosen)
        return Library.load(folder) if (folder / LISTED).is_file() else Library.make(folder, names)

    def _compare(self, name: str, corpus: Library, among: Library) -> Pairs:
        files = [self.work / name / file for file in corpus.files]
        card = self.wish.card.duplicates.model_dump(mode="json")
        common = {"folder": str(corpus.folder), "among": str(among.folder), "card": card}
        calls = [{**common, "number": number, "done": str(file)} for number, file in enumerate(files)]
        run_pieces([Piece(f"{ROOM}.alike:find_pairs", call, file) for call, file in zip(calls, files, strict=True)], name, self.chosen)
        return load_pairs(files)

    def _compare_captions(self, corpus: Library) -> WebCaptions:
        files, pieces = [self.work / "captions" / file for file in corpus.files], []
        common = {"folder": str(corpus.folder), "signer": asdict(self.wish.signs_with)}
        for number, (shard, file) in enumerate(zip(self.shards, files, strict=True)):
            call = {**common, "shard": str(shard), "number": number, "done": str(file)}
            pieces.append(Piece(f"{ROOM}.agreeing:compare_captions", call, file, self.wish.signer.device))
        run_pieces(pieces, "captions", self.chosen)
        return load_captions(files)

    def _write(self, corpus: Library, choice: Choice) -> list[Shard]:
        """The new shards, in a new order."""
        rows, samples = np.flatnonzero(choice.kept_N), self.wish.card.samples
        self._sort(corpus, rows, choice.taken_out() or NO_CAPTIONS)
        files = [self.work / "shards" / f"{number:06d}.json" for number in range(-(-len(rows) // samples))]
        pieces = []
        for number, file in enumerate(files):
            call = {"folder": str(self.work / "sorted"), "number": number, "samples": samples}
            call |= {"shard": str(self.work / MADE / f"{number:06d}.tar"), "done": str(file)}
            pieces.append(Piece(f"{ROOM}.shuffle:put_together", call, file))
        run_pieces(pieces, "shards", self.chosen)
        return [Shard.model_validate_json(file.read_text(encoding="utf-8")) for file in files]

    def _sort(self, corpus: Library, rows: np.ndarray, without: WebCaptions) -> None:
        """Copy the samples that stay, those of each shard to a file sorted by their new places. without: captions that are taken out."""
        targets_n, pieces = shuffle.order(len(rows), self.wish.seed), []
        for number, shard in enumerate(self.shards):
            own = slice(*np.searchsorted(rows, [corpus.rows(number).start, corpus.rows(number).stop]))
            if own.start == own.stop:
                continue
            plan, done = self.work / "plan" / f"{number:06d}.npz", self.work / "sorted" / f"{number:06d}.npz"
            places_N, first = corpus.array(number, "places_N"), corpus.rows(number).start
            gone = without.at((without.rows_T >= first) & (without.rows_T < corpus.rows(number).stop))
            without_C2 = np.stack([places_N[gone.rows_T - first], gone.numbers_T], 1)
            shuffle.plan_shard(plan, places_N[rows[own] - first], targets_n[own], without_C2)
            call = {"shard": str(shard), "plan": str(plan), "samples": str(done.with_suffix(".samples")), "done": str(done)}
            pieces.append(Piece(f"{ROOM}.shuffle:sort_shard", call, done))
        run_pieces(pieces, "samples", self.chosen)
