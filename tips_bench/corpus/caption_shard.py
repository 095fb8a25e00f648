"""The captions of one shard: each image is asked about once for each prompt, then the shard is written with what was answered.

First every question is answered, many at a time and in any order; then the shard is read again and written in its own order, so that the
same answers give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tips_bench.corpus.caption_asked import Asked, Described, Failed
from tips_bench.corpus.caption_cache import AnswerCache
from tips_bench.corpus.caption_desk import open_desk
from tips_bench.corpus.captioners.base import Pace
from tips_bench.corpus.storage import at_hand
from tips_bench.corpus.store import Sample, is_key, read_samples, with_licenses, write_shard
from tips_bench.corpus.target import Destination, bring
from tips_bench.prompt_card import SYNTHETIC, PromptCard
from tips_bench.training.shard_files import shard_path
from tips_bench.training.shard_index import index_shard


def caption_shard(
    source: str,
    target: str,
    done: str,
    *,
    captioner: str,
    prompts: list[dict[str, Any]],
    failed: Failed,
    add: bool,
    cache: str,
    pace: dict[str, Any],
    give_up: int,
    to: Destination | None,
) -> None:
    """Write the shard `target` and, last, the file `done`: the shard as the manifest names it, what was dropped and counted.

    to: object storage that the shard is brought to; None = it stays.
    captioner: as --captioner says it. prompts: cards. failed: what happens to a sample that lacks a caption. add: behind the captions that
    are there, not in their place. cache: folder of the captioner's answers. pace: fields of Pace. give_up: faults in a row that end it all.
    Errors: those of the captioner, of its desk and of `bring`.
    """
    cards = [PromptCard.model_validate(card) for card in prompts]
    desk = open_desk(captioner, Pace(**pace), give_up)
    dropped, notes, licenses = list[tuple[str, str]](), Counter[str](), Counter[str]()
    with at_hand(shard_path(source)) as shard:
        with AnswerCache(Path(cache)) as answers:
            asked = Asked(desk, cards, answers, failed, add)
            described = asked.all(shard)
        samples = _with_captions(shard, described, failed, dropped, notes)
        written = write_shard(Path(target), with_licenses(samples, licenses))
    counts = {"notes": dict(sorted(notes.items())), "licenses": dict(sorted(licenses.items())), "asked": asked.number}
    named = [(f"{shard.name}/{key}", reason, "") for key, reason in dropped]
    bring(Path(target), {"shard": written.model_dump(mode="json"), "dropped": named, **counts}, Path(done), to)


def _with_captions(
    shard: Path, described: Sequence[Described], failed: Failed, dropped: list[tuple[str, str]], notes: Counter[str]
) -> Iterator[Sample]:
    """The samples that stay. If a key has a folder or comes twice, all get new ones by place in the shard; `origin` has the old one."""
    names = [entry.key for entry in index_shard(shard)]
    anew = len(set(names)) < len(names) or not all(map(is_key, names))
    for place, (sample, one) in enumerate(zip(read_samples(shard, dropped), described, strict=True)):
        if one.faults and failed == "drop":
            dropped.append((sample.key, one.faults[0]))
            continue
        notes.update([*one.notes, *one.faults])
        others = {name: value for name, value in sample.said.items() if name != SYNTHETIC}
        said = others | ({SYNTHETIC: one.captions} if one.captions else {})
        if anew:
            yield replace(sample, key=f"{place:06d}", said={"origin": f"{shard.name}/{sample.key}"} | said)
        else:
            yield replace(sample, said=said)
