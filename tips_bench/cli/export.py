"""tips-bench export: write the model of a training run for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tips_bench.cli.options import local_path
from tips_bench.cli.output import print_line


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    to: Annotated[Path, typer.Option(parser=local_path, metavar="FOLDER", help="Folder to write to, in Hugging Face layout.")],
    weights: Annotated[
        Literal["student", "teacher"],
        typer.Option(help="Which image encoder. The teacher is an exponential moving average of the student."),
    ] = "student",
    step: Annotated[int | None, typer.Option(help="Training step of the checkpoint to export. Default: the newest checkpoint.")] = None,
    stored: Annotated[Literal["fp32", "fp16"], typer.Option(help="Number format of the weight file. fp16 takes half the space.")] = "fp32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that holds other files. They are kept.")] = False,
) -> None:
    """Export the image encoder, text encoder and tokenizer of a training run.

    The folder can be given to `tips-bench run --model`, and to Tipsv2Model of
    transformers.

    \b
    Examples:
      tips-bench export runs/tips-nano --to tips-nano/
      tips-bench export runs/tips-nano --to tips-nano-12000/ --step 12000
      tips-bench run --task rooms-seg --model ./tips-nano/
    """
    from tips_bench.training.runs import export as export_run

    done = export_run(run, to, weights=weights, step=step, stored=stored, overwrite=overwrite)
    print_line(f"step {done.step}  {done.folder}")
