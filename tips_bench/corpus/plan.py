"""What a step of a corpus would do, counted before anything is written: `corpus fetch|caption|curate --dry-run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tips_bench.corpus.caption import Wish as CaptionWish
from tips_bench.corpus.curation.curate import signed
from tips_bench.corpus.curation.wish import Wish as CurationWish
from tips_bench.corpus.filters import Limits
from tips_bench.corpus.sources.base import Source
from tips_bench.corpus.storage import read_if_there
from tips_bench.corpus.store import MANIFEST, load_manifest, shards_of, tars
from tips_bench.training.shard_index import load_indexes

Plan = dict[str, int]
"""What -> how many."""


def fetch_plan(source: Source, target: Path, limits: Limits, size: int) -> Plan:
    """Shards to write, of `size` samples of the source each, and those of them that are there. Errors: those of the source."""
    limits.check()
    shards = sum(1 for _ in source.parts(size))
    return {"shards to write": shards, "samples of the source, at most": shards * size, **_done(target, shards)}


def caption_plan(source: Path, target: Path, wish: CaptionWish) -> Plan:
    """Images, and the questions that they lead to if no answer is kept yet. Errors: those of the corpus and of the wish."""
    wish.check()
    shards = shards_of(source)
    images = _samples(source, shards)
    return {
        "shards": len(shards),
        "images": images,
        "questions to the captioner, at most": images * len(wish.prompts),
        **_done(target, len(shards)),
    }


def curation_plan(source: Path, target: Path, wish: CurationWish) -> Plan:
    """Images that are looked at, and those that go through the encoder; and shards of which nothing is to be looked at any more.

    What lies in the work folder of a target in object storage is not counted. Errors: those of the corpus and of the wish.
    """
    wish.check()
    shards = shards_of(source)
    images = _samples(source, shards)
    against, near = (sum(one.count for one in sets) for sets in (wish.against, wish.near))
    return {
        "shards": len(shards),
        "images of the corpus": images,
        "test images to keep out": against,
        "images to stay near to": near,
        "images through the encoder, at most": images + against + near,
        **({} if wish.agree is None else {"images whose web captions are compared with them": images}),
        "images to keep, at most": min(images, wish.keep or (images // 2 if wish.balance else images)),
        "shards that were looked at already": min(len(shards), len(shards) if _is_whole(target) else len(signed(target))),
    }


def _samples(source: Path, shards: Sequence[Path]) -> int:
    """By the manifest, or else by the shards' headers."""
    manifest = load_manifest(source)
    if manifest is not None:
        return sum(shard.samples for shard in manifest.shards)
    return sum(index.samples for index in load_indexes(shards))


def _done(target: Path, shards: int) -> Plan:
    written = shards if _is_whole(target) else len(tars(target))
    return {"shards that are written already": min(written, shards)}


def _is_whole(target: Path) -> bool:
    return read_if_there(target / MANIFEST) is not None
