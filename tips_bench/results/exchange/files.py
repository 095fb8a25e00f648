"""Which files an export writes, and which records may leave."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from tips_bench.errors import UserError
from tips_bench.results.exchange import every_eval_ever, hugging_face
from tips_bench.results.exchange.every_eval_ever import Relationship
from tips_bench.results.record import Record

Format = Literal["hugging-face", "model-index", "every-eval-ever", "csv", "csv-long"]
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Origin:
    """Who exports, and to whom.

    benchmark: the data set on the Hugging Face Hub that stands for tips-bench, "owner/name". source_url: where the records can be read.
    organization: who ran the evaluations, and relationship: theirs to those who made the models. developer: who made models
    whose card names no repository.
    """

    benchmark: str | None = None
    source_url: str | None = None
    organization: str | None = None
    relationship: Relationship = "third_party"
    developer: str | None = None


def may_leave(records: Sequence[Record], *, deviating: bool) -> tuple[list[Record], list[Record]]:
    """(those to export, those to hold back): where only a number is read, one under other conditions would pass for the protocol's own."""
    kept = [record for record in records if deviating or record.comparable]
    return kept, [record for record in records if not (deviating or record.comparable)]


def exported(records: Sequence[Record], format: Format, origin: Origin) -> Iterator[tuple[PurePosixPath, str]]:
    """Files, relative to the export's folder, and their text. Errors: what a format needs to know and `origin` does not say."""
    if format == "hugging-face":
        yield from _hugging_face(records, origin)
    elif format == "model-index":
        for model, own in _by_model(records):
            yield _folder(model) / "README.md", hugging_face.model_index(own, model, origin.source_url)
    elif format == "every-eval-ever":
        if not origin.organization:
            raise UserError("Every Eval Ever wants to know who ran the evaluations", fix="Name them: --organization 'Your lab'.")
        every_eval_ever.check_developers(records, origin.developer)
        for record in records:
            content = every_eval_ever.aggregate(record, origin.organization, origin.relationship, origin.developer)
            yield every_eval_ever.place(record, origin.developer), json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        yield from _csv(records, whole=format == "csv-long")


def _csv(records: Sequence[Record], *, whole: bool) -> Iterator[tuple[PurePosixPath, str]]:
    """whole: a row a metric, with all that `load_records` gives; else a row a model, and what its columns are."""
    from tips_bench.results.exchange.sheet import sheet
    from tips_bench.results.frames import metrics_frame, to_csv

    if whole:
        yield PurePosixPath("results-long.csv"), to_csv(metrics_frame(records).drop(columns="path"))
        return
    rows, columns = sheet(records)
    yield PurePosixPath("results.csv"), to_csv(rows)
    yield PurePosixPath("columns.csv"), to_csv(columns)


def _hugging_face(records: Sequence[Record], origin: Origin) -> Iterator[tuple[PurePosixPath, str]]:
    if not REPOSITORY.fullmatch(origin.benchmark or ""):
        fix = "Name it: --benchmark OWNER/DATASET. The export writes the eval.yaml that belongs into it."
        raise UserError("on the Hugging Face Hub a number belongs to a benchmark, which is a data set there", fix=fix)
    assert origin.benchmark is not None
    yield PurePosixPath("benchmark", "eval.yaml"), hugging_face.benchmark_file(records)
    for record in records:
        if record.primary_metric.value != record.primary_metric.value:
            continue  # not scored
        name = f"{record.task}-{record.protocol}-{record.protocol_hash[:8]}.yaml"
        text = hugging_face.eval_results(record, origin.benchmark, origin.source_url)
        yield _folder(record.model_name) / ".eval_results" / name, text


def _by_model(records: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    names = sorted({record.model_name for record in records})
    return [(name, [record for record in records if record.model_name == name]) for name in names]


def _folder(model: str) -> PurePosixPath:
    """A model's folder: its name without what other systems forbid."""
    return PurePosixPath("models", re.sub(r"[^A-Za-z0-9._@+-]", "-", model).strip(".") or "model")
