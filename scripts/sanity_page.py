"""Write the tables of docs/sanity.md and its picture from the records in docs/records/sanity.tar.xz .

    PYTHONPATH=. python scripts/sanity_page.py
    PYTHONPATH=. python scripts/sanity_page.py runs/sanity/records      # pack new records of benchmarks/sanity.py first

What stands between the marks is written anew; the words around it are kept.
Axes: E encoders, R resamples, G groups of samples, X counts of a sample.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from scipy.stats import rankdata

from benchmarks.sanity import CANDIDATES, CHAINS, TASKS, TRAINED, UNTRAINED
from scripts.record_archives import pack, unpacked
from tips_bench.files import write_text
from tips_bench.results.comparison import Comparison, compare
from tips_bench.results.counts import Scored, load_scored
from tips_bench.results.folders import read_records
from tips_bench.results.statistics import RESAMPLES, adjusted, group_sums

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/sanity.md"
ARCHIVE = ROOT / "docs/records/sanity.tar.xz"
PICTURE = ROOT / "docs/images/sanity.png"
MARKS = "<!-- from the records: {} -->", "<!-- end: {} -->"
DECIMALS = {"depth": 3}  # metres; two of anything else
TOLD = {"B is better": "yes", "cannot tell": "no", "A is better": "reversed"}
Table = dict[str, dict[str, Scored]]  # family -> encoder -> its record and counts
Orders = dict[str, np.ndarray]  # encoder -> its gains


def load_table(archive: Path = ARCHIVE) -> Table:
    """The records, families and encoders in the order of benchmarks/sanity.py.

    Errors: there are none yet; a record that is broken.
    """
    if not archive.is_file():
        raise SystemExit(f"{archive} is not there: run `make sanity`.")
    with unpacked(archive) as folder:
        found = {}
        for candidate in CANDIDATES:
            scored, broken = read_records(folder / candidate.name, load_scored)
            if broken:
                raise broken[0]
            found |= {(one.record.task, candidate.name): one for one in scored}
    names = [candidate.name for candidate in CANDIDATES]
    return {task.family: {name: found[task.name, name] for name in names if (task.name, name) in found} for task in TASKS}


def value(one: Scored) -> float:
    return one.record.primary_metric.value


def gains(scored: dict[str, Scored]) -> np.ndarray:
    """The primary metric of each encoder, turned so that more is better, [E]."""
    return np.array([one.record.primary_metric.spec.gain(value(one), 0.0) for one in scored.values()])


def resampled(scored: dict[str, Scored]) -> Orders:
    """The same, and then of resamples of the groups of test samples, [1+R] each.

    The draws are the same for all encoders, and for all families with as many groups.
    """
    rows = {}
    for (name, one), gain in zip(scored.items(), gains(scored), strict=True):
        counts_GX = group_sums(one.counts.counts_N, one.counts.groups).astype(np.float64)
        number, shape = len(counts_GX), counts_GX.shape[1:]
        drawn_RG = np.random.default_rng(0).integers(0, number, (RESAMPLES, number)) + np.arange(RESAMPLES)[:, None] * number
        times_RG = np.bincount(drawn_RG.ravel(), minlength=RESAMPLES * number).reshape(RESAMPLES, number)
        totals_RX = times_RG.astype(np.float64) @ counts_GX.reshape(number, -1)
        values_R = one.family.summary(totals_RX.reshape(RESAMPLES, *shape))[one.record.primary]
        rows[name] = np.append(gain, one.record.primary_metric.spec.gain(np.asarray(values_R), np.zeros(RESAMPLES)))
    return rows


def taus(x_ER: np.ndarray, y_ER: np.ndarray) -> np.ndarray:
    """Kendall's tau-b between the orders of the same encoders, for each resample, [R]."""
    first, second = np.triu_indices(len(x_ER), k=1)
    x_PR, y_PR = (np.sign(values_ER[first] - values_ER[second]) for values_ER in (x_ER, y_ER))
    with np.errstate(invalid="ignore"):  # NaN where all encoders are equal
        return (x_PR * y_PR).sum(0) / np.sqrt((x_PR != 0).sum(0) * (y_PR != 0).sum(0))


def tau(a: Orders, b: Orders) -> tuple[int, float, float, float]:
    """Number of encoders that two families share, tau between their orders, and its 95 % interval over resamples."""
    shared = [name for name in a if name in b]
    x_ER, y_ER = (np.stack([side[name] for name in shared]) for side in (a, b))
    middle, *drawn = taus(x_ER, y_ER)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return len(shared), float(middle), float(low), float(high)


def expected() -> list[tuple[str, str]]:
    """Pairs (worse, better) whose order is known beforehand, each once."""
    steps = [pair for chain in CHAINS for pair in [*pairwise(chain), (chain[0], chain[-1])]]
    return list(dict.fromkeys([*steps, *((low, high) for low in UNTRAINED for high in TRAINED)]))


def compared(scored: dict[str, Scored], pairs: list[tuple[str, str]]) -> dict[tuple[str, str], Comparison]:
    """The pairs of encoders that a family has, by paired tests whose p-values are adjusted for their number."""
    found = {(a, b): compare(scored[a], scored[b], detail=False) for a, b in pairs if a in scored and b in scored}
    q = adjusted([one.primary.p for one in found.values()])
    return {pair: replace(one, q=q_pair) for (pair, one), q_pair in zip(found.items(), q, strict=True)}


def told(one: Comparison) -> str:
    """Whether B is told to be better than A: "yes", "no" or "reversed"."""
    return TOLD[one.verdict]


def ranking(scored: dict[str, Scored]) -> list[str]:
    """The encoders of a family, best first."""
    return [list(scored)[place] for place in np.argsort(-gains(scored), kind="stable")]


def score_lines(table: Table) -> list[str]:
    """A row for each encoder: its score in each family, with its 95 % interval."""
    families = list(table)
    metrics = [next(iter(table[family].values())).record for family in families]
    titles = [
        f"{family}, {record.primary} {record.primary_metric.unit} {'↑' if record.primary_metric.higher_is_better else '↓'}"
        for family, record in zip(families, metrics, strict=True)
    ]
    lines = ["| encoder | " + " | ".join(titles) + " |", "| --- |" + " --- |" * len(families)]
    for candidate in CANDIDATES:
        cells = []
        for family in families:
            one = table[family].get(candidate.name)
            cells.append("" if one is None else score(one, DECIMALS.get(family, 2)))
        lines.append(f"| {candidate.name} | " + " | ".join(cells) + " |")
    return lines


def score(one: Scored, decimals: int) -> str:
    low, high = one.record.primary_metric.ci95 or (float("nan"), float("nan"))
    return f"{value(one):.{decimals}f}<br>[{low:.{decimals}f}, {high:.{decimals}f}]"


def order_lines(table: Table) -> list[str]:
    """For each family: its order, best first; ">" where the paired test tells two neighbors apart, "~" where it does not."""
    lines = ["| family | order, best first | neighbors told apart |", "| --- | --- | --- |"]
    for family, scored in table.items():
        names = ranking(scored)
        tests = compared(scored, [(worse, better) for better, worse in pairwise(names)])
        signs = [">" if told(tests[worse, better]) == "yes" else "~" for better, worse in pairwise(names)]
        chain = names[0] + "".join(f" {sign} {name}" for sign, name in zip(signs, names[1:], strict=True))
        lines.append(f"| {family} | {chain} | {signs.count('>')} of {len(signs)} |")
    return lines


def known(table: Table) -> dict[str, dict[tuple[str, str], str]]:
    """Family -> pair of known order -> whether the paired test finds that order."""
    return {family: {pair: told(one) for pair, one in compared(scored, expected()).items()} for family, scored in table.items()}


def known_lines(table: Table) -> list[str]:
    """How many tests find the known order, and a row for each pair, a column for each family."""
    found = known(table)
    answers = [answer for pairs in found.values() for answer in pairs.values()]
    lines = [
        f"{answers.count('yes')} of {len(answers)} tests find the known order, {answers.count('no')} find no difference, and "
        f"{answers.count('reversed')} find the opposite order.",
        "",
        "| worse | better | " + " | ".join(table) + " |",
        "| --- | --- |" + " --- |" * len(table),
    ]
    for pair in expected():
        cells = [found[family].get(pair, "") for family in table]
        lines.append(f"| {pair[0]} | {pair[1]} | " + " | ".join(f"**{cell}**" if cell == "reversed" else cell for cell in cells) + " |")
    for title, answer in (("found", "yes"), ("not told apart", "no"), ("reversed", "reversed")):
        cells = [f"{list(pairs.values()).count(answer)} of {len(pairs)}" for pairs in found.values()]
        lines.append(f"| **{title}** | | " + " | ".join(cells) + " |")
    return lines


def tau_lines(table: Table) -> list[str]:
    """Kendall's tau between each two families, with its interval; below the diagonal alone, for it is the same above."""
    families, drawn = list(table), {family: resampled(scored) for family, scored in table.items()}
    lines = ["| | " + " | ".join(families[:-1]) + " |", "| --- |" + " --- |" * (len(families) - 1)]
    for place, family in enumerate(families[1:], start=1):
        cells = []
        for other in families[:place]:
            number, middle, low, high = tau(drawn[other], drawn[family])
            cells.append(f"{middle:.2f} [{low:.2f}, {high:.2f}], {number}")
        lines.append(f"| {family} | " + " | ".join([*cells, *[""] * (len(families) - 1 - place)]) + " |")
    return lines


def draw(table: Table, path: Path) -> None:
    """Ranks as a heat table: a row an encoder, a column a family, 1 the best."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names, families = [candidate.name for candidate in CANDIDATES], list(table)
    ranks_EF = np.full((len(names), len(families)), np.nan)
    shares_EF = np.full_like(ranks_EF, np.nan)
    for column, scored in enumerate(table.values()):
        ranks_E = rankdata(-gains(scored), method="min")
        for name, rank in zip(scored, ranks_E, strict=True):
            ranks_EF[names.index(name), column] = rank
            shares_EF[names.index(name), column] = (rank - 1) / (len(scored) - 1)
    figure, panel = pyplot.subplots(figsize=(8.4, 5.2))
    panel.imshow(shares_EF, cmap="viridis_r", vmin=0, vmax=1, aspect="auto")
    for row, column in zip(*np.nonzero(~np.isnan(ranks_EF)), strict=True):
        color = "white" if shares_EF[row, column] > 0.5 else "black"
        panel.text(column, row, f"{ranks_EF[row, column]:.0f}", ha="center", va="center", color=color, fontsize=9)
    panel.set_xticks(range(len(families)), families, rotation=30, ha="right", fontsize=8)
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.set_title("Rank of each encoder in each family on generated rooms (1: best; empty: it cannot do it)", fontsize=9)
    panel.spines[:].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def filled(page: str, parts: dict[str, list[str]]) -> str:
    """The page with each part between its marks."""
    for name, lines in parts.items():
        begin, end = (mark.format(name) for mark in MARKS)
        before, rest = page.split(begin)
        page = before + "\n".join([begin, "", *lines, "", end]) + rest.split(end)[1]
    return page


def encoder_lines() -> list[str]:
    """What the encoders are."""
    lines = ["| encoder | what it is | beside patches |", "| --- | --- | --- |"]
    return [*lines, *(f"| {one.name} | {one.about} | {', '.join(one.has)} |" for one in CANDIDATES)]


def written(page: str, table: Table) -> str:
    """The page with the tables of these records."""
    parts = {
        "encoders": encoder_lines(),
        "scores": score_lines(table),
        "order": order_lines(table),
        "known": known_lines(table),
        "tau": tau_lines(table),
    }
    return filled(page, parts)


def main() -> None:
    if len(sys.argv) > 1:
        pack(Path(sys.argv[1]), ARCHIVE)
    table = load_table()
    draw(table, PICTURE)
    write_text(PAGE, written(PAGE.read_text(encoding="utf-8"), table))


if __name__ == "__main__":
    main()
