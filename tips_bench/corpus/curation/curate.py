"""`tips-bench corpus curate`: which images of a corpus stay, and in which order they are written.

Each stage leaves files in the target's folder .curation, so that a curation that is stopped at any moment goes on there, and several
commands with one target share its pieces:

    corpus, sets, near    signatures of the corpus and of the data sets that are named (pieces)
    captions              how well web captions agree with their images (pieces)
    pairs, matches        images of the corpus that are the same picture as others, or as images of the data sets (pieces)
    cells-*, pairs-*      in place of pairs, of a large corpus: images that look alike, put together, and pairs among them (pieces)
    again-*               in rounds: which images of the corpus are compared once more, and the pairs that this finds (pieces)
    nearest               the images of each part that are near the named sets (pieces)
    tree                  the clusters of a balanced draw
    plan                  the new places of the samples that stay, and last plan.json: the choice is made
    sorted, merged        the chosen samples, sorted by their new places (pieces)
    shards                what the new shards are (pieces)
    made                  the new shards, the page and the list of what was dropped

What was made is then moved to the target, the manifest is written, and the folder goes. A target in object storage gets its shards as soon
as they are made; the other files then lie in its work folder (corpus/target.py). The choice and this last stage are the work of one
command, while others wait.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench import __version__
from tips_bench.corpus.card import finish
from tips_bench.corpus.curation import again, shuffle
from tips_bench.corpus.curation.agreeing import NONE as NO_CAPTIONS
from tips_bench.corpus.curation.agreeing import WebCaptions, load_captions
from tips_bench.corpus.curation.alike import NONE, Pairs, joined, load_pairs
from tips_bench.corpus.curation.candidates import By
from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.cells import make_centroids, parts, read_centroids
from tips_bench.corpus.curation.choice import Choice, choose
from tips_bench.corpus.curation.library import LISTED, Library
from tips_bench.corpus.curation.looks import check_imagehash
from tips_bench.corpus.curation.near import nearest_rank
from tips_bench.corpus.curation.page import write_page
from tips_bench.corpus.curation.task_images import TaskImages
from tips_bench.corpus.curation.wish import Wish
from tips_bench.corpus.hashes import hashes_of
from tips_bench.corpus.pieces import Piece, begin, complete, run_pieces
from tips_bench.corpus.store import MANIFEST, Manifest, Shard, Step, load_manifest, shards_of
from tips_bench.corpus.target import Target, opened
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen
from tips_bench.files import write_text
from tips_bench.npz import save_npz

STEP = "curate"
WORK, MADE, PLAN, SIGNED = ".curation", "made", "plan.json", "corpus"
TAKEN_OUT = "web captions taken out of images that have others"
PART = 4096  # images of a data set that a piece signs
ROOM = "tips_bench.corpus.curation"


def signed(target: Path) -> list[Path]:
    """The files with what is known of each shard of the corpus, of a curation that was begun in a folder on a disk."""
    return sorted((target / WORK / SIGNED).glob("*.npz"))


def curate(source: Path, target: Path, wish: Wish, chosen: Chosen | None = None, works: Path | None = None) -> Manifest:
    """Curate a corpus; its new manifest. chosen: the executor of the pieces; None = this process.

    works: where a target in object storage has its work folder. Errors: those of `opened`, of `begin` and of the pieces; nothing was asked
    for; no image is left.
    """
    wish.check()
    check_imagehash()
    with opened(target.absolute(), works) as place:
        before, shards = load_manifest(source) or Manifest(), [path.absolute() for path in shards_of(source)]
        settings = wish.settings(hashes_of(before, shards, chosen))
        if not begin(place, STEP, settings):
            try:
                _Curation(place, wish, shards, chosen).run(before, settings)
            except (OSError, UserError):
                if not (place.work / MANIFEST).is_file():  # else another command has ended it, and the files of its stages are gone
                    raise
        shutil.rmtree(place.work / WORK, ignore_errors=True)
        return load_manifest(place.folder) or before


@dataclass(frozen=True)
class _Curation:
    """One that has begun. target: of the new corpus. shards: of the source."""

    target: Target
    wish: Wish
    shards: Sequence[Path]
    chosen: Chosen | None

    @property
    def work(self) -> Path:
        """Where its stages leave their files."""
        return self.target.work / WORK

    def run(self, before: Manifest, settings: dict[str, Any]) -> None:
        """All stages. before: the manifest of the source."""
        corpus = self._sign_corpus()
        sets, near = self._sign_sets("sets", self.wish.against), self._sign_sets("near", self.wish.near)
        captions = None if self.wish.agree is None else self._compare_captions(corpus)
        pairs = self._look_again(corpus, self._pairs(corpus), captions) if self.wish.dedup else NONE
        matches = NONE if sets is None else self._matches(corpus, sets)

        def choose_once() -> None:
            rank = None if near is None else partial(self._near, corpus, near)
            choice = choose(self.wish, corpus, sets, rank, pairs, matches, captions, self.work / "tree")
            write_page(self.work / MADE, self.wish, self.shards, corpus, sets, choice)
            self._plan(corpus, choice)

        complete(self.target, choose_once, f"{WORK}/{PLAN}")
        plan = json.loads((self.work / PLAN).read_text(encoding="utf-8"))
        written = self._write(plan["kept"], self._sorted(plan["shards"]))
        complete(self.target, lambda: self._finish(before, settings, plan, written))

    def _finish(self, before: Manifest, settings: dict[str, Any], plan: dict[str, Any], written: list[dict[str, Any]]) -> None:
        """Move what was made to its place, and write the manifest. plan, written: as `_plan` and `_write` leave them."""
        for file in sorted((self.work / MADE).glob("[!.]*")):
            os.replace(file, self.target.work / file.name)
        shards = [Shard(**one["shard"]) for one in written]
        licenses = sum((Counter(one["licenses"]) for one in written), Counter[str]())
        step = Step(
            name=STEP,
            settings=settings,
            version=__version__,
            samples=sum(shard.samples for shard in shards),
            dropped=plan["dropped"],
            notes=plan["notes"],
            licenses=dict(sorted(licenses.items())),
        )
        finish(self.target, Manifest(steps=[*before.steps, step], shards=shards))

    def _run(self, pieces: Sequence[Piece], title: str) -> None:
        run_pieces(pieces, title, self.chosen, whole=self.target.work / MANIFEST)

    def _sign_corpus(self) -> Library:
        names = {f"{number:06d}.npz": shard.name for number, shard in enumerate(self.shards)}
        calls = [{"shard": str(shard)} for shard in self.shards]
        return self._sign(SIGNED, "sign_shard", names, calls)

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
        self._run(pieces, f"signatures of {name}")
        return Library.load(folder) if (folder / LISTED).is_file() else Library.make(folder, names)

    def _pairs(self, corpus: Library) -> Pairs:
        """Of the images of the corpus: of all that are compared with all, or of a large one with those of the same cells."""
        card = self.wish.card.duplicates.cells
        if len(corpus) <= card.above:
            return self._compare("pairs", corpus, corpus, self.wish.card.duplicates)
        by_embedding = self._in_cells(corpus, "embedding", card.visited)
        return load_pairs([*by_embedding, *self._in_cells(corpus, "hash", card.visited_by_hash)])

    def _in_cells(self, corpus: Library, by: By, visited: int) -> list[Path]:
        """Files of pairs in cells, which are removed when all are found."""
        card, cells = self.wish.card.duplicates, self.work / f"cells-{by}"
        centroids = cells / "centroids.npz"
        complete(
            self.target, lambda: make_centroids(corpus, by, card.cells, self.wish.seed, centroids), f"{WORK}/{cells.name}/{centroids.name}"
        )
        common = {"folder": str(corpus.folder), "by": by, "centroids": str(centroids), "visited": visited}
        divided = [{**common, "first": first, "behind": behind} for first, behind in parts(corpus)]
        indexes = self._all("cells:divide", cells.name, divided, ".npy")
        found = {"folder": str(cells), "by": by, "card": card.model_dump(mode="json")}
        numbers = range(len(read_centroids(centroids)))
        files = self._all("alike:find_pairs_in_cell", f"pairs-{by}", [{**found, "number": number} for number in numbers])
        for index in indexes:
            index.with_suffix(".entries").unlink(missing_ok=True)
        return files

    def _look_again(self, corpus: Library, pairs: Pairs, captions: WebCaptions | None) -> Pairs:
        """The pairs, and those that rounds of `again` find in addition."""
        card, before = self.wish.card.duplicates, list[Path]()
        lost_N = np.zeros(len(corpus), bool)
        if captions is not None and self.wish.agree is not None:
            lost_N = captions.lost(captions.best(self.wish.agree), len(corpus))
        for name in (f"again-{number}" for number in range(card.rounds)):
            listed = self.work / name / again.LISTED
            write = partial(again.list_pairs, corpus, pairs, lost_N, tuple(before), listed)
            complete(self.target, write, f"{WORK}/{name}/{listed.name}")
            common = {"folder": str(corpus.folder), "listed": str(listed), "card": card.model_dump(mode="json")}
            calls = [{**common, "first": first} for first in range(0, len(again.listed_pairs(listed)), again.PART)]
            if not calls:
                break
            pairs = joined([pairs, load_pairs(self._all("again:find_pairs_again", name, calls))])
            before.append(listed)
        return pairs

    def _matches(self, corpus: Library, sets: Library) -> Pairs:
        """Of images of the corpus, and those of the sets that they show."""
        card = self.wish.card.duplicates.model_copy(update={"neighbors": self.wish.card.contamination.neighbors})
        return self._compare("matches", corpus, sets, card)

    def _compare(self, name: str, corpus: Library, among: Library, card: DuplicateCard) -> Pairs:
        common = {"folder": str(corpus.folder), "among": str(among.folder), "card": card.model_dump(mode="json")}
        return load_pairs(self._all("alike:find_pairs", name, [{**common, "number": number} for number in range(len(corpus.files))]))

    def _all(self, function: str, name: str, calls: Sequence[dict[str, Any]], suffix: str = ".npz") -> list[Path]:
        """Do calls of a function of this folder as pieces; the files that they leave in the stage's own folder."""
        files = [self.work / name / f"{number:06d}{suffix}" for number in range(len(calls))]
        called = zip(calls, files, strict=True)
        self._run([Piece(f"{ROOM}.{function}", {**call, "done": str(file)}, file) for call, file in called], name)
        return files

    def _compare_captions(self, corpus: Library) -> WebCaptions:
        files, pieces = [self.work / "captions" / file for file in corpus.files], []
        common = {"folder": str(corpus.folder), "signer": asdict(self.wish.signs_with)}
        for number, (shard, file) in enumerate(zip(self.shards, files, strict=True)):
            call = {**common, "shard": str(shard), "number": number, "done": str(file)}
            pieces.append(Piece(f"{ROOM}.agreeing:compare_captions", call, file, self.wish.signer.device))
        self._run(pieces, "captions")
        return load_captions(files)

    def _near(self, corpus: Library, queries: Library, kept_N: np.ndarray) -> np.ndarray:
        """[N] the rank of each image that may be found among the nearest of a query."""
        kept, count = self.work / "may-be-near.npz", self.wish.card.near.per_query
        save_npz(kept, kept_N=kept_N)
        common = {"folder": str(corpus.folder), "queries": str(queries.folder), "kept": str(kept), "count": count}
        calls = [{**common, "first": first, "behind": behind} for first, behind in parts(corpus)]
        return nearest_rank(self._all("near:find_near", "nearest", calls), len(corpus), count)

    def _plan(self, corpus: Library, choice: Choice) -> None:
        """Note the new places of the samples that stay, and what became of the others."""
        for number in range(len(corpus.files)):
            choice.dropped.update(json.loads(str(corpus.array(number, "dropped"))))
        rows, planned, taken_out = np.flatnonzero(choice.kept_N), list[int](), choice.taken_out()
        targets_n, without = shuffle.order(len(rows), self.wish.seed), taken_out or NO_CAPTIONS
        for number in range(len(self.shards)):
            own = slice(*np.searchsorted(rows, [corpus.rows(number).start, corpus.rows(number).stop]))
            if own.start == own.stop:
                continue
            places_N, first = corpus.array(number, "places_N"), corpus.rows(number).start
            gone = without.at((without.rows_T >= first) & (without.rows_T < corpus.rows(number).stop))
            without_C2 = np.stack([places_N[gone.rows_T - first], gone.numbers_T], 1)
            plan = self.work / "plan" / f"{number:06d}.npz"
            shuffle.plan_shard(plan, places_N[rows[own] - first], targets_n[own], without_C2)
            planned.append(number)
        dropped = {name: count for name, count in sorted(choice.dropped.items()) if count}
        notes = {} if taken_out is None else {TAKEN_OUT: len(taken_out.rows_T)}
        said = {"kept": len(rows), "shards": planned, "dropped": dropped, "notes": notes}
        write_text(self.work / PLAN, json.dumps(said) + "\n", durable=True)

    def _sorted(self, planned: Sequence[int]) -> list[str]:
        """The samples that stay in sorted files, by their indexes. planned: numbers of shards."""
        sort, merge = list[Piece](), list[Piece]()
        for number in planned:
            plan, done = self.work / "plan" / f"{number:06d}.npz", self.work / "sorted" / f"{number:06d}.npy"
            call = {"shard": str(self.shards[number]), "plan": str(plan), "done": str(done)}
            sort.append(Piece(f"{ROOM}.shuffle:sort_shard", call, done))
        self._run(sort, "samples")
        if len(sort) <= shuffle.MERGED:
            return [str(piece.done) for piece in sort]
        for first in range(0, len(sort), shuffle.MERGED):
            done = self.work / "merged" / f"{first:06d}.npy"
            indexes = [str(piece.done) for piece in sort[first : first + shuffle.MERGED]]
            merge.append(Piece(f"{ROOM}.shuffle:merge", {"indexes": indexes, "done": str(done)}, done))
        self._run(merge, "sorted samples")
        return [str(piece.done) for piece in merge]

    def _write(self, kept: int, indexes: Sequence[str]) -> list[dict[str, Any]]:
        """The new shards, in a new order, and the licenses in each. kept: the number of samples. indexes: of sorted files."""
        samples = self.wish.card.samples
        files = [self.work / "shards" / f"{number:06d}.json" for number in range(-(-kept // samples))]
        pieces = []
        for number, file in enumerate(files):
            call = {"indexes": list(indexes), "number": number, "samples": samples}
            call |= {"shard": str(self.work / MADE / f"{number:06d}.tar"), "done": str(file), "to": self.target.destination}
            pieces.append(Piece(f"{ROOM}.shuffle:put_together", call, file))
        self._run(pieces, "shards")
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]
