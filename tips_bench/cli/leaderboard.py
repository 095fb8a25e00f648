"""tips-bench leaderboard: build a site from records, check a submission, publish a site, report on one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tips_bench.cli.options import local_path
from tips_bench.cli.output import print_error, print_json, print_line, print_text
from tips_bench.errors import UserError
from tips_bench.journal import say
from tips_bench.wording import counted

if TYPE_CHECKING:
    from tips_bench.leaderboard.publish import Change

EXAMPLES = """Build a leaderboard website from records, check submissions, and publish it.

\b
Examples:
  tips-bench leaderboard build results/ --to site/
  tips-bench leaderboard serve site/
"""
app = typer.Typer(help=EXAMPLES, no_args_is_help=True)
LISTED = 12  # paths shown of each kind of change


@app.command("build")
def build(
    results: Annotated[list[Path], typer.Argument(help="Record files, or folders that contain them.")],
    to: Annotated[
        Path,
        typer.Option("--to", parser=local_path, metavar="FOLDER", help="Folder to write the site to. An earlier site there is replaced."),
    ],
    title: Annotated[str, typer.Option(help="Name of the leaderboard.")] = "tips-bench leaderboard",
    address: Annotated[
        str | None, typer.Option(help="Where the site will stand (https://...). Links to it then show a picture of the ranking.")
    ] = None,
    submit: Annotated[
        str | None, typer.Option(help="A page that says how to submit a result (https://...). Every page of the site then links to it.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published/--no-published", help="Show scores from papers beside the measured scores.")
    ] = True,
) -> None:
    """Build a static website from records. Broken records are left out, and their errors are printed.

    \b
    Examples:
      tips-bench leaderboard build results/ --to site/
      tips-bench leaderboard build results/ accepted/ --to site/ --title Ours
      tips-bench leaderboard build results/ --to site/ \\
        --address https://example.org/board/
    """
    from tips_bench.cards import in_full, list_cards
    from tips_bench.leaderboard.published import reported
    from tips_bench.leaderboard.site import build as build_site

    deviations = {card.name: in_full(card)["deviations_from_source"] for card in list_cards("protocol")[0]}
    papers = reported() if published else ()
    built = build_site(results, to, reported=papers, deviations=deviations, title=title, address=address, submit=submit)
    for error in built.broken:
        print_error(error)
    left = f", {counted(len(built.broken), 'fault')}" if built.broken else ""
    if built.on_boards < built.records:
        why = "the others were run with --limit or --set, or a fit did not converge; the front page names the reasons"
        say(f"{built.on_boards} of {built.records} records are on a board, where models are compared; {why}")
    print_line(f"{to / 'index.html'}: {counted(built.records, 'record')}, {counted(built.pages, 'page')}{left}")


@app.command("serve")
def serve(
    site: Annotated[Path, typer.Argument(help="Folder of a site, as `leaderboard build` wrote it.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port. 0: any free port.")] = 8000,
) -> None:
    """Show a site in the browser of this machine. Stop it with Ctrl-C.

    \b
    Examples:
      tips-bench leaderboard serve site/
      tips-bench leaderboard serve site/ --port 0
    """
    from tips_bench.leaderboard.serve import SiteServer
    from tips_bench.loopback import ADDRESS

    with SiteServer(site, port) as server:
        print(f"http://{ADDRESS}:{server.server_address[1]}/ (interrupt to stop)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


@app.command("validate")
def validate(
    submission: Annotated[Path, typer.Argument(help="A folder of records with their per-sample counts, as `run --out` writes it.")],
    against: Annotated[
        Path | None, typer.Option(help="Folder of the records that you have accepted so far. The submission must use the same data.")
    ] = None,
    own_cards: Annotated[
        bool,
        typer.Option("--own-cards", help="Also accept your own cards: those in ./tips-bench-cards, $TIPS_BENCH_CARDS and plugins."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a submission. Exit status 1 if it has an error.

    Every number is computed again from the per-sample counts. Cards and data are
    compared with those that ship with tips-bench.

    \b
    Examples:
      tips-bench leaderboard validate submission/
      tips-bench leaderboard validate submission/ --against accepted/ --json
    """
    from functools import partial

    from tips_bench.leaderboard.ranking import read
    from tips_bench.leaderboard.submission import validate as review_submission

    accepted = read([against])[0] if against is not None else []
    review = review_submission(submission, partial(_card_of, own=own_cards), accepted)
    if as_json:
        print_json({"records": review.records, "faults": list(map(vars, review.faults)), "notes": list(map(vars, review.notes))})
    else:
        for kind, findings in (("fault", review.faults), ("note", review.notes)):
            for finding in findings:
                print_text(f"{kind} {finding.where}: {finding.problem}")
        print(f"{counted(review.records, 'record')}, {counted(len(review.faults), 'fault')}")
    if review.faults:
        raise typer.Exit(1)


def _card_of(kind: str, name: str, task: str, *, own: bool) -> dict[str, Any] | None:
    """A card here by its name, never by a path that a stranger wrote; a protocol as it is for a task, a task with its changes.

    own: also the user's, who may have a stranger's folder at hand.
    """
    from tips_bench.cards import load_card
    from tips_bench.catalog import card_files, shipped_card_files
    from tips_bench.variants import base_of

    files = card_files(kind) if own else shipped_card_files(kind)
    base = base_of(name) if kind == "task" and name not in files else name
    if base not in files:
        return None
    card = load_card(kind, f"{files[base]}{name.removeprefix(base)}")  # type: ignore[arg-type]
    return (card.for_task(task) if kind == "protocol" else card).model_dump(mode="json")


@app.command("publish")
def publish(
    site: Annotated[Path, typer.Argument(help="Folder of a site, as `leaderboard build` wrote it.")],
    to: Annotated[
        str, typer.Option("--to", help="Where to publish: a folder, a git URL, hf://spaces/OWNER/NAME or hf://datasets/OWNER/NAME.")
    ],
    branch: Annotated[
        str | None, typer.Option(help="Branch of the git repository, for example gh-pages. Default: its default branch.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Publish without asking.")] = False,
) -> None:
    """Publish a site to a folder, a git repository or the Hugging Face hub.

    The changes are shown first, and you are asked to confirm. Files that an
    earlier publication did not write are never changed or removed.

    \b
    Examples:
      tips-bench leaderboard publish site/ --to /srv/www/leaderboard
      tips-bench leaderboard publish site/ --branch gh-pages \\
        --to git@github.com:OWNER/NAME.git
      tips-bench leaderboard publish site/ --to hf://spaces/OWNER/NAME --yes
    """
    from tips_bench.leaderboard.publish import publish as send
    from tips_bench.web import shown

    place = shown(to)

    def confirm(change: Change) -> bool:
        print_change(change, place)
        if yes:
            return True
        if not sys.stdin.isatty():
            raise UserError("there is no terminal to confirm on", where="--yes", fix="Add --yes to publish without being asked.")
        return typer.confirm(f"Publish to {place}?")

    change = send(site, to, confirm, branch=branch)
    if change is None:
        print("nothing was published")
    elif not change:
        print(f"{place} is up to date: {change.same} files")
    else:
        print(f"published to {place}")


def print_change(change: Change, to: str) -> None:
    """Prints which paths a publication adds, changes and removes; of each kind at most LISTED."""
    for sign, paths in (("+", change.added), ("~", change.changed), ("-", change.removed)):
        for path in sorted(paths, key=lambda path: (path.count("/"), path))[:LISTED]:
            print(f"{sign} {path}")
        if len(paths) > LISTED:
            print(f"{sign} and {len(paths) - LISTED} more")
    counts = f"{len(change.added)} added, {len(change.changed)} changed, {len(change.removed)} removed, {change.same} unchanged"
    print(f"{to}: {counts}")


@app.command("report")
def report(
    record: Annotated[Path, typer.Argument(help="The record (a .json file).")],
    to: Annotated[Path, typer.Option("--to", parser=local_path, metavar="FILE", help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """Write one HTML file about one record: scores, intervals, classes, pictures, cost, and the command to repeat it.

    \b
    Examples:
      tips-bench leaderboard report results/ade20k/tips-b14/convex-0123.json
      tips-bench leaderboard report RECORD.json --to report.html
    """
    from tips_bench.leaderboard.run_report import write_report

    write_report(record, to)
    print_line(str(to))
