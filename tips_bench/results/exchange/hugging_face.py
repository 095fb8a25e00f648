"""Records as a model repository on the Hugging Face Hub states its evaluations.

`.eval_results/*.yaml` is the present form: huggingface/hub-docs 242f4a1, eval_results.yaml and docs/hub/eval-results.md. A number there
belongs to a task of a benchmark, which is a data set on the hub with an `eval.yaml`. `model-index` is the older form, in the head of
README.md. Both are built by huggingface_hub's own classes. Neither has a place for an interval: it stands in the notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from tips_bench.results.record import MetricValue, Record


def task_id(record: Record) -> str:
    """The name of a task in a benchmark's `eval.yaml`: a task under a protocol, since only those numbers compare."""
    return f"{record.task}/{record.protocol}-{record.protocol_hash[:8]}"


def eval_results(record: Record, benchmark: str, source_url: str | None) -> str:
    """The text of one `.eval_results` file. benchmark: "owner/dataset" on the hub. source_url: where the records can be read."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entry = EvalResultEntry(
        dataset_id=benchmark,
        task_id=task_id(record),
        value=record.primary_metric.value,
        date=record.created,
        source_url=source_url,
        source_name=source_url and "tips-bench records",
        notes=notes(record),
    )
    return _yaml(eval_result_entries_to_yaml([entry]))


def benchmark_file(records: Sequence[Record]) -> str:
    """The text of `eval.yaml` for the data set that is the benchmark: a task for each task and protocol of the records."""
    tasks = sorted({(task_id(record), record.dataset.split) for record in records})
    return _yaml(
        {
            "name": "tips-bench",
            "description": "Frozen vision encoders on dense prediction, retrieval and classification.",
            "evaluation_framework": "tips-bench",
            "tasks": [{"id": id, "config": "default", "split": split} for id, split in tasks],
        }
    )


def model_index(records: Sequence[Record], model: str, source_url: str | None) -> str:
    """The head of a model's README.md with `model-index`, of records of one model."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=record.family,
            task_name=str(record.cards["task"].get("title", record.task)),
            dataset_type=record.task,
            dataset_name=str(record.cards["task"].get("title", record.task)),
            dataset_split=record.dataset.split,
            metric_type=name,
            metric_name=f"{name} ({record.protocol})",
            metric_value=metric.value,
            metric_args={"protocol": record.protocol, "protocol_hash": record.protocol_hash, "unit": metric.unit, "ci95": _ends(metric)},
            source_name="tips-bench records" if source_url else None,
            source_url=source_url,
        )
        for record in records
        for name, metric in scored(record)
    ]
    return f"---\n{ModelCardData(model_name=model, eval_results=results).to_yaml()}\n---\n"


def scored(record: Record) -> list[tuple[str, MetricValue]]:
    """The metrics that have a value, the primary one first."""
    found = [(name, metric) for name, metric in record.metrics.items() if metric.value == metric.value]
    return sorted(found, key=lambda item: item[0] != record.primary)


def notes(record: Record) -> str:
    """What a reader has to know of a record's primary number, in a line."""
    metric = record.primary_metric
    said = [f"{record.primary} in {metric.unit}" if metric.unit else record.primary, f"protocol {record.protocol}", f"n = {metric.n}"]
    if metric.ci95:
        said.insert(1, f"95 % interval {metric.ci95[0]:.4g} to {metric.ci95[1]:.4g}")
    said += [f"differs from the protocol: {one}" for one in record.deviations]
    return "; ".join(said)


def _ends(metric: MetricValue) -> list[float] | None:
    return list(metric.ci95) if metric.ci95 else None


def _yaml(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
