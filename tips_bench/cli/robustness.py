"""tips-bench robustness: scores on changed images beside those on clean ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tips_bench.cli.output import print_error, print_json, print_line, print_table, print_text

if TYPE_CHECKING:
    from tips_bench.results.robustness import Curve, Robustness
    from tips_bench.results.statistics import Difference


def robustness(
    results: Annotated[list[Path], typer.Argument(help="Folders of records, or record files.")],
    picture: Annotated[Path | None, typer.Option(help="Also draw the curves: a file that ends in .svg or .png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything at full precision, as JSON.")] = False,
) -> None:
    """How does a score change under corruptions, rotations, input sizes, few training images?

    Records of tasks such as ade20k+fog-3, ade20k+rotate-90, ade20k@896 and
    ade20k+few-64 are compared with those of the same task without the change, on
    the same images. `kept` is the share of the score that is left. q is the
    p-value of the difference, adjusted for the number of rows.

    \b
    Examples:
      tips-bench run --task ade20k,ade20k+fog-1..5 --model tips-b14
      tips-bench robustness results/
      tips-bench robustness results/ --picture curves.svg
    """
    from tips_bench.results.counts import load_scored
    from tips_bench.results.folders import read_records
    from tips_bench.results.robustness import as_data
    from tips_bench.results.robustness import robustness as found_in

    records, broken = read_records(results, load_scored)
    found = found_in(records)
    if picture is not None:
        from tips_bench.leaderboard.curves import save_curves

        save_curves(found.curves, picture)
    if as_json:
        print_json(as_data(found))
    else:
        _print(found)
        if picture is not None:
            print_line(f"picture   {picture}")
    for error in broken:
        print_error(error)
    if broken:
        raise typer.Exit(2)


def _print(found: Robustness) -> None:
    for curve in found.curves:
        print_text(f"{curve.task}, {curve.model}, {curve.protocol}: {curve.change}")
        score = f"{curve.metric} {curve.spec.unit}".strip()
        rows = [[_x(curve, curve.reference_x), f"{curve.reference:.2f}", _sure(curve.reference_interval), "", "", "", ""]]
        for point in curve.points:
            interval = _sure(point.interval)
            rows.append([_x(curve, point.x), f"{point.score:.2f}", interval, *_told(point.difference, point.q), f"{point.kept:.3f}"])
        if len(curve.points) > 1 and curve.axis in ("corruption", "rotation"):  # a mean over sizes or shares says nothing
            rows.append(["mean", f"{curve.mean.b:.2f}", "", *_told(curve.mean, math.nan), f"{curve.kept:.3f}"])
        print_table(["strength" if curve.axis == "corruption" else curve.axis, score, "95 %", "difference", "95 %", "q", "kept"], rows)
        print_line("")
    if found.overall:
        rows = [
            [one.task, one.model, one.protocol, one.sort, str(len(one.kinds)), *_told(one.mean, one.mean.p)[:2], f"{one.kept:.3f}"]
            for one in found.overall
        ]
        print_table(["task", "model", "protocol", "mean over", "kinds", "difference", "95 %", "kept"], rows)
    for sentence in found.unpaired:
        print_text(f"left out: {sentence}")


def _x(curve: Curve, x: float) -> str:
    if math.isnan(x):
        return "as the images"
    return f"1/{1 / x:.0f}" if curve.axis == "training images" else f"{x:g}"


def _sure(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def _told(difference: Difference, q: float) -> list[str]:
    return [f"{difference.value:+.2f}", _sure(difference.interval), "" if math.isnan(q) else f"{q:.2g}"]
