"""Write the tables and the picture of docs/sanity.md and docs/sanity-matching.md, and lines of other pages.

They come from the records in docs/records/sanity.tar.xz:

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

from benchmarks.sanity import CANDIDATES, CHAINS, FITTED, LATER, MATCHED, RETRIEVED, TASKS, TRAINED, UNTRAINED, Task
from scripts.record_archives import pack, unpacked
from tips_bench.files import write_text
from tips_bench.results.comparison import Comparison, compare
from tips_bench.results.counts import Scored, load_scored
from tips_bench.results.folders import read_records
from tips_bench.results.statistics import RESAMPLES, adjusted, group_sums

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs/sanity.md", ROOT / "docs/sanity-matching.md"]
ARCHIVE = ROOT / "docs/records/sanity.tar.xz"
PICTURE = ROOT / "docs/images/sanity.png"
MARKS = "<!-- from the records: {} -->", "<!-- end: {} -->"
TWINS = {  # page -> the families that it is about
    "in-context.md": ["in-context segmentation", "in-context depth"],
    "correspondence.md": ["keypoints", "views"],
    "videos.md": ["videos"],
    "discovery.md": ["k-means", "discovery"],
    "landmarks.md": ["landmarks", "landmark collections", "places then and now"],
}
REFERENCES = ["segmentation", "depth"]  # the families that others are asked to agree with
COURSE = CHAINS[0]  # the checkpoints of tips-nano
DECIMALS = {"depth": 3, "in-context depth": 3}  # metres; two of anything else
TWIN = {"B is better": ".", "cannot tell": ": **not told apart**.", "A is better": ": **worse**."}
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
            found |= {(one.record.task, one.record.protocol, candidate.name): one for one in scored}
    names = [candidate.name for candidate in CANDIDATES]
    keys = {task.family: [(task.name, task.protocol, name) for name in names] for task in TASKS}
    return {family: {key[-1]: found[key] for key in wanted if key in found} for family, wanted in keys.items()}


def part(table: Table, tasks: list[Task]) -> Table:
    """The families of these tasks."""
    return {task.family: table[task.family] for task in tasks}


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
    for name in (one.name for one in CANDIDATES if any(one.name in scored for scored in table.values())):
        cells = [score(scored[name], DECIMALS.get(family, 2)) if name in scored else "" for family, scored in table.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def score(one: Scored, decimals: int) -> str:
    low, high = one.record.primary_metric.ci95 or (float("nan"), float("nan"))
    return f"{value(one):.{decimals}f}<br>[{low:.{decimals}f}, {high:.{decimals}f}]"


def chain(scored: dict[str, Scored]) -> tuple[str, int, int]:
    """The encoders, best first; ">" where the paired test tells two neighbors apart, "~" where it does not. Then both numbers."""
    names = ranking(scored)
    tests = compared(scored, [(worse, better) for better, worse in pairwise(names)])
    signs = [">" if told(tests[worse, better]) == "yes" else "~" for better, worse in pairwise(names)]
    return names[0] + "".join(f" {sign} {name}" for sign, name in zip(signs, names[1:], strict=True)), signs.count(">"), len(signs)


def order_lines(table: Table) -> list[str]:
    """For each family: its order."""
    lines = ["| family | order, best first | neighbors told apart |", "| --- | --- | --- |"]
    for family, scored in table.items():
        names, apart, number = chain(scored)
        lines.append(f"| {family} | {names} | {apart} of {number} |")
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
    for pair in (one for one in expected() if any(one in pairs for pairs in found.values())):
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
            cells.append(tau_cell(tau(drawn[other], drawn[family])))
        lines.append(f"| {family} | " + " | ".join([*cells, *[""] * (len(families) - 1 - place)]) + " |")
    return lines


def tau_cell(found: tuple[int, float, float, float]) -> str:
    number, middle, low, high = found
    return f"{middle:.2f} [{low:.2f}, {high:.2f}], {number}"


def agreement_lines(table: Table) -> list[str]:
    """Tau of each family of LATER with each of REFERENCES, over all encoders and over the checkpoints of tips-nano, and their order."""
    course = {family: {name: scored[name] for name in COURSE if name in scored} for family, scored in table.items()}
    lines = ["| family | " + " | ".join(f"{reference}, {who}" for who in ("all", "tips-nano") for reference in REFERENCES) + " | order |"]
    lines = [*lines, "| --- |" + " --- |" * (2 * len(REFERENCES) + 1)]
    drawn = [{family: resampled(scored) for family, scored in some.items()} for some in (table, course)]
    for family in part(table, LATER):
        cells = [tau_cell(tau(some[reference], some[family])) for some in drawn for reference in REFERENCES]
        lines.append(f"| {family} | " + " | ".join(cells) + f" | {chain(course[family])[0]} |")
    return lines


def twin_lines(table: Table, families: list[str]) -> list[str]:
    """A line for each family: is tips-nano better than the same network with random weights?"""
    return [twin_line(family, compare(table[family][COURSE[0]], table[family][COURSE[-1]], detail=False)) for family in families]


def twin_line(family: str, one: Comparison) -> str:
    record, digits = one.a.record, DECIMALS.get(family, 2)
    unit, (low, high) = record.primary_metric.unit, one.gain_interval or (float("nan"), float("nan"))
    scores = f"tips-nano {one.primary.b:.{digits}f} {unit}, its random twin {one.primary.a:.{digits}f} {unit} {record.primary}"
    test = f"gain {one.gain:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}], p = {one.primary.p:.4f}"
    return f"- `{record.task}`, `{record.protocol}`: {scores}; {test}{TWIN[one.verdict]}"


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
    figure, panel = pyplot.subplots(figsize=(10.4, 5.2))
    panel.imshow(shares_EF, cmap="viridis_r", vmin=0, vmax=1, aspect="auto")
    for row, column in zip(*np.nonzero(~np.isnan(ranks_EF)), strict=True):
        color = "white" if shares_EF[row, column] > 0.5 else "black"
        panel.text(column, row, f"{ranks_EF[row, column]:.0f}", ha="center", va="center", color=color, fontsize=9)
    panel.set_xticks(range(len(families)), families, rotation=30, ha="right", fontsize=8)
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.set_title("Rank of each encoder in each family on generated rooms (1: best; empty: not scored)", fontsize=9)
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
    """A page with those of the tables of these records that it has marks for."""
    fitted, matched, retrieved = (part(table, tasks) for tasks in (FITTED, MATCHED, RETRIEVED))
    parts = {
        "encoders": encoder_lines(),
        "scores": score_lines(fitted),
        "scores of matching": score_lines(matched),
        "scores of landmarks": score_lines(retrieved),
        "twins": twin_lines(table, list(part(table, LATER))),
        "order": order_lines(table),
        "known": known_lines(fitted),
        "known of matching": known_lines(matched),
        "known of landmarks": known_lines(retrieved),
        "tau": tau_lines(fitted),
        "agreement": agreement_lines(table),
    }
    return filled(page, {name: lines for name, lines in parts.items() if MARKS[0].format(name) in page})


def main() -> None:
    if len(sys.argv) > 1:
        pack(Path(sys.argv[1]), ARCHIVE)
    table = load_table()
    draw(table, PICTURE)
    for page in PAGES:
        write_text(page, written(page.read_text(encoding="utf-8"), table))
    for name, families in TWINS.items():
        page = ROOT / "docs" / name
        write_text(page, filled(page.read_text(encoding="utf-8"), {"twins": twin_lines(table, families)}))


if __name__ == "__main__":
    main()
