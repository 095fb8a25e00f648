"""Why attempts to train a run end: noted in its history by whichever rank finds it, and not tried again where it would end so again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tips_bench.errors import UserError
from tips_bench.heartbeat import RankLeft
from tips_bench.training.batches import raise_if_reader_died
from tips_bench.training.distributed import raise_if_ranks_left
from tips_bench.training.divergence import Diverged
from tips_bench.training.history import START, History, read_history
from tips_bench.training.recipe import Recipe


@contextmanager
def noted(history: History, recipe: Recipe) -> Iterator[None]:
    """Has the history say why an attempt ends with an error, and that error be a sentence where a reader or another rank has ended."""
    try:
        with _sentences():
            yield
    except RankLeft as error:
        if history.rank == 0:  # the rank that has left may have said why, and of the others one is enough
            history.stopped(str(error))
        raise
    except Diverged as error:
        history.stopped(str(error), diverged=_digest(recipe))
        raise
    except UserError as error:
        history.stopped(str(error))
        raise
    except KeyboardInterrupt:
        history.stopped("interrupted")
        raise
    except Exception as error:
        history.stopped(" ".join(f"{type(error).__name__}: {error}".split())[:300])
        raise


def raise_if_diverged(run: Path, recipe: Recipe) -> None:
    """Where torchrun starts a run again that has just diverged: its steps are the same ones, bit for bit on many machines.

    Errors: the one with which the last attempt ended, if that one diverged with the same recipe.
    """
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return
    for line in reversed(read_history(run)):
        if line["event"] == START:
            return
        if line.get("diverged") == _digest(recipe):
            raise UserError(line["why"])


@contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise_if_reader_died(error)
        raise_if_ranks_left(error)
        raise


def _digest(recipe: Recipe) -> str:
    """Of all that is trained with."""
    values = recipe.model_dump(mode="json", exclude={"sources", "notes", "title"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
