"""The page of `corpus check`: counts, histograms and some samples, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from tips_bench.corpus.check import CorpusReport
from tips_bench.corpus.look import ASPECTS, LENGTHS, SIDES
from tips_bench.files import write_text

WIDTH, HEIGHT, FOOT, TOP = 340, 170, 34, 14


def write_page(path: Path, report: CorpusReport) -> None:
    """Write the page of a report. Errors: the folder takes no file."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    charts = [
        ("Shorter side, pixels", histogram(report.sides, SIDES)),
        ("Longer side over shorter side", histogram(report.aspects, ASPECTS)),
        *((f"Length of {kind} captions, characters", histogram(counts, LENGTHS)) for kind, counts in report.lengths.items() if any(counts)),
    ]
    if report.languages:
        common = sorted(report.languages.items(), key=lambda one: (-one[1], one[0]))[:10]
        charts.append(("Language, a guess from the first captions of each shard", bars(common)))
    write_text(path, template.render(report=report, charts=charts))


def histogram(counts: Sequence[int], bounds: Sequence[float]) -> Markup:
    """Bars of counts between bounds, as SVG. counts: one more than bounds."""
    names = [f"<{bounds[0]:g}", *(f"{bound:g}" for bound in bounds)]
    return bars(list(zip(names, counts, strict=True))) if counts else Markup("")


def bars(counts: Sequence[tuple[str, int]]) -> Markup:
    """A bar of each name, with the share of the whole above it where it is 1 % or more."""
    total, highest = max(1, sum(number for _, number in counts)), max(1, *(number for _, number in counts))
    step, drawn = WIDTH / len(counts), []
    for place, (name, number) in enumerate(counts):
        height = (HEIGHT - FOOT - TOP) * number / highest
        x, y = place * step, HEIGHT - FOOT - height
        middle = f'x="{x + step / 2:.1f}" text-anchor="middle"'
        drawn.append(f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{height:.1f}"><title>{number:,}</title></rect>')
        drawn.append(f'<text {middle} y="{HEIGHT - FOOT + 14 + 12 * (place % 2)}">{escape(name)}</text>')
        if number >= 0.01 * total:
            drawn.append(f'<text {middle} y="{y - 3:.1f}">{number / total:.0%}</text>')
    line = f'<path d="M0 {HEIGHT - FOOT}H{WIDTH}"/>'
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(drawn)}{line}</svg>')
