"""tips-bench train: pretrain a model by a recipe, in one process or under torchrun."""

from __future__ import annotations

import os
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tips_bench.cli.output import print_line
from tips_bench.cli.ranked import one_rank
from tips_bench.cli.training_plan import print_plan

if TYPE_CHECKING:
    from tips_bench.training.recipe import EvaluationPart


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or its .yaml file.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe. May be given several times.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest checkpoint of the run, if it has one, with what was set before.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. Default: runs/NAME, with the name of the recipe.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu or cuda. Default: one GPU per rank, or cpu if there is no GPU. With --dry-run: a100, h100, h200, b200."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: print memory, operations and days, calculated from the recipe.")
    ] = False,
    ranks: Annotated[int, typer.Option(min=1, help="With --dry-run: the number of GPUs.")] = 1,
) -> None:
    """Pretrain a model on image-text pairs, by the method of TIPS.

    For several GPUs, start it with torchrun. On SIGTERM the current step is
    finished, a checkpoint is written, and the exit status is 0.

    \b
    Examples:
      tips-bench train recipes/tips-nano.yaml \\
        --set data.shards='rooms/train-{000..031}.tar'
      tips-bench train recipes/tips-nano.yaml --resume
      tips-bench train recipes/tips-nano.yaml --resume \\
        --set stages.0.learning_rate=0.00025
      torchrun --nproc-per-node 8 -m tips_bench train recipes/tipsv2-g14.yaml \\
        --set data.shards='shards/*.tar'
      tips-bench train recipes/tipsv2-g14.yaml --dry-run --ranks 256
    """
    from tips_bench.training.loop import train as train_recipe
    from tips_bench.training.recipe_files import find_recipe, load_recipe
    from tips_bench.training.runs import RECIPE_FILE, read_recipe

    folder = out or Path("runs") / find_recipe(recipe).stem
    resumed = read_recipe(folder) if resume and (folder / RECIPE_FILE).is_file() else None
    chosen = load_recipe(recipe, overrides or [], resumed=resumed)
    if dry_run:
        print_plan(chosen, ranks, device or "h100")
        return
    with one_rank():
        outcome = train_recipe(chosen, folder, resume=resume, device=device, evaluate=partial(evaluate, device=device))
        if os.environ.get("RANK", "0") == "0":
            print_end(outcome, folder, recipe)


def print_end(outcome: str, run: Path, recipe: str) -> None:
    """How a run ended, its last loss, and the command that comes next."""
    from tips_bench.training.log import read_log

    losses = [line for line in read_log(run) if line.get("loss") is not None]
    at = f"  step {losses[-1]['step']}, loss {losses[-1]['loss']:.4g}" if losses else ""
    print_line(f"{outcome}  {run}{at}")
    place = shlex.quote(str(run))
    if outcome == "finished":
        print_line(f"Next: tips-bench export {place} --to {shlex.quote(run.name)}/")
    else:
        print_line(f"Next: tips-bench train {shlex.quote(recipe)} --out {place} --resume")


def evaluate(part: EvaluationPart, model: Path, out: Path, *, device: str | None = None) -> dict[str, float]:
    """Scores an exported model by a task card; its metrics by name."""
    from tips_bench.evaluation.run import evaluate as score

    record = score(part.task, str(model), protocol=part.protocol, overrides=part.overrides, out=out, device=device)
    return {name: metric.value for name, metric in record.metrics.items()}
