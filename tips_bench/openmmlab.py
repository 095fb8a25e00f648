"""The one door to mmsegmentation, so that it imports without a compiler.

mmseg imports `mmcv.ops`, which wants the compiled module `mmcv._ext`; mmcv-lite has none. Nothing this project calls needs an
operator of it, so an inert stand-in takes its place, only where the real one is missing. Import mmseg through here and nowhere
else: an import that fails half-way leaves mmengine's registries half filled, and a second try in the same process fails too.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
import threading
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from tips_bench.errors import UserError

EXTENSION = "mmcv._ext"
NEEDED = ("mmengine", "mmcv", "ftfy", "regex", "mmseg")  # mmseg imports ftfy and regex without declaring them
_lock = threading.Lock()
_failure: list[UserError] = []


class _InertExtension(ModuleType):
    """Has every operator that mmcv asks for by name; calling one is an error."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def operator(*_: Any, **__: Any) -> NoReturn:
            raise UserError(f"the operator {name!r} is not compiled in mmcv-lite", where="mmcv", fix="Install mmcv with its operators.")

        return operator


def import_mmseg() -> ModuleType:
    """The package mmseg, with `mmseg.datasets` (and so its transforms) loaded. Takes seconds the first time.

    Errors: a package that is missing, or versions that refuse each other.
    """
    with _lock:
        if _failure:
            raise _failure[0]
        if "mmseg.datasets" not in sys.modules:
            try:
                _first_import()
            except UserError as error:
                _failure.append(error)
                raise
    return sys.modules["mmseg"]


def _first_import() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"the package {missing[0]!r} is not installed", where="mmsegmentation", fix="Install tips-bench with its dependencies."
        )
    random_state = random.getstate()  # something below draws from it while it is imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what mmcv and torch deprecate in each other
        try:
            if EXTENSION not in sys.modules and importlib.util.find_spec(EXTENSION) is None:
                standin = _InertExtension(EXTENSION)
                standin.__spec__ = ModuleSpec(EXTENSION, loader=None)  # without a loader mmcv still reports that it has no operators
                sys.modules[EXTENSION] = standin
            importlib.import_module("mmseg.datasets")
        except (ImportError, AssertionError, KeyError) as error:  # mmseg asserts versions; registries raise KeyError on a second try
            reason = " ".join(str(error).split())[:300]
            fix = "Install mmsegmentation 1.2 with mmcv-lite >= 2.0, < 2.2, and start again in a new process."
            raise UserError(f"cannot be imported: {reason}", where="mmsegmentation", fix=fix) from error
        finally:
            random.setstate(random_state)
