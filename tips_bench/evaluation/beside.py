"""What an evaluation makes beside the family's own counts and the record: other metrics, predictions, the fitted head."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from glob import escape
from pathlib import Path
from typing import Any

from tips_bench.adapters.base import Adapter
from tips_bench.errors import UserError
from tips_bench.evaluation.spec import Spec
from tips_bench.files import sha256, sync
from tips_bench.metrics.samples import SampleCounts
from tips_bench.registry import FAMILIES, METRICS
from tips_bench.results.kept_head import has_head, head_file
from tips_bench.results.predictions import predictions_folder
from tips_bench.results.record import Record


def metrics_beside(spec: Spec, adapter: Adapter, names: list[str]) -> dict[str, type[SampleCounts]]:
    """The classes of metrics by name.

    Errors: an unknown name, one that is not for the task's family, a family whose predictions nobody else counts, a number that is
    there already.
    """
    if not names:
        return {}
    found = {name: METRICS.get(name, where="--metrics") for name in names}
    if not adapter.observed:
        problem = f"{spec.task.family} has no metrics beside its own"
        raise UserError(problem, where=f"task {spec.task.name}", fix="Leave --metrics out, or name other tasks.")
    numbers = Counter(number for counts in (FAMILIES.get(spec.task.family).counts_class(), *found.values()) for number in counts.specs)
    twice = [number for number, times in numbers.items() if times > 1]
    if twice:
        raise UserError(f"two metrics give a number named {twice[0]!r}", where="--metrics", fix="Leave one of them out.")
    for name, counts in found.items():
        if spec.task.family not in counts.families:
            problem = f"the metric {name!r} is for {', '.join(counts.families)}, not for {spec.task.family}"
            raise UserError(problem, where=f"task {spec.task.name}", fix="Leave it out, or name other tasks.")
    return found


def check_predictions(spec: Spec, adapter: Adapter, wanted: bool) -> None:
    """Errors: predictions are wanted of a family that gives none."""
    if wanted and not adapter.observed:
        problem = f"{spec.task.family} has no prediction of a sample to keep"
        raise UserError(problem, where=f"task {spec.task.name}", fix="Leave --predictions out, or name other tasks.")


def check_head(spec: Spec, adapter: Adapter, wanted: bool) -> None:
    """Errors: a head is wanted where nothing is fitted, or where it is the training split's features."""
    if not wanted:
        return
    if adapter.probe is None:
        problem = f"nothing is fitted under {spec.protocol.name}, so there is no head to keep"
    elif getattr(adapter.probe, "is_memory", False):
        problem = f"the head under {spec.protocol.name} is the features of all training images, which are not kept"
    else:
        return
    raise UserError(problem, where=f"task {spec.task.name}", fix="Leave --keep-head out, or choose another task or protocol.")


def place_head(head: Any, record: Path) -> str:
    """Write the fitted head beside the record in a file; returns the hex SHA-256 of what was written."""
    path = head_file(record)
    head.save(path)
    sync(path)
    return sha256(path)


def place_predictions(work: Path, record: Path) -> None:
    """Move predictions from the work folder to where those of the record in a file lie, in place of earlier ones."""
    place = predictions_folder(record)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(work, place)


def lacking(path: Path, record: Record, *, pictures: int, predictions: bool, keep_head: bool, metrics: Iterable[str]) -> list[str]:
    """What is asked for and does not lie beside the record in this file, in words. pictures: so many."""
    return [
        *([] if record.has_pictures(pictures) else [f"it has {len(record.pictured)} of {pictures} pictures"]),
        *(["it has no predictions"] if predictions and not predictions_folder(path).is_dir() else []),
        *(["its fitted head was not kept"] if keep_head and not has_head(record) else []),
        *(f"it has no {name}" for name in metrics if name not in record.beside),
    ]


def remove_pictures(record: Path, names: Iterable[str]) -> None:
    """Remove pictures beside a record, and what was saved under their names, as point clouds are."""
    for name in names:
        for file in record.parent.glob(f"{escape(name.removesuffix('.png'))}.*"):
            file.unlink(missing_ok=True)
