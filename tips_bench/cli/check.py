"""tips-bench check: did any score get worse than the baseline?"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tips_bench.cli.output import print_json


def check(
    new: Annotated[Path, typer.Argument(help="The new records: a folder or one file.")],
    against: Annotated[Path, typer.Option(help="The baseline records: a folder or one file.")],
    tolerance: Annotated[
        str, typer.Option(help="Largest drop that still passes: one number for all units, or UNIT=NUMBER pairs, separated by commas.")
    ] = "%=0.2,m=0.005,deg=0.1",
    fail_on: Annotated[str | None, typer.Option(metavar="FINDING,...", help="Findings that fail, too: cannot-tell, new.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    json_file: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write the report as JSON.")] = None,
    junit_file: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write the report as JUnit XML.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Write the report as a Markdown table.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Print the findings as GitHub annotations.")] = False,
) -> None:
    """Compare new records with a baseline. Exit status 1 if a score got worse.

    A score got worse if it dropped by more than the tolerance and the 95 %
    interval of the paired difference excludes zero.
    The check also fails if a record of the baseline has no counterpart, is
    broken, or used other data or another protocol; and if the score held but the
    effective rank of the features fell below half (feature collapse).
    --fail-on cannot-tell fails, too, where there are too few images to see a
    change of the tolerance's size.
    In a GitHub job, the table is also written to the job summary.

    \b
    Examples:
      tips-bench check results/new --against baselines/
      tips-bench check results/new --against baselines/ --tolerance %=0.5,m=0.01
      tips-bench check results/new --against baselines/ --junit check.xml --github
    """
    from tips_bench.files import cannot_write, write_text
    from tips_bench.results.check_reports import check_text, github_annotations, junit, markdown
    from tips_bench.results.regression import as_data, read_failing, read_tolerances
    from tips_bench.results.regression import check as checked

    report = checked(new, against, read_tolerances(tolerance), fail_on=read_failing(fail_on))
    if as_json:
        print_json(as_data(report))
    else:
        sys.stdout.write(check_text(report))
    if github:
        sys.stdout.write(github_annotations(report))
    if json_file is not None:
        write_text(json_file, json.dumps(as_data(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if junit_file is not None:
        write_text(junit_file, junit(report))
    if markdown_file is not None:
        write_text(markdown_file, markdown(report))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with Path(summary).open("a", encoding="utf-8") as file:  # the steps of a job share the file
                file.write(markdown(report))
        except OSError as error:
            raise cannot_write(Path(summary), error) from error
    if not report.passed:
        raise typer.Exit(1)
