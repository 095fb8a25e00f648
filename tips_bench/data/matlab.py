"""Arrays of numbers in MATLAB files of version 5."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from tips_bench.errors import UserError


def read_array(path: Path, name: str) -> np.ndarray:
    """The array of a name, float64. Errors: no such file or array, not a MATLAB 5 file, truncated or broken."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    # What scipy raises for a file that is cut short or whose bytes are not what they claim.
    broken = (ValueError, TypeError, KeyError, IndexError, NotImplementedError, MemoryError, OverflowError, struct.error, zlib.error)
    try:
        return np.asarray(loadmat(path, variable_names=[name])[name], dtype=np.float64)
    except (OSError, MatReadError, *broken) as error:
        raise UserError(f"it does not hold an array {name}, or is truncated", where=path, fix="Fetch it again.") from error
