"""Loggers by their names, several at once.

    with closing(open_loggers(["tensorboard", "wandb"], folder, project="tips-bench", name="tips-nano", settings={"seed": 0})) as loggers:
        loggers.numbers(10, {"loss": 5.0})

They show numbers that are kept elsewhere. So whatever is logged waits for none of them: each has a thread of its own. One that fails is
told of and tried again later; only one that cannot be had when a run begins is an error.
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections import deque
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
RETRY_S = 300.0
"""After which one that has failed is tried again."""
MOST_WAITING = 10_000
"""Steps whose numbers wait for a logger; of more of them the oldest are not shown."""
PATIENCE_S = 120.0
"""For a logger to show what is left, when all ends."""


class Logger(Protocol):
    """One logger, made as LoggerClass(folder, store, project=..., name=..., settings=..., step=...).

    folder: of the run, where what it keeps on the disk goes. store: where what several runs share goes. settings: flat, key -> plain
    value. step: from which a run goes on; what was logged behind it is about to come again. Any exception means that it has failed.
    It is made in the thread of its run, and called in another one, always the same, where one is made that the first could not.
    """

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the numbers of a step."""

    def close(self) -> None:
        """Sends what was not sent yet, and ends."""


class Loggers:
    """Those that are open, by name."""

    def __init__(self, loggers: Mapping[str, Logger]) -> None:
        self._open = [_Beside(name, logger) for name, logger in loggers.items()]

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """To all of them, which show it when they come to it."""
        for one in self._open:
            one.add(step, values)

    def close(self) -> None:
        """All of them, once they have shown what they were given; a second time does nothing."""
        for one in self._open:
            one.close()
        self._open.clear()


class _Unopened:
    """A logger that could not be opened: each call tries it again, and then shows what was missed, too."""

    def __init__(self, make: Callable[[], Logger]) -> None:
        self.make = make
        self._logger: Logger | None = None
        self._missed: deque[tuple[int, Mapping[str, float]]] = deque(maxlen=MOST_WAITING)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._missed.append((step, values))
        if self._logger is None:
            self._logger = self.make()
        while self._missed:
            self._logger.numbers(*self._missed.popleft())

    def close(self) -> None:
        if self._logger is not None:
            self._logger.close()


class _Beside:
    """A logger in a thread of its own. Numbers that it fails at are lost; those that come until it is tried again wait."""

    def __init__(self, name: str, logger: Logger) -> None:
        self.name, self.logger = name, logger
        self._waiting: deque[tuple[int, dict[str, float]]] = deque(maxlen=MOST_WAITING)
        self._changed = threading.Condition()
        self._ending, self._failed = False, isinstance(logger, _Unopened)
        self._thread = threading.Thread(target=self._work, name=f"logger {name}", daemon=True)
        self._thread.start()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        with self._changed:
            self._waiting.append((step, dict(values)))
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            print(f"logger {self.name!r}: it has not ended after {PATIENCE_S:g} s. It may lack the last numbers.", file=sys.stderr)

    def _work(self) -> None:
        while (one := self._next()) is not None:
            if not self._does(partial(self.logger.numbers, *one)) and self._ending:
                break
        self._does(self.logger.close)

    def _next(self) -> tuple[int, dict[str, float]] | None:
        """What it is to show next; None at the end."""
        with self._changed:
            if self._failed:
                self._changed.wait_for(lambda: self._ending, RETRY_S)
            self._changed.wait_for(lambda: self._ending or self._waiting)
            return self._waiting.popleft() if self._waiting else None

    def _does(self, do: Callable[[], None]) -> bool:
        failed_before = self._failed
        try:
            _guarded(self.name, do)
            self._failed = False
        except UserError as error:
            self._failed = True
            if not failed_before:
                _say_failed(error)
        if failed_before and not self._failed and not self._ending:
            print(f"logger {self.name!r}: it works again.", file=sys.stderr)
        return not self._failed


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
    """names: of the registry; None: TensorBoard, where its package is installed. step: from which a run goes on; 0 = it begins.
    store: None = the folder of the run.

    Errors: an unknown name; when a run begins, one that cannot be opened. In a run that goes on, that one is tried again later.
    """
    if names is None:
        names = [DEFAULT] if find_spec(DEFAULT) is not None else []
    opened: dict[str, Logger] = {}
    try:
        for one in names:
            kind = _guarded(one, partial(LOGGERS.get, one, where="loggers"))
            make = partial(kind, folder, store or folder, project=project, name=name, settings=settings, step=step)
            opened[one] = _opened(partial(_guarded, one, make, "cannot be opened"), later=step > 0)
    except UserError:
        Loggers(opened).close()
        raise
    return Loggers(opened)


def _opened(make: Callable[[], Logger], *, later: bool) -> Logger:
    """later: one that cannot be opened is told of, and tried again later, instead of being an error."""
    try:
        return make()
    except UserError as error:
        if not later:
            raise
        _say_failed(error)
        return _Unopened(make)


def _say_failed(error: UserError) -> None:
    print(f"{error} The run goes on, and tries it again every {RETRY_S / 60:g} minutes.", file=sys.stderr)


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
