"""A verb as one of the processes that torchrun starts: its end, and who speaks."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import typer

from tips_bench import heartbeat
from tips_bench.cli.output import print_error
from tips_bench.errors import UserError

AFTER_FIRST_S = 3.0  # by then torchrun has ended the others, if the first rank failed with the same sentence


@contextmanager
def one_rank() -> Iterator[None]:
    """Ends the process as soon as the block has ended, if torchrun started it: the others may wait for it in a collective."""
    from tips_bench import ranks

    try:
        yield
    except UserError as error:
        if ranks.is_launched():
            if os.environ.get("RANK", "0") != "0":
                time.sleep(AFTER_FIRST_S)
            heartbeat.speak(partial(print_error, error))
            ranks.end(2)
        raise
    except typer.Exit as done:
        ranks.end(done.exit_code)
        raise
    except KeyboardInterrupt:
        ranks.end(130)
        raise
    except Exception:
        if ranks.is_launched():
            traceback.print_exc()
            ranks.end(1)
        raise
    ranks.end()
