"""Records in Every Eval Ever's format, version 0.3.0: evaleval/every_eval_ever 9bce413, every_eval_ever/schemas/eval.schema.json.

One JSON file a record, under data/BENCHMARK/DEVELOPER/MODEL/UUID.json (validator/validation_core.py:175). The name comes from the
record's content, so that the same record is the same file, however often it is exported. Every metric keeps its interval.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Literal

from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.results.exchange.hugging_face import scored
from tips_bench.results.record import MetricValue, Record
from tips_bench.results.reproduce import command
from tips_bench.results.statistics import LEVEL, RESAMPLES

SCHEMA_VERSION = "0.3.0"
Relationship = Literal["first_party", "third_party", "collaborative", "other"]


def place(record: Record, developer: str | None) -> PurePosixPath:
    """Where its file belongs in a store."""
    owner, model = model_id(record, developer).split("/", 1)
    name = uuid.UUID(hex=digest(json.dumps(record.model_dump(mode="json"), sort_keys=True))[:32], version=4)
    return PurePosixPath("data", "tips-bench", owner, model, f"{name}.json")


def aggregate(record: Record, organization: str, relationship: Relationship, developer: str | None) -> dict[str, Any]:
    """The content of the file. organization: who ran the evaluation. relationship: theirs to those who made the model.

    developer: who made models whose card names no repository. Errors: such a model, and no developer.
    """
    id = model_id(record, developer)
    weights = record.cards["model"].get("weights") or {}
    public = record.weights is None and bool(weights.get("url") or weights.get("hub"))
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"tips-bench.{record.task}.{record.protocol}-{record.protocol_hash[:8]}/{id}/{_seconds(record)}",
        "evaluation_timestamp": record.created,
        "retrieved_timestamp": str(_seconds(record)),
        "source_metadata": {
            "source_name": "tips-bench",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": relationship,
        },
        "eval_library": {
            "name": "tips-bench",
            "version": record.versions.get("tips-bench", "unknown"),
            "additional_details": {
                "protocol": record.protocol,
                "protocol_hash": record.protocol_hash,
                "command": command(record),
                "git_commit": record.git_commit or "unknown",
                "comparable": str(record.comparable).lower(),
                "deviations": "; ".join(map(str, record.deviations)),
            },
        },
        "model_info": {
            "name": record.model_name,
            "id": id,
            "developer": id.split("/")[0],
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "open_weights" if public else "unknown",
                "weights_sha256": record.weights_sha256,
            },
        },
        "evaluation_results": [_result(record, name, metric) for name, metric in scored(record)],
    }


def check_developers(records: Sequence[Record], developer: str | None) -> None:
    """Errors: models whose card names no repository, all of them, and no developer."""
    unknown = sorted({record.model_name for record in records if not _repository(record)})
    if unknown and not developer:
        problem = f"Every Eval Ever wants to know who made {', '.join(unknown)}, and the cards name no repository"
        raise UserError(problem, fix="Name who made them: --developer my-lab. It counts for these models alone.")


def model_id(record: Record, developer: str | None) -> str:
    """ "owner/model" as on the Hugging Face Hub where the model's card names it, else "developer/MODEL". Errors: as `aggregate`."""
    check_developers([record], developer)
    return _repository(record) or f"{_portable(str(developer))}/{_portable(record.model_name)}"


def _repository(record: Record) -> str:
    """As the model's card names it; "" where it names none, or where other weights were used."""
    hub = (record.cards["model"].get("weights") or {}).get("hub")
    return hub if isinstance(hub, str) and hub.count("/") == 1 and record.weights is None else ""


def _result(record: Record, name: str, metric: MetricValue) -> dict[str, Any]:
    card = record.cards["task"]
    low, high = bounds(metric)
    score: dict[str, Any] = {"score": metric.value, "uncertainty": {"num_samples": metric.n}}
    if metric.ci95:
        lower, upper = metric.ci95
        score["uncertainty"]["confidence_interval"] = {
            "lower": lower,
            "upper": upper,
            "confidence_level": LEVEL,
            "method": "bootstrap over groups of samples",
        }
        score["uncertainty"]["num_bootstrap_samples"] = RESAMPLES
    source = {"source_type": "url", "url": [card["homepage"]]} if card.get("homepage") else {"source_type": "other"}
    return {
        "evaluation_result_id": f"{record.task}/{record.protocol}-{record.protocol_hash[:8]}/{name}",
        "evaluation_name": record.task,
        "source_data": {
            "dataset_name": record.task,
            **source,
            "additional_details": {"split": record.dataset.split, "fingerprint": record.dataset.fingerprint},
        },
        "evaluation_timestamp": record.created,
        "metric_config": {
            "evaluation_description": str(card.get("title", record.task)),
            "metric_id": f"tips-bench.{record.family}.{name}",
            "metric_name": name,
            "metric_unit": {"%": "percent", "": "proportion"}.get(metric.unit, metric.unit),
            "lower_is_better": not metric.higher_is_better,
            "score_type": "continuous",
            "min_score": low,
            "max_score": high,
        },
        "score_details": score,
    }


def bounds(metric: MetricValue) -> tuple[float | str, float | str]:
    """The least and the greatest value that a metric can have: percents end at 100, errors begin at 0."""
    if metric.unit == "%":
        return 0.0, 100.0
    return ("-Infinity" if metric.higher_is_better else 0.0), "Infinity"


def _portable(name: str) -> str:
    """A folder's name on every system."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).strip(". ") or "unknown"


def _seconds(record: Record) -> int:
    """Since 1970, of a record's time."""
    try:
        return int(datetime.fromisoformat(record.created).timestamp())
    except (ValueError, OverflowError):
        fix = "Run the evaluation again."
        raise UserError(f"the record says it was made at {record.created!r}, which is no time", where=record.path, fix=fix) from None
