"""Loggers by their names, several at once.

    with closing(open_loggers(["tensorboard", "wandb"], folder, project="tips-bench", name="tips-nano", settings={"seed": 0})) as loggers:
        loggers.numbers(10, {"loss": 5.0})

They show numbers that are kept elsewhere. So a logger whose package fails is let go with a sentence, and whatever it logs for goes on;
only one that cannot be had at the start is an error.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tips_bench.errors import UserError
from tips_bench.files import write_text
from tips_bench.registry import LOGGERS

DEFAULT = "tensorboard"
"""The one that is used where none is named and its package is installed."""


class Logger(Protocol):
    """One logger, made as LoggerClass(folder, store, project=..., name=..., settings=..., step=...).

    folder: of the run, where what it keeps on the disk goes. store: where what several runs share goes. settings: flat, key -> plain
    value. step: from which a run goes on; what was logged behind it is about to come again. Any exception means that it has failed.
    """

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the numbers of a step."""

    def close(self) -> None:
        """Sends what was not sent yet, and ends."""


class Loggers:
    """Those that are open, by name."""

    def __init__(self, loggers: Mapping[str, Logger]) -> None:
        self._open = dict(loggers)

    @property
    def names(self) -> list[str]:
        """Of those that have not failed."""
        return list(self._open)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """To all of them."""
        self._each(lambda logger: logger.numbers(step, values))

    def close(self) -> None:
        """All of them; a second time does nothing."""
        self._each(lambda logger: logger.close())
        self._open.clear()

    def _each(self, do: Callable[[Logger], None]) -> None:
        for name, logger in list(self._open.items()):
            try:
                _guarded(name, partial(do, logger))
            except UserError as error:
                del self._open[name]
                print(f"{error} The run goes on without it.", file=sys.stderr)


def open_loggers(
    names: Sequence[str] | None,
    folder: Path,
    *,
    project: str,
    name: str,
    settings: Mapping[str, Any],
    step: int = 0,
    store: Path | None = None,
) -> Loggers:
    """names: of the registry; None: TensorBoard, where its package is installed. store: None = the folder of the run.

    Errors: an unknown name, one that cannot be opened.
    """
    if names is None:
        names = [DEFAULT] if find_spec(DEFAULT) is not None else []
    opened = Loggers({})
    try:
        for one in names:
            kind = _guarded(one, partial(LOGGERS.get, one, where="loggers"))
            make = partial(kind, folder, store or folder, project=project, name=name, settings=settings, step=step)
            opened._open[one] = _guarded(one, make, "cannot be opened")
    except UserError:
        opened.close()
        raise
    return opened


def check_installed(names: Sequence[str]) -> None:
    """Errors: an unknown name, one whose package is not installed; before any work that is to be logged."""
    for name in names:
        package = getattr(_guarded(name, partial(LOGGERS.get, name, where="loggers")), "package", None)
        if package is not None and find_spec(package) is None:
            raise _not_installed(name, f"there is no module {package}")


def kept_id(folder: Path, logger: str, make: Callable[[], str] = lambda: uuid.uuid4().hex[:16]) -> str:
    """What a logger knows a run by, made once and kept in the run's folder, so that a run that is resumed stays the same one."""
    path = folder / f".{logger}-id"
    if not path.is_file():
        write_text(path, make())
    return path.read_text(encoding="utf-8").strip()


def _guarded(name: str, do: Callable[[], Any], what: str = "failed") -> Any:
    try:
        return do()
    except UserError:
        raise
    except ImportError as error:
        raise _not_installed(name, str(error)) from error
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise UserError(f"it {what}: {type(error).__name__}: {said}", where=f"logger {name!r}") from error


def _not_installed(name: str, said: str) -> UserError:
    fix = "Install it: pip install 'tips-bench[loggers]'. Or leave it out."
    return UserError(f"its package is not installed: {said}", where=f"logger {name!r}", fix=fix)
