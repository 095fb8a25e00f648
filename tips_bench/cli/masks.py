"""tips-bench masks: masks of a split of videos, for a server that scores it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tips_bench.cli.options import DataRoot, Device, Dtype, local_path
from tips_bench.cli.output import print_line
from tips_bench.wording import counted


def masks(
    task: Annotated[str, typer.Option(help="A task of videos, for example youtube-vos.")],
    split: Annotated[str, typer.Option(help="Split of its data, for example valid.")],
    model: Annotated[str, typer.Option(help="A model, as for `tips-bench run`.")],
    out: Annotated[
        Path, typer.Option(parser=local_path, metavar="FOLDER", help="Folder to write to: a folder for each clip, a PNG for each frame.")
    ],
    protocol: Annotated[str | None, typer.Option(help="Protocol. Default: the default protocol of the task.")] = None,
    weights: Annotated[str | None, typer.Option(help="Weights to load, as for `tips-bench run`. Default: as the card says.")] = None,
    device: Device = None,
    dtype: Dtype = "fp32",
    data_root: DataRoot = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of a card, as for `tips-bench run`.")
    ] = None,
) -> None:
    """Write the masks of objects in videos, for a server that scores them.

    The true masks of some splits are not public. Pack the folder as the server
    asks. A clip whose folder is there is not made again.

    \b
    Examples:
      tips-bench masks --task youtube-vos --split valid --model tips-b14 \\
        --out valid/
    """
    from tips_bench.evaluation.run import RunOptions
    from tips_bench.evaluation.spec import resolve
    from tips_bench.evaluation.video_masks import write_masks

    spec = resolve(task, model, protocol, overrides=overrides or [], weights=weights)
    clips = write_masks(spec, split, out, RunOptions(weights=weights, device=device, dtype=dtype, data_root=data_root))
    print_line(f"{counted(clips, 'clip')}  {out}")
