"""Options that several verbs have, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N. Default: the first GPU, or cpu if there is none.")]
Dtype = Annotated[Literal["fp32", "bf16"], typer.Option(help="Number format in which the encoder computes.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder that holds the data sets. Default: $TIPS_BENCH_DATA, or ./data.")]
