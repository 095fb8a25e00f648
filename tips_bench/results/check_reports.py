"""A regression report for people, JUnit readers and GitHub: text, XML, workflow commands, Markdown."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from tips_bench.results.comparison import Comparison
from tips_bench.results.comparison_text import WIDTH, beside, p_text, plain, signed, wrapped
from tips_bench.results.regression import Outcome, Report
from tips_bench.results.table_formats import markdown_text
from tips_bench.terminal import printable

SIGNS = {
    "regression": "❌",
    "fault": "⚠️",
    "collapse": "📉",
    "cannot tell": "❔",
    "within tolerance": "✅",
    "improvement": "🎉",
    "new": "🆕",
}
TOLD = ("fault", "collapse")  # whose message says more than the row of numbers


def verdict(report: Report) -> str:
    """The whole report in a line: whether it passed, and how many cells of each kind."""
    counts = ", ".join(f"{number} {status}" for status, number in report.counts.items())
    borne = ", ".join(f"{value:g} {unit}".rstrip() for unit, value in report.tolerances.items())
    return f"{'passed' if report.passed else 'FAILED'}: {counts}" + (f" (tolerance {borne})" if borne else "")


def check_text(report: Report) -> str:
    """For a terminal, at most 80 columns wide."""
    lines = [f"{'':<16} {'cell':<24} {'base':>7} {'new':>7} {'gain':>7} {'95 %':^14}".rstrip()]
    for one in report.outcomes:
        lines += [f"{one.status if number == 0 else '':<16} {line}" for number, line in enumerate(_cell(one))]
    notes = [one.message for one in report.outcomes if one.status in TOLD]
    return "\n".join([*lines, *(line for note in notes for line in ["", *wrapped(note)]), "", verdict(report)]) + "\n"


def _cell(one: Outcome) -> list[str]:
    """The name of a cell with its numbers, if it has some, in lines that leave room for its status."""
    room = WIDTH - 17
    if one.comparison is None or one.comparison.gain_interval is None:
        return wrapped(one.cell, room=room)
    base, new, gain, interval, _ = _numbers(one.comparison, one.comparison.gain_interval)
    return beside(one.cell, 24, f"{base:>7} {new:>7} {gain:>7} {interval:>14}", room=room)


def _numbers(found: Comparison, interval: tuple[float, float]) -> tuple[str, str, str, str, str]:
    """Baseline, new, gain, its interval and q, rounded."""
    unit = found.a.record.primary_metric.unit
    low, high = interval
    return (
        plain(found.primary.a, unit),
        plain(found.primary.b, unit),
        signed(found.gain, unit),
        f"{signed(low, unit)}..{signed(high, unit)}",
        p_text(found.q),
    )


def junit(report: Report) -> str:
    """JUnit XML: a test case per cell, which takes as long as its evaluation; a fault is an error, what else fails is a failure."""
    errors = sum(one.status == "fault" for one in report.outcomes)
    failed = sum(one.status in report.failing for one in report.outcomes) - errors
    seconds = [0.0 if one.comparison is None else one.comparison.b.record.cost.wall_s for one in report.outcomes]
    totals = {"tests": str(len(report.outcomes)), "failures": str(failed), "errors": str(errors)}
    root = ET.Element("testsuites", {"name": "tips-bench check", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": "tips-bench check", **totals, "skipped": "0", "time": f"{sum(seconds):.1f}"})
    for one, took in zip(report.outcomes, seconds, strict=True):
        message = printable(one.message)
        case = ET.SubElement(suite, "testcase", {"classname": "tips-bench.check", "name": printable(one.cell), "time": f"{took:.1f}"})
        if one.status in report.failing:
            kind = "error" if one.status == "fault" else "failure"
            ET.SubElement(case, kind, {"message": message, "type": one.status}).text = message
        else:
            ET.SubElement(case, "system-out").text = f"{one.status}: {message}"
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def github_annotations(report: Report) -> str:
    """GitHub workflow commands: ::error for what fails, ::notice for an improvement and for what cannot be told otherwise.

    Escaped as actions/toolkit's command.ts does, so that a name can neither break the line nor begin a command of its own.
    """
    levels = {"cannot tell": "notice", "improvement": "notice", **dict.fromkeys(report.failing, "error")}
    return "".join(
        f"::{levels[one.status]} title={_property(f'tips-bench: {one.status}')}::{_data(one.message)}\n"
        for one in report.outcomes
        if one.status in levels
    )


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def markdown(report: Report) -> str:
    """A table for a job summary or a pull-request comment."""
    lines = [
        "### tips-bench check",
        "",
        verdict(report),
        "",
        "| | cell | baseline | new | gain | 95 % | q |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in report.outcomes:
        found = one.comparison
        numbers = ("",) * 5 if found is None or found.gain_interval is None else _numbers(found, found.gain_interval)
        lines.append(f"| {SIGNS[one.status]} {one.status} | {' | '.join([markdown_text(one.cell), *numbers])} |")
    told = [f"- {markdown_text(one.message)}" for one in report.outcomes if one.status in TOLD]
    caption = "gain: positive is better. q: p adjusted for the number of cells (Benjamini-Hochberg)."
    return "\n".join([*lines, "", caption, *([""] if told else []), *told]) + "\n"
