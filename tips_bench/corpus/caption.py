"""`tips-bench corpus caption`: captions for the images of a corpus, by a captioner that answers prompts.

A step of pieces, one a shard. Samples keep their order, their images and what else is known of them; "synthetic" gets a caption for each
prompt, in the order of the prompts. TIPS trains with one such caption beside the web caption; TIPSv2 draws one of a short one and a long
one (recipes/).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tips_bench import __version__
from tips_bench.catalog import cache_root
from tips_bench.corpus.caption_asked import Failed
from tips_bench.corpus.captioners.base import Pace
from tips_bench.corpus.captioners.choose import captioner_identity, uses_gpu
from tips_bench.corpus.card import finish
from tips_bench.corpus.hashes import hashes_of
from tips_bench.corpus.pieces import Piece, begin, complete, run_pieces
from tips_bench.corpus.storage import address
from tips_bench.corpus.store import MANIFEST, Manifest, Shard, Step, load_manifest, remove_shard, shards_of, write_dropped
from tips_bench.corpus.target import Target, opened
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen
from tips_bench.executors.local import jobs_at_once
from tips_bench.files import digest
from tips_bench.prompt_card import SYNTHETIC, PromptCard

STEP = "caption"
RECORDS = ".captions"
GIVE_UP = 20  # images in a row without a caption that end the step


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    captioner: as --captioner says it. failed: what happens to a sample that lacks a caption. add: captions come behind the synthetic ones
    that are there, not in their place.
    """

    captioner: str
    prompts: tuple[PromptCard, ...]
    failed: Failed = "drop"
    add: bool = False

    def check(self) -> None:
        """Errors: a prompt twice, a prompt made from a caption that nothing gives."""
        names = [card.name for card in self.prompts]
        if twice := [name for name, number in Counter(names).items() if number > 1]:
            raise UserError(f"{twice[0]!r} is named twice", where="--prompt", fix="Name each prompt once.")
        if SYNTHETIC in self.prompts[0].used() and not self.add:
            fix = f"Name a prompt before it, as in --prompt short,{names[0]}, or use --add if the corpus has synthetic captions."
            raise UserError(f"{names[0]!r} is made from another caption of the image", where="--prompt", fix=fix)


def caption(
    source: Path,
    target: Path,
    wish: Wish,
    *,
    cache: Path | None = None,
    works: Path | None = None,
    pace: Pace | None = None,
    give_up: int = GIVE_UP,
    chosen: Chosen | None = None,
) -> tuple[Manifest, int]:
    """Caption a corpus; its manifest, and how many questions its pieces put to the captioner when they were done, 0 if it was done before.

    cache: folder for answers; None = that of tips-bench. give_up: 0 = never. chosen: the executor; None = this process.
    works: where a target in object storage has its work folder. Errors: those of the captioner, of `opened`, of `begin` and of the pieces;
    not a single caption.
    """
    wish.check()
    pace = shared_pace(pace or Pace(), chosen)
    with opened(target, works, RECORDS) as place:
        return _caption(source, place, wish, cache or cache_root() / "captions", pace, give_up, chosen)


def _caption(
    source: Path, target: Target, wish: Wish, cache: Path, pace: Pace, give_up: int, chosen: Chosen | None
) -> tuple[Manifest, int]:
    before, shards = load_manifest(source) or Manifest(), shards_of(source)
    identity = captioner_identity(wish.captioner)
    hashes = hashes_of(before, shards, chosen)
    settings = {
        "captioner": identity,
        "prompts": [{**card.model_dump(mode="json"), "sha256": card.digest()} for card in wish.prompts],
        "failed": wish.failed,
        "add": wish.add,
    }
    own = cache / digest(identity)[:16]
    pieces = [_piece(path, target, wish, own, pace, give_up) for path in shards]
    decisive = {**settings, "prompts": [card.digest() for card in wish.prompts], "source": hashes}
    if begin(target, STEP, decisive):
        return load_manifest(target.folder) or Manifest(), 0
    target.recover(target.work / RECORDS)
    run_pieces(pieces, "captions", chosen, whole=target.work / MANIFEST)
    results = [json.loads(piece.done.read_text(encoding="utf-8")) for piece in pieces]
    complete(target, lambda: _end(before, settings, target, results))
    return load_manifest(target.folder) or Manifest(), sum(one["asked"] for one in results)


def shared_pace(pace: Pace, chosen: Chosen | None) -> Pace:
    """The pace of each process, so that all of them together keep to `per_minute`. Errors: nobody knows how many there will be."""
    if pace.per_minute is None or chosen is None:
        return pace
    if chosen.name == "local":
        processes = jobs_at_once(pace.device, chosen.at_once)
    elif chosen.name == "slurm" and chosen.values.get("array_parallelism"):
        processes = int(chosen.values["array_parallelism"])
    else:
        fix = "Use --on local --jobs N, or --on slurm --slurm array_parallelism=N, or leave it out."
        raise UserError(f"a limit needs to know how many processes --on {chosen.name} has at a time", where="--per-minute", fix=fix)
    return replace(pace, per_minute=pace.per_minute / processes)


def _piece(path: Path, target: Target, wish: Wish, cache: Path, pace: Pace, give_up: int) -> Piece:
    done = target.work / RECORDS / f"{path.name}.json"
    cards = [card.model_dump(mode="json") for card in wish.prompts]
    arguments = {
        "source": address(path),
        "target": str((target.work / path.name).absolute()),
        "to": target.destination,
        "done": str(done.absolute()),
        "captioner": wish.captioner,
        "prompts": cards,
        "failed": wish.failed,
        "add": wish.add,
        "cache": str(cache.absolute()),
        "pace": asdict(pace),
        "give_up": give_up,
    }
    device = pace.device if uses_gpu(wish.captioner) else "cpu"
    return Piece("tips_bench.corpus.caption_shard:caption_shard", arguments, done, device)


def _end(before: Manifest, settings: dict[str, Any], target: Target, results: Sequence[dict[str, Any]]) -> None:
    """Write the manifest. Shards without a sample are left out. Errors: nothing is left."""
    shards = [Shard.model_validate(one["shard"]) for one in results]
    counted = {name: sum((Counter(one[name]) for one in results), Counter[str]()) for name in ("notes", "licenses")}
    counted["dropped"] = Counter(reason for one in results for _, reason, _ in one["dropped"])
    write_dropped(target.work, (line for one in results for line in one["dropped"]))
    samples = sum(shard.samples for shard in shards)
    if not samples:
        said = ", ".join(f"{number} {reason}" for reason, number in counted["dropped"].most_common())
        raise UserError(
            f"no image got a caption ({said})", where=target.folder, fix="Delete the folder, and try another captioner or prompt."
        )
    for shard in shards:
        if not shard.samples:
            remove_shard(target.work / shard.name)
    step = Step(
        name=STEP,
        settings=settings,
        version=__version__,
        samples=samples,
        dropped=dict(sorted(counted["dropped"].items())),
        notes=dict(sorted(counted["notes"].items())),
        licenses=dict(sorted(counted["licenses"].items())),
    )
    finish(target, Manifest(steps=[*before.steps, step], shards=[shard for shard in shards if shard.samples]))
