"""tips-bench explore: a local page on which features are looked at."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tips_bench.cli.options import Device, Dtype


def explore(
    model: Annotated[list[str] | None, typer.Option(help="Encoder. Give two to see them side by side. Default: tips-nano.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weight file of the last --model, to see it beside the first: `random`, too. Default: its card's.")
    ] = None,
    head: Annotated[
        list[Path] | None,
        typer.Option(
            help="Show what the fitted head of a run makes of the photos: a record of `run --keep-head`, or a folder of them. "
            "Without --model, the page shows their encoder."
        ),
    ] = None,
    device: Device = None,
    dtype: Dtype = "fp32",
    photo: Annotated[list[Path] | None, typer.Option(help="JPEG or PNG file to start with, in place of the generated rooms.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port. 0: any free port.")] = 7860,
    host: Annotated[str, typer.Option(help="Address to listen on. Others than this machine's own let everybody in your network look.")] = (
        "127.0.0.1"
    ),
) -> None:
    """Look at an encoder's features in the browser of this machine. Stop it with Ctrl-C.

    Drop photos, click a patch, type class names. Nothing leaves this machine.

    \b
    Examples:
      tips-bench explore
      tips-bench explore --model tips-nano --model tips-nano-random
      tips-bench explore --model tips-b14 --model tips-b14 --weights mine.pt
      tips-bench explore --head results/nyu-depth/tips-b14
    """
    from tips_bench.data.integrity import read_bytes
    from tips_bench.explorer.heads import encoders_of, records_with_heads
    from tips_bench.explorer.server import ExplorerServer
    from tips_bench.explorer.session import Session

    records = records_with_heads(head or [])
    pairs = encoders_of(records, weights) if records and not model else named(model or ["tips-nano"], weights)
    models, files = zip(*pairs, strict=True)
    session = Session(models, weights=files, device=device, dtype=dtype, heads=records)
    for path in photo or []:
        session.add(path.name, read_bytes(path))
    if not photo:
        session.add_rooms()
    with ExplorerServer(session, port, address=host) as server:
        print(f"http://{host}:{server.server_address[1]}/ (interrupt to stop)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


def named(models: list[str], weights: str | None) -> list[tuple[str, str | None]]:
    """Each encoder with its weights; those that are given are the last one's."""
    return [(model, weights if place == len(models) else None) for place, model in enumerate(models, 1)]
