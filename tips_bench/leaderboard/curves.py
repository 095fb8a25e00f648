"""Curves of score against strength, degrees, pixels or training images, as a picture: SVG or PNG by the file's name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError
from tips_bench.files import atomic
from tips_bench.results.robustness import Curve

LABELS = {
    "corruption": "strength",
    "rotation": "degrees",
    "input size": "input size, px",
    "training images": "share of the training images",
}
FORMATS = ("svg", "png")
COLUMNS, SIDE, SHORT = 3, (4.2, 3.1), 40


def save_curves(curves: Sequence[Curve], path: Path) -> None:
    """Write one picture: a panel for each task, change and metric, a line for each model and protocol, with its 95 % intervals.

    Errors: a file name that ends in neither .svg nor .png.
    """
    import matplotlib
    from matplotlib.figure import Figure

    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise UserError(f"{path.name!r} is no name for a picture", where="--picture", fix="End it in .svg or .png.")
    panels: dict[tuple[str, str, str], list[Curve]] = {}
    for curve in curves:
        panels.setdefault((curve.task, curve.change, curve.metric), []).append(curve)
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context({"svg.hashsalt": "tips-bench", "font.size": 8.0}):  # the same numbers give the same bytes
        figure = Figure(figsize=(columns * SIDE[0], rows * SIDE[1]), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for axis, found in zip(axes, panels.values(), strict=False):
            _panel(axis, found)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        with atomic(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else {"Software": None})


def _panel(axis: Any, curves: list[Curve]) -> None:
    first = curves[0]
    for curve in curves:
        reference = (curve.reference_x, curve.reference, curve.reference_interval)
        places = sorted([reference, *((point.x, point.score, point.interval) for point in curve.points)], key=lambda place: place[0])
        places = [place for place in places if not math.isnan(place[0])]
        ends = [(value - low, high - value) for _, value, (low, high) in ((x, y, sure or (y, y)) for x, y, sure in places)]
        label = curve.model if len({one.protocol for one in curves}) == 1 else f"{curve.model}, {curve.protocol}"
        xs, ys = [place[0] for place in places], [place[1] for place in places]
        bars = [[max(0.0, end[side]) for end in ends] for side in (0, 1)]
        axis.errorbar(xs, ys, yerr=bars, marker="o", markersize=3.5, linewidth=1.2, capsize=2, label=label[:SHORT])
    axis.set_title(f"{first.task}: {first.change}")
    axis.set_xlabel(LABELS[first.axis])
    axis.set_ylabel(f"{first.metric} {first.spec.unit} {first.spec.arrow}".replace("  ", " "))
    xs = sorted({x for curve in curves for x in (curve.reference_x, *(point.x for point in curve.points)) if not math.isnan(x)})
    if first.axis == "training images":
        axis.set_xscale("log", base=2)
    axis.set_xticks(xs, [f"1/{1 / x:.0f}" if x < 1 and first.axis == "training images" else f"{x:g}" for x in xs])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
