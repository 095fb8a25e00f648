"""tips-bench leaderboard: records as a site, a submission checked, a site published, a report of one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tips_bench.cli.output import print_error, print_json
from tips_bench.errors import UserError
from tips_bench.terminal import printable

if TYPE_CHECKING:
    from tips_bench.leaderboard.publish import Change
    from tips_bench.leaderboard.submission import Fault

app = typer.Typer(help="Build, serve, check and publish a leaderboard.", no_args_is_help=True)
LISTED = 12  # paths shown of each kind of change


@app.command("build")
def build(
    results: Annotated[list[Path], typer.Argument(help="Records, and folders that hold them.")],
    to: Annotated[Path, typer.Option("--to", help="The folder of the site; an earlier site there is replaced.")],
    title: Annotated[str, typer.Option(help="Name of the leaderboard.")] = "tips-bench leaderboard",
    published: Annotated[bool, typer.Option("--published/--no-published", help="Show what papers report beside the measured.")] = True,
) -> None:
    """Build a static site from records. What is wrong with a record that is left out is said on standard error.

    \b
    Examples:
      tips-bench leaderboard build results/ --to site/
      tips-bench leaderboard build results/ accepted/ --to site/ --title "Our encoders"
    """
    from tips_bench.leaderboard.published import reported
    from tips_bench.leaderboard.site import build as build_site

    built = build_site(results, to, reported=reported() if published else (), title=title)
    for error in built.broken:
        print_error(error)
    left = f", {_counted(len(built.broken), 'fault')}" if built.broken else ""
    print(f"{to / 'index.html'}: {_counted(built.records, 'record')}, {_counted(built.pages, 'page')}{left}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@app.command("serve")
def serve(
    site: Annotated[Path, typer.Argument(help="The folder of a built site.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
) -> None:
    """Serve a site to this machine only, until interrupted.

    \b
    Examples:
      tips-bench leaderboard serve site/
      tips-bench leaderboard serve site/ --port 0
    """
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from tips_bench.leaderboard.site_files import intact

    intact(site)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(site)))
    except OSError as error:
        raise UserError(f"port {port}: {error.strerror}", where="--port", fix="Choose another, or 0 for a free one.") from error
    with server:
        print(f"http://127.0.0.1:{server.server_address[1]}/ (interrupt to stop)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


@app.command("validate")
def validate(
    submission: Annotated[Path, typer.Argument(help="A folder of records with their counts, as `run --out` writes it.")],
    against: Annotated[Path | None, typer.Option(help="Your folder of accepted records: the data must be theirs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a submission: every number computed again, cards and data held against ours. Exit status 1 if it has faults.

    \b
    Examples:
      tips-bench leaderboard validate submission/
      tips-bench leaderboard validate submission/ --against accepted/ --json
    """
    from tips_bench.leaderboard.ranking import read
    from tips_bench.leaderboard.submission import validate as review_submission

    accepted = read([against])[0] if against is not None else []
    review = review_submission(submission, _card_of, accepted)
    if as_json:
        print_json({"records": review.records, "faults": list(map(vars, review.faults)), "notes": list(map(vars, review.notes))})
    else:
        for kind, findings in (("fault", review.faults), ("note", review.notes)):
            for finding in findings:
                print(_finding(kind, finding))
        print(f"{_counted(review.records, 'record')}, {_counted(len(review.faults), 'fault')}")
    if review.faults:
        raise typer.Exit(1)


def _finding(kind: str, finding: Fault) -> str:
    return printable(f"{kind:<6}{finding.where}: {finding.problem}")


def _card_of(kind: str, name: str) -> dict[str, Any] | None:
    """A card here by its name, never by a path that a stranger wrote."""
    from tips_bench.cards import load_card
    from tips_bench.catalog import card_files

    if name not in card_files(kind):
        return None
    return load_card(kind, name).model_dump(mode="json")  # type: ignore[arg-type]


@app.command("publish")
def publish(
    site: Annotated[Path, typer.Argument(help="The folder of a built site.")],
    to: Annotated[str, typer.Option("--to", help="A folder, a git URL, hf://spaces/OWNER/NAME or hf://datasets/OWNER/NAME.")],
    branch: Annotated[str | None, typer.Option(help="Branch of the git repository, such as gh-pages; its default otherwise.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Put a site where people read it. What would change is shown first; files that no site wrote there are never touched.

    \b
    Examples:
      tips-bench leaderboard publish site/ --to /srv/www/leaderboard
      tips-bench leaderboard publish site/ --to git@github.com:OWNER/NAME.git --branch gh-pages
      tips-bench leaderboard publish site/ --to hf://spaces/OWNER/NAME --yes
    """
    from tips_bench.leaderboard.publish import publish as send

    def confirm(change: Change) -> bool:
        print_change(change, to)
        if yes:
            return True
        if not sys.stdin.isatty():
            raise UserError("nobody is there to say yes", where="--yes", fix="Give --yes to publish without being asked.")
        return typer.confirm(f"Publish to {to}?")

    change = send(site, to, confirm, branch=branch)
    if change is None:
        print("nothing was published")
    elif not change:
        print(f"{to} is as it should be: {change.same} files")
    else:
        print(f"published to {to}")


def print_change(change: Change, to: str) -> None:
    """The paths that a publication adds, changes and removes, the first of each."""
    for sign, paths in (("+", change.added), ("~", change.changed), ("-", change.removed)):
        for path in sorted(paths, key=lambda path: (path.count("/"), path))[:LISTED]:
            print(f"{sign} {path}")
        if len(paths) > LISTED:
            print(f"{sign} and {len(paths) - LISTED} more")
    counts = f"{len(change.added)} added, {len(change.changed)} changed, {len(change.removed)} removed, {change.same} as they are"
    print(f"{to}: {counts}")


@app.command("report")
def report(
    record: Annotated[Path, typer.Argument(help="A record.")],
    to: Annotated[Path, typer.Option("--to", help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """Write one HTML file about a run: numbers, intervals, classes, pictures, cost, how to make it again.

    \b
    Examples:
      tips-bench leaderboard report results/rooms-seg/tips-b14/convex-224-01234567.json
      tips-bench leaderboard report RECORD.json --to report.html
    """
    from tips_bench.leaderboard.run_report import write_report

    write_report(record, to)
    print(to)
