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
    """
    from tips_bench.data.integrity import read_bytes
    from tips_bench.explorer.server import ExplorerServer
    from tips_bench.explorer.session import Session

    session = Session(model or ["tips-nano"], weights=weights, device=device, dtype=dtype)
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
