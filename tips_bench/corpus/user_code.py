"""Code of the user's that decides what is in a corpus: a captioner, a classifier."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from tips_bench.files import sha256


def as_it_is(target: str, function: Any) -> str:
    """The name of a function with a hash of the file that it stands in: another one when that file was changed.

    target: "module:function". function: what that names. Of one that stands in no file, as in a compiled module, the name alone.
    """
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        file = None
    return f"{target}@{sha256(Path(file))[:16]}" if file is not None and Path(file).is_file() else target
