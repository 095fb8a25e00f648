"""The options that say where work is done, the same for every verb that has them."""

from __future__ import annotations

from typing import Annotated

import typer

On = Annotated[
    str | None,
    typer.Option(
        metavar="EXECUTOR",
        help="Where to do the work: local (one process a GPU), slurm, ray, or one of a plugin. Default: in this process.",
    ),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="With --on local: processes at a time. Default: one a GPU, or one.")]
Slurm = Annotated[
    str | None,
    typer.Option(
        metavar="KEY=VALUE,@FILE,...",
        help="With --on slurm: settings of submitit, as partition=gpu,time=120. @FILE.yaml: settings from a file, lists too.",
    ),
]
Ray = Annotated[str | None, typer.Option(metavar="KEY=VALUE,...", help="With --on ray: address, num_gpus, num_cpus, ranks, max_retries.")]
