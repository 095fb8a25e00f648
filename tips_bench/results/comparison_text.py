"""A comparison for people: what was found in a sentence, then metrics, classes as bars and samples; lines of at most 80 columns.

Names come from files that others wrote, so characters that do not print are replaced and long names are cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from tips_bench.results.counts import Scored
from tips_bench.results.statistics import ALPHA, Difference, least_p
from tips_bench.terminal import printable
from tips_bench.wording import counted

if TYPE_CHECKING:
    from tips_bench.results.comparison import ClassDifference, Comparison, Suite

WIDTH = 80
NAME = 24
METRIC = 20
COMMANDS = ("::", "##[")  # actions/runner, ActionCommand.cs: how a line begins that its runner obeys
HALF_BAR = 12  # cells each side of zero
_CONSOLE = Console(width=WIDTH, _environ={})
BLOCKS = " ▏▎▍▌▋▊▉█"
CLASSES_EACH_WAY = 6
SAMPLES_EACH_WAY = 5


def comparison_text(comparison: Comparison) -> str:
    """Two records compared."""
    record = comparison.a.record
    parts = [
        [_setting(comparison.a), *_sides(comparison)],
        [*wrapped(sentence(comparison)), *wrapped(_resolution(comparison))],
        _metrics(comparison),
    ]
    if comparison.classes:
        label = comparison.a.family.per_class[record.primary][0]
        parts.append(_classes(comparison.classes, label, record.primary_metric.unit))
    parts.append(_samples(comparison))
    notes = [_note(name, side) for name, side in (("A", comparison.a), ("B", comparison.b)) if side.record.deviations]
    parts.append([line for note in notes for line in wrapped(note)])
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def sentence(comparison: Comparison) -> str:
    """What was found, for one pair of records."""
    record, one, interval = comparison.a.record, comparison.primary, comparison.gain_interval
    unit = record.primary_metric.unit
    if interval is None or one.interval is None:
        item = comparison.a.family.item
        return f"Cannot tell: all {item} are in one group, or none was scored, so {record.primary} has no interval."
    size = f"{record.primary} {signed(one.value, unit)} {unit} {_interval(one, unit)}"
    head = {"B is better": "B is better", "A is better": "B is worse", "cannot tell": "Cannot tell B from A"}[comparison.verdict]
    return f"{head}: {size} at 95 %, p = {p_text(one.p)}."


def _interval(one: Difference, unit: str) -> str:
    return "" if one.interval is None else f"[{signed(one.interval[0], unit)}, {signed(one.interval[1], unit)}]"


def _resolution(comparison: Comparison) -> str:
    record = comparison.a.record
    unit, number = record.primary_metric.unit, len(comparison.a.counts)
    groups = len(set(comparison.a.counts.groups))
    drawn = f"{number} {comparison.a.family.item}" + (f" in {groups} group{'s' * (groups > 1)}" if groups < number else "")
    if least_p(groups) > ALPHA and comparison.primary.interval is not None:
        return f"{drawn} are too few to tell two models apart: no p below {p_text(least_p(groups))} exists."
    if math.isnan(comparison.primary.detectable):
        return f"{drawn}."
    return (
        f"{drawn} are enough to detect a true difference of {plain(comparison.primary.detectable, unit)} {unit} or more "
        "(80 % power, 5 % level)."
    )


def signed(value: float, unit: str) -> str:
    """A difference, rounded: two decimals for percent, else three digits; a dash for none."""
    return "–" if math.isnan(value) else f"{value:+.2f}" if unit == "%" else f"{value:+.3g}"


def plain(value: float, unit: str) -> str:
    """A score, rounded: two decimals for percent, else four digits; a dash for none."""
    return "–" if math.isnan(value) else f"{value:.2f}" if unit == "%" else f"{value:.4g}"


def p_text(p: float) -> str:
    """A p-value with one digit below 0.01, two above; a dash for none."""
    return "–" if math.isnan(p) else f"{p:.2f}" if p >= 0.01 else f"{p:.1g}"


def fitted(text: str, width: int, *, keep_end: bool = False) -> str:
    """`text` in exactly `width` terminal cells, cut at its end, or at its start where the end tells more (paths, ids)."""
    text = printable(text)
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    if not keep_end:
        return set_cell_size(text, width - 1) + "…"
    while cell_len(text) > width - 1:
        text = text[1:]
    return set_cell_size("…" + text, width)


def beside(name: str, width: int, rest: str, *, room: int = WIDTH) -> list[str]:
    """A name and what belongs to it, in one line where the name has at most `width` cells; else the name, whole, in lines above.

    room: of a line, in cells.
    """
    if cell_len(printable(name)) <= width:
        return [f"{fitted(name, width)} {rest}".rstrip()]
    return [*wrapped(name, room=room), f"{'':<{width}} {rest}".rstrip()]


def wrapped(text: str, *, indent: str = "", room: int = WIDTH) -> list[str]:
    """A paragraph in lines of at most `room` cells (textwrap counts characters); lines but the first begin with `indent`.

    No line begins as a command to GitHub's runner does: a name from a file that others wrote could give one.
    """
    room = room - cell_len(indent) - any(command in text for command in COMMANDS)
    lines = [line.plain.rstrip() for line in Text(printable(text)).wrap(_CONSOLE, room)]
    lines = [f"\\{line}" if line.lstrip().startswith(COMMANDS) else line for line in lines]
    return [f"{indent if number else ''}{line}" for number, line in enumerate(lines)]


def _setting(scored: Scored) -> str:
    record = scored.record
    return fitted(f"{record.task}, {record.protocol}, {record.dataset.split} of {len(scored.counts)} {scored.family.item}", WIDTH).rstrip()


def _sides(comparison: Comparison) -> list[str]:
    names = {"A": comparison.a, "B": comparison.b}
    wide = min(34, max(cell_len(printable(one.record.model_name)) for one in names.values()))
    return [
        f"{name}  {fitted(one.record.model_name, wide)}  {fitted(str(one.path), WIDTH - wide - 5, keep_end=True)}".rstrip()
        for name, one in names.items()
    ]


def _note(name: str, side: Scored) -> str:
    return f"{name} is not comparable with others' numbers: {', '.join(map(str, side.record.deviations))}"


def _metrics(comparison: Comparison) -> list[str]:
    lines = [f"{'metric':<{METRIC}} {'A':>9} {'B':>9} {'B - A':>9}   {'95 %':^17} {'p':>6}"]
    for name, one in comparison.metrics.items():
        metric = comparison.a.record.metrics[name]
        unit = metric.unit
        title = f"{name} {unit} {metric.spec.arrow}"
        scores = f"{plain(one.a, unit):>9} {plain(one.b, unit):>9} {signed(one.value, unit):>9}"
        lines.append(f"{fitted(title, METRIC)} {scores}   {_interval(one, unit):^17} {p_text(one.p):>6}".rstrip())
    a, b = comparison.a.record.spread, comparison.b.record.spread
    if a is not None and b is not None:
        lines.append(f"{'effective rank':<{METRIC}} {a.effective_rank:>9.1f} {b.effective_rank:>9.1f}")
        lines.append(f"{'common share %':<{METRIC}} {100 * a.common_share:>9.1f} {100 * b.common_share:>9.1f}")
    return lines


def _classes(classes: Sequence[ClassDifference], label: str, unit: str) -> list[str]:
    """The classes that changed most each way and all that changed significantly, as bars around zero."""
    ordered = sorted(classes, key=lambda one: (one.difference.value, one.name))
    changed = [one for one in ordered if one.difference.value]
    sure = [one for one in ordered if one.q <= ALPHA]
    ends = [one for one in changed[:CLASSES_EACH_WAY] if one.difference.value < 0]
    ends += [one for one in changed[-CLASSES_EACH_WAY:] if one.difference.value > 0]
    shown = [one for one in ordered if one in ends or one in sure]
    if not shown:
        return [f"{label} of all {len(classes)} classes is the same."]
    extent = max(abs(one.difference.value) for one in shown)
    lines = wrapped(f"{label} by class in {unit}, {len(shown)} of {len(classes)}; * changed, at a false discovery rate of 5 %: {len(sure)}")
    lines.append(f"{'':<{NAME}} {'A':>7} {'B':>7} {'B - A':>8}   {signed(-extent, unit):<{HALF_BAR}} {signed(extent, unit):>{HALF_BAR}}")
    for one in shown:
        before, after, change = plain(one.difference.a, unit), plain(one.difference.b, unit), signed(one.difference.value, unit)
        star = "*" if one.q <= ALPHA else " "
        lines.append(f"{fitted(one.name, NAME)} {before:>7} {after:>7} {change:>8} {star} {bar(one.difference.value / extent)}".rstrip())
    return lines


def bar(share: float) -> str:
    """A bar around zero: share in [-1, 1] of the half it points to."""
    eighths = round(abs(share) * HALF_BAR * 8)
    if share >= 0:
        return " " * HALF_BAR + "│" + "█" * (eighths // 8) + (BLOCKS[eighths % 8] if eighths % 8 else "")
    # the block elements fill from the left only, so a bar to the left has whole cells, at least one for a change that shows
    cells = max(1, round(eighths / 8)) if eighths else 0
    return "█" * cells if cells == HALF_BAR + 1 else f"{'█' * cells:>{HALF_BAR}}│"


def _samples(comparison: Comparison) -> list[str]:
    record = comparison.a.record
    unit = record.primary_metric.unit
    losses = [one for one in comparison.samples[:SAMPLES_EACH_WAY] if one.gain < 0]
    gains = [one for one in reversed(comparison.samples[-SAMPLES_EACH_WAY:]) if one.gain > 0]
    if not losses and not gains:
        return []
    lines = wrapped(
        f"{comparison.a.family.item.capitalize()} with the greatest loss and gain: {record.primary} {unit} of each one, and its "
        "contribution to B's lead"
    )
    lines.append(f"{'':<4} {'A':>7} {'B':>7} {'gain':>8} {'adds':>9}".rstrip())
    for title, samples in (("loss", losses), ("gain", gains)):
        for one in samples:
            scores = f"{plain(one.a, unit):>7} {plain(one.b, unit):>7} {signed(one.gain, unit):>8} {one.effect:>+9.2g}"
            lines.append(f"{title} {scores}   {fitted(one.id, WIDTH - 42, keep_end=True)}".rstrip())
    return lines


def suite_text(suite: Suite) -> str:
    """Two folders compared: a line per cell, then what could not be compared."""
    lines = [f"{'cell':<30} {'A':>8} {'B':>8} {'B - A':>8} {'q':>6}  finding"]
    for cell, one in suite.comparisons.items():
        unit = one.a.record.primary_metric.unit
        scores = f"{plain(one.primary.a, unit):>8} {plain(one.primary.b, unit):>8} {signed(one.primary.value, unit):>8} {p_text(one.q):>6}"
        lines += beside(cell, 30, f"{scores}  {one.verdict}")
    notes = [
        f"q: p adjusted for {counted(len(suite.comparisons), 'cell')} (Benjamini-Hochberg); A or B is better only if q <= {ALPHA} "
        "and the interval excludes 0."
    ]
    notes += [f"{cell} cannot be compared: {'; '.join(wrong)}" for cell, wrong in suite.unlike.items()]
    notes += [f"Only in {name}: {', '.join(cells)}" for name, cells in (("A", suite.only_a), ("B", suite.only_b)) if cells]
    return "\n".join([*lines, "", *(line for note in notes for line in wrapped(note))]) + "\n"
