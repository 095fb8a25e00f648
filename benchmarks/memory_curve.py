"""In-context segmentation or depth over sizes of the memory: a table and a chart of the primary metric with its intervals.

    python benchmarks/memory_curve.py --task voc2012-aug --model dinov2-b14,tipsv2-b14 --out curve
    python benchmarks/memory_curve.py --task rooms-seg --model tips-nano --protocol hummingbird-224 --patches 1000,10000,100000 --out curve

Each size is a run of the protocol with another probe.memory, so that all other numbers are the same, and a run that was done before is
not done again. 102,400, 1,024,000 and 10,240,000 are the sizes of the table in the README of vpariza/open-hummingbird-eval 5e79da2.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

import tips_bench
from tips_bench.results.record import Record


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--task", required=True)
    options.add_argument("--model", required=True, help="One or several, with commas.")
    options.add_argument("--protocol", default="hummingbird")
    options.add_argument("--patches", default="102400,1024000,10240000", help="Sizes of the memory, with commas.")
    options.add_argument("--limit", type=int)
    options.add_argument("--out", type=Path, default=Path("curve"))
    chosen = options.parse_args()
    sizes = sorted({int(size) for size in chosen.patches.split(",")})
    curves = {model: [score(chosen, model, size) for size in sizes] for model in chosen.model.split(",")}
    table = "\n".join(lines(sizes, curves))
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "memory.md").write_text(f"{table}\n", encoding="utf-8")
    draw(sizes, curves, chosen.out / "memory.png")
    print(table)


def score(chosen: argparse.Namespace, model: str, size: int) -> Record:
    """The record of one point; the features of the images are kept between points."""
    changed = [f"probe.memory={size}"]
    return tips_bench.run(chosen.task, model, chosen.protocol, overrides=changed, out=chosen.out, limit=chosen.limit, cache=True)


def lines(sizes: list[int], curves: dict[str, list[Record]]) -> list[str]:
    """The table: the value and its interval at each size, and how many patches had a label and so are in the memory."""
    first = next(iter(curves.values()))[0]
    found = [f"| {first.primary}, {first.metrics[first.primary].unit} | {' | '.join(f'{size:,} patches' for size in sizes)} |"]
    found.append(f"| --- |{' --- |' * len(sizes)}")
    for model, records in curves.items():
        cells = []
        for record in records:
            metric = record.metrics[record.primary]
            interval = f" [{metric.ci95[0]:.2f}, {metric.ci95[1]:.2f}]" if metric.ci95 else ""
            cells.append(f"{metric.value:.2f}{interval}, {record.probe['patches']:,} in it")
        found.append(f"| {model} | {' | '.join(cells)} |")
    return found


def draw(sizes: list[int], curves: dict[str, list[Record]], path: Path) -> None:
    """The chart: a line a model, with 95 % intervals over test images (or groups of them)."""
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for model, records in curves.items():
        metrics = [record.metrics[record.primary] for record in records]
        values = [metric.value for metric in metrics]
        low, high = zip(*(metric.ci95 or (metric.value, metric.value) for metric in metrics), strict=True)
        spread = [
            [value - least for value, least in zip(values, low, strict=True)],
            [most - value for value, most in zip(values, high, strict=True)],
        ]
        axes.errorbar(sizes, values, yerr=spread, marker="o", capsize=3, label=model)
    first = next(iter(curves.values()))[0]
    axes.set(xscale="log", xlabel="patches in the memory, at most", ylabel=f"{first.primary}, {first.metrics[first.primary].unit}")
    axes.set_title(f"{first.task}, {first.protocol}")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
