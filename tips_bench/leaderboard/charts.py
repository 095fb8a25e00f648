"""Charts as inline SVG: a bar, an interval on a scale, scores against cost.

Colors come from the page's style sheet by class, so a chart follows the light or dark of its page. The same numbers give the same
text. Coordinates are pixels of the view box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from tips_bench.metrics.spec import MetricSpec

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 12, 44
LETTER = 6.4  # mean width of a letter at the size of the labels


@dataclass(frozen=True)
class Scale:
    """Maps low..high onto `width` pixels from `start`, logarithmically where `log`."""

    low: float
    high: float
    start: float
    width: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(one) if self.log else one for one in (self.low, self.high, value))
        return self.start + self.width * (value - low) / (high - low)


def number(value: float) -> str:
    """A coordinate: at most one decimal, no trailing zero."""
    return f"{value:.1f}".removesuffix(".0")


def span(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """The least and greatest of the values that are numbers, with a margin on both sides; never empty."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    pad = (high - low) * margin or abs(high) * margin or 1.0
    return low - pad, high + pad


def interval(value: float, sure: tuple[float, float] | None, scale: tuple[float, float], width: int = 110) -> Markup:
    """A dot with its interval as a line, on a row of a table; all rows share the scale (low, high)."""
    if math.isnan(value):
        return Markup("")
    x = Scale(*scale, start=4, width=width - 8)
    # clipped: an interval may be wider than what the scale shows
    low, high = (number(min(max(x(end), 0), width)) for end in sure or (value, value))
    line = f'<path d="M{low} 7H{high}"/>' if sure else ""
    dot = f'<circle cx="{number(x(value))}" cy="7" r="3.5"/>'
    return Markup(f'<svg class="interval" width="{width}" height="14" aria-hidden="true">{line}{dot}</svg>')


def tiny_interval(value: float, sure: tuple[float, float] | None, scale: tuple[float, float]) -> Markup:
    """The same as few bytes, for tables of thousands of cells: a line 60 pixels wide and a tick at the value."""
    if math.isnan(value):
        return Markup("")
    x = Scale(*scale, start=1, width=58)
    low, high = (round(min(max(x(end), 0), 60)) for end in sure or (value, value))
    return Markup(f'<svg><path d="M{low} 4h{max(high - low, 1)}M{round(x(value))} 1v6"/></svg>')


def bar(value: float | None, sure: tuple[float, float] | None, scale: tuple[float, float], width: int = 120) -> Markup:
    """A bar from the low end of the scale to the value, with its interval as a line; none for what was not scored."""
    if value is None:
        return Markup("")
    x = Scale(*scale, start=0, width=width)
    end, *line = (number(min(max(x(one), 0), width)) for one in (value, *(sure or ())))
    error = f'<path class="error" d="M{line[0]} 7H{line[1]}"/>' if line else ""
    return Markup(f'<svg class="bar" width="{width}" height="14" aria-hidden="true"><path d="M0 2H{end}v10H0z"/>{error}</svg>')


@dataclass(frozen=True)
class Point:
    """x: the cost. detail: read where the point is pointed at. kind: 0-3, told apart by color and shape. machine: where it was measured."""

    label: str
    x: float
    y: float
    sure: tuple[float, float] | None
    href: str
    detail: str
    kind: int = 0
    machine: str = ""


def scatter(points: Sequence[Point], x_label: str, y_label: str, metric: MetricSpec) -> Markup:
    """Scores against cost, cost on a log scale, the better score above.

    A stepped line joins the points of one machine that no other point of it beats in both.
    The points of that line are labelled first, then the others where there is room.
    """
    points = [point for point in points if not math.isnan(point.y) and point.x > 0]
    if not points:
        return Markup("")
    low, high = min(point.x for point in points), max(point.x for point in points)
    x = Scale(low / 1.25, high * 1.25, LEFT, WIDTH - LEFT - RIGHT, log=True)
    bounds = span([end for point in points for end in point.sure or (point.y,)])
    tall = HEIGHT - BOTTOM - TOP
    y = Scale(*bounds, HEIGHT - BOTTOM, -tall) if metric.higher_is_better else Scale(*bounds, TOP, tall)
    fronts = [pareto([point for point in points if point.machine == one], metric) for one in sorted({point.machine for point in points})]
    front = [point for found in fronts for point in found]
    parts = [*_axes(x, y, x_label, y_label), *(_steps([(x(p.x), y(p.y)) for p in found]) for found in fronts)]
    for point in points:
        bar = f'<path class="error" d="M{number(x(point.x))} {number(y(point.sure[0]))}V{number(y(point.sure[1]))}"/>' if point.sure else ""
        shape = _shape(point.kind, x(point.x), y(point.y))
        parts.append(f'<a href="{escape(point.href)}"><title>{escape(point.detail)}</title>{bar}{shape}</a>')
    parts += _labels([*front, *(point for point in points if point not in front)], x, y)
    name = escape(f"{y_label} against {x_label}")
    return Markup(f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{name}">{"".join(parts)}</svg>')


def pareto(points: Sequence[Point], metric: MetricSpec) -> list[Point]:
    """The points that no other point beats in cost and score, the cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, metric.order(point.y))):
        if not front or metric.better(point.y, front[-1].y):
            front.append(point)
    return front


def _axes(x: Scale, y: Scale, x_label: str, y_label: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in ticks(y.low, y.high):
        parts.append(f'<path class="grid" d="M{LEFT} {number(y(tick))}H{right}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{number(y(tick) + 4)}">{tick:g}</text>')
    for tick in log_ticks(x.low, x.high):
        at = number(x(tick))
        parts.append(f'<path class="grid" d="M{at} {TOP}V{bottom}"/><text class="middle" x="{at}" y="{bottom + 16}">{tick:g}</text>')
    parts.append(f'<text class="middle axis" x="{(LEFT + right) / 2:g}" y="{HEIGHT - 6}">{escape(x_label)}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text class="middle axis" transform="translate(12 {middle:g}) rotate(-90)">{escape(y_label)}</text>')
    return parts


def _steps(corners: list[tuple[float, float]]) -> str:
    if len(corners) < 2:
        return ""
    path = f"M{number(corners[0][0])} {number(corners[0][1])}" + "".join(f"H{number(x)}V{number(y)}" for x, y in corners[1:])
    return f'<path class="front" d="{path}"/>'


def _shape(kind: int, x: float, y: float) -> str:
    if kind % 4 == 0:
        return f'<circle class="k0" cx="{number(x)}" cy="{number(y)}" r="4.5"/>'
    path = {1: "m-4.5 -4.5h9v9h-9z", 2: "m0 -6l6 10h-12z", 3: "m0 -6l6 6l-6 6l-6 -6z"}[kind % 4]
    return f'<path class="k{kind % 4}" d="M{number(x)} {number(y)}{path}"/>'


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _labels(points: Sequence[Point], x: Scale, y: Scale) -> list[str]:
    """Right of the point, else left, above or below; over an interval only where no place is free; none over a label or a point."""
    taken: list[Box] = [(x(point.x) - 5, y(point.y) - 5, x(point.x) + 5, y(point.y) + 5) for point in points]
    bars: list[Box] = [(x(p.x) - 1, min(map(y, p.sure)), x(p.x) + 1, max(map(y, p.sure))) for p in points if p.sure]
    parts = []
    for point in points:
        text = point.label if len(point.label) <= 28 else f"{point.label[:27]}…"
        wide = LETTER * len(text)
        places = [(x(point.x) + dx, y(point.y) + dy) for dx, dy in ((8, 4), (-8 - wide, 4), (-wide / 2, -9), (-wide / 2, 17))]
        boxes = [(left, base - 10, left + wide, base + 2) for left, base in places]
        fitting = [box for box in boxes if box[0] >= LEFT and box[2] <= WIDTH - 2 and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM]
        clear = [box for box in fitting if not _overlaps(box, taken)]
        best = [box for box in clear if not _overlaps(box, bars)] or clear
        if best:
            taken.append(best[0])
            parts.append(f'<text class="label" x="{number(best[0][0])}" y="{number(best[0][3] - 2)}">{escape(text)}</text>')
    return parts


def _overlaps(box: Box, others: Sequence[Box]) -> bool:
    return any(box[0] < one[2] and one[0] < box[2] and box[1] < one[3] and one[1] < box[3] for one in others)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within low..high: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(count * step, 12) for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within low..high, powers alone where there are many."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    factors = (1, 2, 5) if high / low < 1000 else (1,)
    return [factor * power for power in powers for factor in factors if low <= factor * power <= high]
