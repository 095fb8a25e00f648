"""What an evaluation makes beside the family's own counts and the record: other metrics, predictions, pictures."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tips_bench.adapters.base import Adapter, Picture, save_pictures
from tips_bench.data.split import Split, Splits
from tips_bench.errors import UserError
from tips_bench.evaluation.spec import Spec
from tips_bench.metrics.samples import SampleCounts
from tips_bench.registry import FAMILIES, METRICS
from tips_bench.results.predictions import predictions_folder
from tips_bench.results.record import file_name

WORST = "worst"


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


def place_predictions(work: Path, record: Path) -> None:
    """Move predictions from the work folder to where those of the record in a file lie, in place of earlier ones."""
    place = predictions_folder(record)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(work, place)


def has_asked_for(record: Path, pictures: Sequence[str], number: int, pick: str, predictions: bool) -> bool:
    """Whether what was asked for lies beside a record: so many pictures of samples picked so, and predictions."""
    drawn = len(pictures) >= number and (not number or pick != WORST or all(f"-{WORST}-" in name for name in pictures))
    return drawn and (not predictions or predictions_folder(record).is_dir())


def to_draw(splits: Splits[Any], counts: SampleCounts, metric: str, pick: str) -> Splits[Any]:
    """The splits, with the samples of the test split in the order in which they are drawn.

    pick: "worst": those with the worst metric first, else by a hash of their ids. Errors: the family draws other things than it counts.
    """
    if pick != WORST:
        return splits
    return replace(splits, test=replace(splits.test, drawn=_worst_first(splits, counts, metric)))


def save_drawn(pictures: list[Picture], test: Split[Any], pick: str, stem: Path) -> list[str]:
    """Write pictures of the first samples to draw beside `stem`; the names of the files, which hold the samples' ids."""
    ids = [file_name(test.reader.ids[index]) for index in test.pick(len(pictures))]
    return save_pictures(pictures, stem.with_name(f"{stem.name}-{WORST}") if pick == WORST else stem, ids)


def _worst_first(splits: Splits[Any], counts: SampleCounts, metric: str) -> list[int]:
    """Samples of the test split by their metric alone, the worst first; those with nothing to score last."""
    place_of = {splits.test.reader.ids[index]: index for index in splits.test.indices}
    if set(counts.ids) != set(place_of):
        raise UserError("what is scored here are not the samples that are drawn", where="--pick worst", fix="Leave --pick out.")
    alone_N = counts.summary(counts.counts_N)[metric].tolist()
    spec = counts.specs[metric]
    order = sorted(zip(counts.ids, alone_N, strict=True), key=lambda one: (one[1] != one[1], -spec.order(one[1]), one[0]))
    return [place_of[id] for id, _ in order]
