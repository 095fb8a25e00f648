"""Write the tables of docs/ablation.md and its pictures from the records in docs/records/: ablation.tar.xz, long.tar.xz, late.tar.xz .

    PYTHONPATH=. python scripts/ablation_page.py
    PYTHONPATH=. python scripts/ablation_page.py ablation=ablation/records late=late/records      # pack new records first

What stands between the marks is written anew; the words around it are kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

from scripts.record_archives import pack, unpacked
from tips_bench.cards import load_card
from tips_bench.files import write_text
from tips_bench.results.comparison import Comparison, compare
from tips_bench.results.counts import Scored, load_scored
from tips_bench.results.folders import read_records

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/ablation.md"
PARTS = ("ablation", "long", "late")  # from first weights, the same with more steps, and from towers that had learned
ROWS = {
    "a-web": "contrastive, web captions",
    "b-synthetic": "contrastive, synthetic captions",
    "c-one-token": "both captions on one global token",
    "d-two-tokens": "both captions, a token each",
    "e-distilled": "+ self-distillation",
    "f-tips": "+ masked image modelling: TIPS",
    "f2-all-patches": "iBOT++ for iBOT",
    "g-tipsv2": "+ head-only EMA: TIPSv2",
}
STEPS = {
    "synthetic captions beside web ones, d - a": ("a-web", "d-two-tokens"),
    "synthetic captions for web ones, b - a": ("a-web", "b-synthetic"),
    "a token each, d - c": ("c-one-token", "d-two-tokens"),
    "self-distillation, e - d": ("d-two-tokens", "e-distilled"),
    "masked image modelling, f - e": ("e-distilled", "f-tips"),
    "iBOT++ for iBOT, f2 - f": ("f-tips", "f2-all-patches"),
    "head-only EMA, g - f2": ("f2-all-patches", "g-tipsv2"),
    "all of it, g - d": ("d-two-tokens", "g-tipsv2"),
    "self-distillation and masked image modelling, f - d": ("d-two-tokens", "f-tips"),
    "iBOT++ and the rest, f2 - d": ("d-two-tokens", "f2-all-patches"),
}
DECIMALS = {"rooms-depth": 3}  # metres; two of anything else
Runs = dict[tuple[str, str, int], Scored]


def archive(part: str) -> Path:
    return ROOT / f"docs/records/{part}.tar.xz"


def load_runs(part: str) -> Runs:
    """(task, row, seed) -> the record. A protocol that is not the task's default is named with the task.

    Errors: there are no records yet.
    """
    found: Runs = {}
    packed = archive(part)
    if not packed.is_file():
        raise SystemExit(f"{packed} is not there: run benchmarks/ablation.py, and this script with {part}=FOLDER of its records.")
    with unpacked(packed) as folder:
        scored = read_records(folder, load_scored)[0]
    for one in scored:
        row, seed = one.record.model.removeprefix(f"{part}-").rsplit("-seed", 1)
        task, protocol = one.record.task, one.record.protocol
        name = task if protocol == load_card("task", task).protocol else f"{task} ({protocol})"
        found[name, row, int(seed)] = one
    return found


def rows_of(runs: Runs) -> list[str]:
    """Those that were run, in their order."""
    return [row for row in ROWS if any(row == found for _, found, _ in runs)]


def letter(row: str) -> str:
    return row.partition("-")[0]


def value(one: Scored) -> float:
    return one.record.metrics[one.record.primary].value


def heading(task: str, runs: Runs) -> str:
    """A task with its metric, and which way is better."""
    one = next(found for (name, _, _), found in runs.items() if name == task)
    metric = one.record.metrics[one.record.primary]
    return f"{task}, {one.record.primary} {'↑' if metric.higher_is_better else '↓'}"


def scores(tasks: list[str], seeds: list[int], runs: Runs) -> list[str]:
    """A row for each recipe: the mean over seeds, and each of them."""
    lines = ["| | | " + " | ".join(heading(task, runs) for task in tasks) + " |", "| --- | --- |" + " --- |" * len(tasks)]
    for row in rows_of(runs):
        cells = []
        for task in tasks:
            values = [value(runs[task, row, seed]) for seed in seeds if (task, row, seed) in runs]
            said = [f"{one:.{DECIMALS.get(task, 2)}f}" for one in (float(np.mean(values)), *values)] if values else [""]
            cells.append(f"{said[0]} ({', '.join(said[1:])})" if len(values) > 1 else said[0])
        lines.append(f"| {letter(row)} | {ROWS[row]} | " + " | ".join(cells) + " |")
    return lines


def gain(one: Comparison, decimals: int) -> str:
    """By how much the step is better, with its 95 % interval; bold where it is told from none."""
    low, high = one.gain_interval or (float("nan"), float("nan"))
    text = f"{one.gain:+.{decimals}f} [{low:+.{decimals}f}, {high:+.{decimals}f}]"
    return text if one.verdict == "cannot tell" else f"**{text}**"


def gains(tasks: list[str], seeds: list[int], runs: Runs) -> list[str]:
    """A row for each step: its gain with each seed."""
    lines = ["| | " + " | ".join(tasks) + " |", "| --- |" + " --- |" * len(tasks)]
    for title, (before, after) in STEPS.items():
        if not {before, after} <= set(rows_of(runs)):
            continue
        cells = []
        for task in tasks:
            pairs = [(runs.get((task, before, seed)), runs.get((task, after, seed))) for seed in seeds]
            found = [compare(a, b, detail=False) for a, b in pairs if a is not None and b is not None]
            cells.append("<br>".join(gain(one, DECIMALS.get(task, 2)) for one in found))
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def draw(tasks: list[str], runs: Runs, path: Path) -> None:
    """One panel a task, one place a row, one point a seed with its interval."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = rows_of(runs)
    figure, panels = pyplot.subplots(1, len(tasks), figsize=(3.2 * len(tasks), 2.8), squeeze=False)
    for panel, task in zip(panels[0], tasks, strict=True):
        for (name, row, seed), one in runs.items():
            if name != task:
                continue
            metric = one.record.metrics[one.record.primary]
            place = rows.index(row) + 0.12 * (2 * seed - 1)
            low, high = metric.ci95 or (metric.value, metric.value)
            panel.vlines(place, low, high, color=f"C{seed}", linewidth=1)
            panel.plot(place, metric.value, "o", color=f"C{seed}", markersize=4)
        panel.set_xticks(range(len(rows)), [letter(row) for row in rows])
        panel.set_title(heading(task, runs).replace("↑", "(up)").replace("↓", "(down)"), fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def written(part: str, page: str) -> str:
    """The page with a part's tables, whose picture is drawn."""
    runs = load_runs(part)
    tasks, seeds = sorted({task for task, _, _ in runs}), sorted({seed for _, _, seed in runs})
    draw(tasks, runs, ROOT / f"docs/images/{part}.png")
    begin, end = f"<!-- from the records: {part} -->", f"<!-- end: {part} -->"
    caption = f"![Each row and task, one point a seed, with intervals](images/{part}.png)"
    before, rest = page.split(begin)
    lines = [begin, "", *scores(tasks, seeds, runs), "", *gains(tasks, seeds, runs), "", caption, "", end]
    return before + "\n".join(lines) + rest.split(end)[1]


def main() -> None:
    for part, _, records in (argument.partition("=") for argument in sys.argv[1:]):
        pack(Path(records), archive(part))
    page = PAGE.read_text(encoding="utf-8")
    for part in PARTS:
        page = written(part, page)
    write_text(PAGE, page)


if __name__ == "__main__":
    main()
