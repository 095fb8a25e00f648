"""Options that several verbs have, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tips_bench.errors import UserError


def local_path(text: str | Path) -> Path:
    """A path of the file system, for options that take no address. Errors: an address, such as s3://bucket/folder."""
    if "://" in str(text):
        fix = "Use a folder on a disk, or mount the bucket (s3fs, gcsfuse)."
        raise UserError("an address in object storage is not possible here; this takes a folder", where=str(text), fix=fix)
    return Path(text)


Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N. Default: the first GPU, or cpu if there is none.")]
Dtype = Annotated[Literal["fp32", "bf16"], typer.Option(help="Number format in which the encoder computes.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder that holds the data sets. Default: $TIPS_BENCH_DATA, or ./data.")]
