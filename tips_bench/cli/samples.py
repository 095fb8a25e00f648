"""tips-bench samples: the samples of one record, the worst first, and what is taken for what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tips_bench.cli.options import DataRoot
from tips_bench.cli.output import print_json, print_line, print_table, print_text
from tips_bench.plain_data import null_for_nan
from tips_bench.wording import counted

if TYPE_CHECKING:
    import pandas as pd

    from tips_bench.results.record import Record


def samples(
    record: Annotated[Path, typer.Argument(help="The record: a .json file that `tips-bench run` wrote.")],
    number: Annotated[int, typer.Option(min=1, help="How many samples, or confusions, to print.")] = 20,
    metric: Annotated[str | None, typer.Option(help="Sort by this metric. Default: the primary one of the task.")] = None,
    confusion: Annotated[
        bool, typer.Option("--confusion", help="Print which classes are taken for which; needs the data and a run with --predictions.")
    ] = False,
    data_root: DataRoot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it at full precision, as JSON.")] = False,
) -> None:
    """Print the samples of a record with the worst scores, each with its own metrics.

    A metric of one sample is computed from the counts of this sample alone. `-`
    means that there is nothing to score in it.

    \b
    Examples:
      tips-bench samples results/rooms-seg/tips-nano/convex-0123.json
      tips-bench samples RECORD.json --metric mAcc --number 50
      tips-bench run --task rooms-seg --model tips-nano --predictions
      tips-bench samples RECORD.json --confusion
    """
    from tips_bench.results.record import load_record

    read = load_record(record)
    if confusion:
        _print_confusion(read, number, data_root, as_json)
    else:
        _print_samples(read, number, metric, as_json)


def _print_samples(record: Record, number: int, metric: str | None, as_json: bool) -> None:
    from tips_bench.results.per_sample import worst_first

    frame = worst_first(record, metric)
    if as_json:
        print_json(null_for_nan(frame.reset_index().to_dict("records")))
        return
    units = {name: f"{name} {record.metrics[name].unit}".rstrip() for name in frame if name in record.metrics}
    shown = frame.head(number)
    rows = [[str(id), *(_number(row[name], record.metrics[name].unit) for name in units)] for id, row in shown.iterrows()]
    print_table(["sample", *units.values()], rows, optional=max(0, len(units) - 1))
    print_text(f"{len(shown)} of {counted(len(frame), 'sample')}, the worst {metric or record.primary} first.")


def _number(value: float, unit: str) -> str:
    return "-" if value != value else f"{value:.2f}" if unit == "%" else f"{value:.4g}"


def _print_confusion(record: Record, number: int, data_root: Path | None, as_json: bool) -> None:
    from tips_bench.evaluation.confusion import confusion

    frame = confusion(record, data_root=data_root)
    if as_json:
        print_json({"classes": list(frame.index), "pixels": frame.to_numpy().tolist()})
        return
    rows = _confusions(frame)
    if not rows:
        print_line("no pixel is taken for another class")
        return
    print_table(["labeled", "predicted as", "of its pixels", "pixels"], rows[:number])
    print_text(f"{min(number, len(rows))} of {len(rows)} confusions, those of the most pixels first. All of them: --json.")


def _confusions(frame: pd.DataFrame) -> list[list[str]]:
    """Labeled class, predicted class, share of the labeled class's pixels, pixels; the most pixels first."""
    import numpy as np

    pixels_CC, names = frame.to_numpy(), list(frame.index)
    labeled_C = pixels_CC.sum(axis=1)
    wrong = [(int(pixels), one, other) for (one, other), pixels in np.ndenumerate(pixels_CC) if one != other and pixels]
    wrong.sort(key=lambda found: -found[0])
    return [[names[one], names[other], f"{pixels / labeled_C[one]:.1%}", f"{pixels:,}"] for pixels, one, other in wrong]
