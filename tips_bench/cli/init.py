"""tips-bench init: a first file for your encoder, your data or your CI."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from tips_bench.cli.options import DataRoot
from tips_bench.cli.output import print_line
from tips_bench.errors import UserError

EXAMPLES = """Write a first file for your encoder, your data or your CI, to be changed by you. Without a name, a dialogue asks.

\b
Examples:
  tips-bench init
  tips-bench init encoder my_encoder
  tips-bench init task data/mine
  tips-bench init ci github --model my_encoder:build
"""
app = typer.Typer(help=EXAMPLES, invoke_without_command=True)
KINDS = ("encoder", "task", "ci")


@app.callback()
def init(context: typer.Context) -> None:
    """Ask what to write, where no sub-command says it. Errors: nobody can answer."""
    if context.invoked_subcommand is not None:
        return
    if not _somebody_is_there():
        raise UserError("nobody can answer questions here", where="init", fix="Say what to write: tips-bench init encoder my_encoder.")
    kind = typer.prompt(f"What do you want to add ({', '.join(KINDS)})?")
    if kind == "encoder":
        encoder(typer.prompt("Name of the Python module", default="my_encoder"))
    elif kind == "task":
        folder = Path(typer.prompt("Folder of the data, inside the data root", default="data/mine"))
        task(folder, typer.prompt("Name of the task", default=_name_of(folder)))
    elif kind == "ci":
        system = typer.prompt("Which system (github, gitlab)?", default="github")
        ci(system, typer.prompt("Model", default="my_encoder:build"), typer.prompt("Tasks", default="rooms-seg"))
    else:
        raise UserError(f"{kind!r} is none of {', '.join(KINDS)}", where="init", fix="Give one of these words.")


@app.command()
def encoder(name: Annotated[str, typer.Argument(help="Name of the Python module to write.")] = "my_encoder") -> None:
    """Write NAME.py, an encoder that runs as it is, with places for your network.

    \b
    Examples:
      tips-bench init encoder my_encoder
      tips-bench run --task rooms-seg --model my_encoder:build
    """
    from tips_bench.starters.files import encoder_file

    _write(*encoder_file(name))
    print_line(f"Next: tips-bench run --task rooms-seg --model {name}:build")


@app.command()
def task(
    folder: Annotated[Path, typer.Argument(help="Folder of the data, inside the data root.")],
    name: Annotated[str | None, typer.Option(help="Name of the task. Default: that of the folder.")] = None,
    data_root: DataRoot = None,
) -> None:
    """Write a card for data in a plain layout, which is found from the names of their folders.

    \b
    Examples:
      tips-bench init task data/mine
      tips-bench data check mine
    """
    from tips_bench import catalog
    from tips_bench.starters.files import task_file
    from tips_bench.starters.layout import find_layout

    named = name or _name_of(folder)
    layout = find_layout(folder)
    root = (data_root or catalog.data_root()).resolve()
    try:
        below = folder.resolve().relative_to(root)
    except ValueError:
        fix = f"Give the folder above it with --data-root or $TIPS_BENCH_DATA: {folder.resolve().parent}."
        raise UserError(f"the folder does not lie in the data root {root}", where=folder, fix=fix) from None
    print_line(f"{layout.family}, splits: {', '.join(f'{role} = {split}' for role, split in layout.splits.items())}")
    _write(*task_file(named, below.as_posix(), layout))
    print_line(f"Next: tips-bench data check {named}")


@app.command()
def ci(
    system: Annotated[str, typer.Argument(help="github or gitlab.")],
    model: Annotated[str, typer.Option(help="The model to score.")] = "my_encoder:build",
    tasks: Annotated[str, typer.Option("--task", help="Tasks, separated by commas.")] = "rooms-seg",
) -> None:
    """Write a CI job that scores a model and fails if a score got worse.

    \b
    Examples:
      tips-bench init ci github --model my_encoder:build
      tips-bench init ci gitlab --model ./encoder/ --task rooms-seg,rooms-depth
    """
    from tips_bench.cli.names import split
    from tips_bench.starters.files import ci_file

    names = split(tasks, "--task", list)
    _write(*ci_file(system, ",".join(names), model))
    print_line(f"Next: tips-bench run --task {','.join(names)} --model {model} --out baselines/   and commit the folder")


def _somebody_is_there() -> bool:
    return sys.stdin.isatty()


def _name_of(folder: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "mine"


def _write(path: Path, text: str) -> None:
    """Write a new file. Errors: it is there already."""
    from tips_bench.files import write_text

    if path.exists():
        raise UserError("the file is there already", where=path, fix="Remove it first, or choose another name.")
    write_text(path, text)
    print_line(str(path))
