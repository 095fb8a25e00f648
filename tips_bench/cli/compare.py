"""tips-bench compare: two records, two folders of records, or a record and the papers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tips_bench.cli.output import print_error, print_json
from tips_bench.errors import UserError


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A record, or a folder of records.")],
    b: Annotated[
        Path | None, typer.Argument(metavar="[B]", help="A second record of the same task, data and protocol; or a second folder.")
    ] = None,
    published: Annotated[bool, typer.Option("--published", help="Show what papers report for the model and task of A.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything at full precision, as JSON.")] = False,
) -> None:
    """Is B better than A? Shows the difference, its 95 % interval, a p-value, and the classes and images that changed.

    The interval is a paired bootstrap: it draws the same test images for both.
    The p-value is from a randomization test that swaps the two models image by
    image. With two folders, every task, model and protocol that both contain is
    compared, and the p-values are adjusted for the number of tests.

    \b
    Examples:
      tips-bench compare tips-b14.json dinov2-b14.json
      tips-bench compare results/monday results/tuesday
      tips-bench compare results/ade20k/tips-g14/a.json --published
    """
    if published == (b is not None):
        raise UserError("give either a second record or --published", where="compare", fix="See tips-bench compare --help.")
    if b is None:
        _with_papers(a, as_json)
    elif a.is_dir() or b.is_dir():
        _folders(a, b, as_json)
    else:
        from tips_bench.results.comparison import as_data
        from tips_bench.results.comparison import compare as compared
        from tips_bench.results.comparison_text import comparison_text

        found = compared(a, b)
        if as_json:
            print_json(as_data(found))
        else:
            sys.stdout.write(comparison_text(found))


def _folders(a: Path, b: Path, as_json: bool) -> None:
    from tips_bench.results.comparison import compare_folders, suite_data
    from tips_bench.results.comparison_text import suite_text

    suite = compare_folders(a, b)
    for error in suite.broken:
        print_error(error)
    if as_json:
        print_json(suite_data(suite))
    else:
        sys.stdout.write(suite_text(suite))
    if not suite.comparisons:
        fix = "Compare folders with records of the same tasks and protocols."
        raise UserError("nothing is compared: no task, protocol and model is in both folders", where=f"{a}, {b}", fix=fix)


def _with_papers(path: Path, as_json: bool) -> None:
    from tips_bench.cards import load_card
    from tips_bench.catalog import card_files
    from tips_bench.leaderboard.published import beside_papers, papers_data
    from tips_bench.leaderboard.published_text import papers_text
    from tips_bench.results.record import load_record
    from tips_bench.variants import base_of

    record = load_record(path)
    task = base_of(record.task)  # papers have no numbers of changed images, but of the protocol
    protocols = {name: load_card("protocol", name).for_task(task).model_dump(mode="json") for name in card_files("protocol")}
    found = beside_papers(record, protocols)
    if as_json:
        print_json(papers_data(found))
    else:
        sys.stdout.write(papers_text(record, found))
