"""`corpus fetch`: samples of any source into the shards of a corpus, with the facts of each image and within limits.

Samples keep the order of the source. A shard is made of `size` samples of it, and holds those that stay. Beside the shards:

    dropped.jsonl     name, reason and detail of each sample that was left out
    .fetch/           while it is not whole: the parts of the source, and what is known of shards that are written
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tips_bench import __version__
from tips_bench.corpus.card import finish
from tips_bench.corpus.facts import decoded, facts, other_format, without_places
from tips_bench.corpus.filters import Limits, beyond_text, load_classifier, passing
from tips_bench.corpus.pieces import Piece, begin, complete, run_pieces
from tips_bench.corpus.smaller import smaller
from tips_bench.corpus.sources.base import Found, Source
from tips_bench.corpus.store import (
    DROPPED,
    LICENSES,
    MANIFEST,
    Manifest,
    Sample,
    Shard,
    Step,
    license_of,
    load_manifest,
    remove_shard,
    with_licenses,
    write_dropped,
    write_shard,
)
from tips_bench.corpus.target import Destination, Target, bring, opened
from tips_bench.corpus.user_code import as_it_is
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen
from tips_bench.files import write_text
from tips_bench.registry import load_target
from tips_bench.training.shards import SampleFault

WORK = ".fetch"


def fetch(
    source: Source,
    target: Path,
    limits: Limits,
    *,
    size: int,
    license: str | None,
    chosen: Chosen | None,
    most_side: int | None = None,
    works: Path | None = None,
) -> Manifest:
    """The manifest of the corpus in `target`, made now or taken up where it stopped.

    license: of samples that state none. most_side: longer sides of images are made as short, in pixels.
    works: where a target in object storage has its work folder. Errors: those of the source, of `opened`, of `begin` and of the pieces; not
    one sample stays.
    """
    limits.check()
    settings: dict[str, Any] = {
        "source": source.identity(),
        "limits": limits.model_dump(mode="json"),
        "samples_per_shard": size,
        "license": license,
    }
    settings |= {} if most_side is None else {"most_side": most_side}
    if limits.classifier is not None:
        settings["classifier"] = as_it_is(limits.classifier, load_classifier(limits.classifier))
    with opened(target, works, WORK) as place:
        _fetch(source, place, settings, chosen)
    manifest = load_manifest(target)
    assert manifest is not None
    return manifest


def _fetch(source: Source, target: Target, settings: dict[str, Any], chosen: Chosen | None) -> None:
    work = target.work / WORK
    if not begin(target, "fetch", settings):
        parts = _write_parts(source, work, settings["samples_per_shard"])
        target.recover(work)
        given = {"target": str(target.work.absolute()), "read": source.read, "manner": source.manner, "to": target.destination}
        given |= {"limits": settings["limits"], "license": settings["license"], "most_side": settings.get("most_side")}
        pieces = [
            Piece("tips_bench.corpus.fetch:fetch_part", {**given, "number": number}, work / f"{number:05d}.json") for number in range(parts)
        ]
        run_pieces(pieces, "fetch", chosen, whole=target.work / MANIFEST)
        complete(target, lambda: _finish(source, target, settings, [piece.done for piece in pieces]))
    shutil.rmtree(work, ignore_errors=True)


def _write_parts(source: Source, work: Path, size: int) -> int:
    """The number of parts of a source, each written to a file of its own, the number last."""
    whole = work / "parts"
    if not whole.is_file():
        number = 0
        for part in source.parts(size):
            write_text(work / f"{number:05d}.part", json.dumps(part))
            number += 1
        write_text(whole, f"{number}\n", durable=True)
    return int(whole.read_text())


def fetch_part(
    target: str,
    number: int,
    read: str,
    manner: dict[str, Any],
    limits: dict[str, Any],
    license: str | None,
    most_side: int | None,
    to: Destination | None,
) -> None:
    """A piece: the samples of one part as a shard, brought `to` object storage or left in `target`.

    Errors: those of the source's `read`, of a classifier and of `bring`.
    """
    folder, dropped, within = Path(target), list[tuple[str, str, str]](), Limits(**limits)
    part = json.loads((folder / WORK / f"{number:05d}.part").read_text(encoding="utf-8"))
    licenses, notes = Counter[str](), Counter[str]()
    names: dict[str, str] = {}
    found = load_target(read)(lambda said: beyond_text(said, within), **manner, **part)
    known = _samples(found, number, license, names, dropped)
    limited = passing(known, within, lambda one, reason: dropped.append((names[one.key], reason, "")))
    path = folder / f"{number:05d}.tar"
    shard = write_shard(path, with_licenses(smaller(limited, most_side, lambda note: notes.update([note])), licenses))
    if not shard.samples:
        remove_shard(path)
    made = shard.model_dump(mode="json") if shard.samples else None
    said = {"shard": made, "dropped": dropped, "licenses": licenses, "notes": notes}
    bring(path, said, folder / WORK / f"{number:05d}.json", to)


def _samples(
    found: Iterator[Found], part: int, license: str | None, names: dict[str, str], dropped: list[tuple[str, str, str]]
) -> Iterator[Sample]:
    """Those with an image that training can decode. names: gets the name of each by its key."""
    for number, one in enumerate(found):
        fault, detail = one.fault, one.detail
        if not fault and (other := other_format(one.image)):
            fault, detail = "format not read", other
        try:
            extension, width, height = decoded(one.image) if not fault else ("", 0, 0)
        except SampleFault as error:
            fault = str(error)
        if fault:
            dropped.append((one.name, fault, detail))
            continue
        key = f"{part:05d}{number:05d}"
        names[key] = one.name
        yield Sample(key, one.image, extension, _licensed(without_places(one.said), license) | facts(one.image, width, height))


def _licensed(said: dict[str, Any], license: str | None) -> dict[str, Any]:
    """What is said of a sample, its license under "license", without what img2dataset says of its own work. license: if it states none."""
    stated = license_of(said) or license
    own = ("key", "status", "error_message", *(name for name in said if stated is not None and name.lower() in LICENSES))
    return {name: value for name, value in said.items() if name not in own} | ({} if stated is None else {"license": stated})


def _said(done: list[Path]) -> Iterator[dict[str, Any]]:
    """What the pieces say, one after another: of a billion links, what was dropped does not fit into memory."""
    return (json.loads(path.read_text(encoding="utf-8")) for path in done)


def _finish(source: Source, target: Target, settings: dict[str, Any], done: list[Path]) -> None:
    """Gather what the pieces say, and write the manifest."""
    shards, dropped, licenses, notes = list[Shard](), Counter[str](), Counter[str](), Counter[str]()
    for said in _said(done):
        shards += [] if said["shard"] is None else [Shard(**said["shard"])]
        dropped.update(reason for _, reason, _ in said["dropped"])
        licenses.update(said["licenses"])
        notes.update(said["notes"])
    write_dropped(target.work, (line for said in _said(done) for line in said["dropped"]))
    if not shards:
        counts = ", ".join(f"{number} {reason}" for reason, number in dropped.most_common(3)) or "the source is empty"
        fix = f"{DROPPED} names them. Change the limits and the folder."
        raise UserError(f"not one sample stays: {counts}", where=target.work, fix=fix)
    step = Step(
        name="fetch",
        settings=settings,
        version=__version__,
        samples=sum(shard.samples for shard in shards),
        dropped=dict(dropped.most_common()),
        notes=dict(notes),
        licenses=dict(licenses),
    )
    finish(target, Manifest(steps=[*source.steps(), step], shards=shards))
