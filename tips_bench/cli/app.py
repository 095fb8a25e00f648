"""tips-bench: the command itself, and how errors become exit statuses.

Exit status: 0 success; 1 a check failed; 2 an error that the user can fix (one line on standard error, no traceback); 130 interrupted.
Any other exception is a bug and keeps its traceback. The verbs' modules import nothing heavy until they are called.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tips_bench import __version__, journal, plugins
from tips_bench.cli import (
    bench,
    cache,
    check,
    compare,
    corpus,
    data,
    doctor,
    explore,
    export,
    export_results,
    init,
    leaderboard,
    list_cards,
    masks,
    quickstart,
    reproduce,
    robustness,
    run,
    samples,
    show,
    status,
    table,
    train,
)
from tips_bench.cli.interrupt import INTERRUPTED, interruptible
from tips_bench.cli.output import print_error
from tips_bench.cli.streams import drop_output
from tips_bench.errors import UserError, system_fault

EXAMPLES = """Evaluate frozen vision encoders on dense prediction benchmarks.

New here? Start with `tips-bench quickstart`: it needs no download.

\b
Examples:
  tips-bench quickstart
  tips-bench list models
  tips-bench show tips-g14
  tips-bench run --task ade20k --model tips-g14
  tips-bench run --task ade20k,voc2012 --model tips-b14 --protocol convex
  tips-bench table results/ --format markdown
"""

VERBOSITY = ("-q", "--quiet", "-v", "--verbose")  # no verb has an option of its own with such a name


class Commands(TyperGroup):
    """The subcommands. An error in any of them becomes an exit status."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """-q and -v may stand after the verb, too."""
        end = args.index("--") if "--" in args else len(args)
        moved = [word for word in args[:end] if word in VERBOSITY]
        return super().parse_args(ctx, [*moved, *(word for word in args[:end] if word not in VERBOSITY), *args[end:]])

    def invoke(self, ctx: Any) -> Any:
        try:
            with interruptible():
                result = super().invoke(ctx)
                sys.stdout.flush()
        except UserError as error:
            print_error(error)
            raise typer.Exit(2) from error
        except MemoryError as error:
            print_error(UserError("the memory does not suffice", fix="Use fewer workers, a smaller batch, or a machine with more."))
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            print(INTERRUPTED, file=sys.stderr)
            raise typer.Exit(130) from error
        except BrokenPipeError as error:
            drop_output()  # the program that reads our output (head, less) has ended
            raise typer.Exit(141) from error
        except OSError as error:
            fault = system_fault(error)
            if fault is None:
                raise
            print_error(fault)
            raise typer.Exit(2) from error
        return result


app = typer.Typer(
    cls=Commands,
    help=EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},  # sub-commands inherit it
)
app.command("run")(run.run)
app.command("list")(list_cards.list_)
app.command("show")(show.show)
app.command("doctor")(doctor.doctor)
app.command("quickstart")(quickstart.quickstart)
app.command("status")(status.status)
app.command("bench")(bench.bench)
app.command("table")(table.table)
app.command("samples")(samples.samples)
app.command("compare")(compare.compare)
app.command("robustness")(robustness.robustness)
app.command("reproduce")(reproduce.reproduce)
app.command("check")(check.check)
app.command("explore")(explore.explore)
app.command("train")(train.train)
app.command("export")(export.export)
app.command("export-results")(export_results.export_results)
app.command("masks")(masks.masks)
app.add_typer(cache.app, name="cache")
app.add_typer(corpus.app, name="corpus")
app.add_typer(data.app, name="data")
app.add_typer(init.app, name="init")
app.add_typer(leaderboard.app, name="leaderboard")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tips-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE",
            help="A Python module that adds task families, readers, probes, metrics or encoders. May be given several times.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors alone: no progress, no warnings.")] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Also print settings and timings, as the log of a run has them.")
    ] = False,
) -> None:
    if quiet and verbose:
        raise UserError("--quiet and --verbose say the opposite", where="-q -v", fix="Leave one of them out.")
    journal.set_verbosity(journal.QUIET if quiet else journal.VERBOSE if verbose else journal.NORMAL)
    for module in plugin or []:
        plugins.load_plugin(module)
