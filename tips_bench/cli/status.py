"""tips-bench status: what has become of evaluations that were started with --on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tips_bench.cli.matrix import print_status
from tips_bench.cli.output import print_json
from tips_bench.journal import say


def status(
    folder: Annotated[Path, typer.Argument(help="Results folder: --out of the run.")] = Path("results"),
    forget: Annotated[bool, typer.Option("--forget", help="First take what has failed or is left off the list.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print which evaluations of a folder are done, running, queued, failed or left.

    They are those that were started with `tips-bench run --on`. The same command
    again does only the rest. Evaluations that nobody wants any more are forgotten
    with --forget; records stay.

    \b
    Examples:
      tips-bench status results/
      tips-bench status results/ --json
      tips-bench status results/ --forget
    """
    from tips_bench.executors import matrix, queue

    state = queue.ask_queue(folder, matrix.status(folder, matrix.read(folder)))
    if forget:
        gone = [one.asked for one in state if one.state in ("failed", "left")]
        matrix.forget(folder, gone)
        queue.forget_queued(folder, [one.id for one in gone])
        say(f"{len(gone)} evaluation{'s' * (len(gone) != 1)} forgotten")
        state = [one for one in state if one.asked not in gone]
    if not as_json:
        print_status(state)
        return
    rows = []
    for one in state:
        path = None if one.path is None else str(one.path)
        named = {"task": one.asked.task, "model": one.asked.model, "protocol": one.asked.protocol}
        rows.append({**named, "state": one.state, "sentence": one.sentence, "record": path})
    print_json(rows)
