"""The counts of each sample that a record was computed from, as arrays and as tables.

    record = tips_bench.load_record("results/rooms-seg/tips-nano/convex-224-01234567.json")
    record.samples().nsmallest(5, "mIoU")      # the hardest images; `tips-bench samples RECORD` prints them
    record.counts().groupby("group").sum()     # the counts of each room

Axes: N samples; the axes of one sample's counts follow.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tips_bench.errors import UserError, unknown_name
from tips_bench.files import sha256
from tips_bench.metrics.samples import SampleCounts
from tips_bench.registry import FAMILIES, METRICS
from tips_bench.results.untrusted_input import check_counts

if TYPE_CHECKING:
    import pandas as pd

    from tips_bench.results.record import Record


def read_counts(record: Record) -> dict[str, SampleCounts]:
    """The counts beside a record: its family's own under "", and those of each metric in `record.beside` under its name.

    Errors: a record that was never saved, an unknown family or metric, counts that are missing or broken.
    """
    file = counts_file(record)
    own = FAMILIES.get(record.family, where=record.path).counts_class()
    kinds = {"": own} | {name: METRICS.get(name, where=record.path) for name in record.beside}
    check_counts(file)
    if record.per_sample_sha256 is not None and sha256(file) != record.per_sample_sha256:
        problem = "these are not the counts that the record was written with: their SHA-256 is another"
        raise UserError(problem, where=file, fix="Run the task again, or restore the file.")
    return {name: kind.of_record(record).read(file, name or None) for name, kind in kinds.items()}


def counts_file(record: Record) -> Path:
    """Where a record's counts lie. Errors: a record that was never saved."""
    if record.path is None:
        raise UserError("the record was not saved, so no counts lie beside it", where=record, fix="Load it with tips_bench.load_record.")
    return record.path.parent / record.per_sample


def counts_frame(record: Record, metric: str = "") -> pd.DataFrame:
    """A row a sample, by its id: its group, then its counts, a column for each place in their array ("counts[0, 3]").

    metric: one of `record.beside`, whose counts are wanted; the family's own where none is named. Errors: another name.
    """
    found = read_counts(record)
    if metric not in found:
        raise unknown_name("metric", metric, record.beside, where=record.path)
    counts_N = found[metric].counts_N
    columns = {f"counts[{', '.join(map(str, place))}]": counts_N[(slice(None), *place)] for place in np.ndindex(counts_N.shape[1:])}
    return _frame(found[metric], columns)


def samples_frame(record: Record) -> pd.DataFrame:
    """A row a sample, by its id: its group, then every metric of this sample alone; NaN where it has nothing to score.

    Of a metric beside the family's own whose samples are others (pairs, queries), only those that are samples of the family's.
    """
    found = read_counts(record)
    frames = [_frame(counts, dict(counts.summary(counts.counts_N))) for counts in found.values()]
    joined = frames[0].join([frame.drop(columns="group") for frame in frames[1:]])
    return joined[["group", *(name for name in record.metrics if name in joined)]]


def worst_first(record: Record, metric: str | None = None) -> pd.DataFrame:
    """As `samples_frame`, sorted by a metric of a sample alone: the worst first, those with nothing to score last.

    metric: of the record; None = the primary one. Errors: another metric, one that a single sample does not have.
    """
    frame, name = samples_frame(record), metric or record.primary
    if name not in frame:
        raise unknown_name("metric of a sample", name, [known for known in record.metrics if known in frame], where=record.path)
    return frame.sort_values(name, ascending=record.metrics[name].higher_is_better, kind="stable", na_position="last")


def _frame(counts: SampleCounts, columns: dict[str, np.ndarray]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"group": counts.groups, **columns}, index=pd.Index(counts.ids, name="sample"))
