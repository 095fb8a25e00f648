"""tips-bench export: the model of a training run, for everyone else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    to: Annotated[Path, typer.Option(help="Folder to write, in Hugging Face layout.")],
    weights: Annotated[
        Literal["student", "teacher"], typer.Option(help="Which image tower; the teacher's is a running mean of the student's.")
    ] = "student",
    step: Annotated[int | None, typer.Option(help="Of a checkpoint that the run has kept; the newest otherwise.")] = None,
    stored: Annotated[Literal["fp32", "fp16"], typer.Option(help="Precision of the file; fp16 is half as large.")] = "fp32",
) -> None:
    """Write a run's towers and tokenizer as a folder that transformers' Tipsv2Model and --model load.

    \b
    Examples:
      tips-bench export runs/tips-nano --to tips-nano/
      tips-bench export runs/tips-nano --to tips-nano-12000/ --step 12000
      tips-bench run --task rooms-seg --model ./tips-nano/
    """
    from tips_bench.training.runs import export as export_run

    done = export_run(run, to, weights=weights, step=step, stored=stored)
    print(f"step {done.step}  {done.folder}")
