"""What --cache keeps: within which limit, rounded to what."""

from __future__ import annotations

import math
import os
import re

import torch

from tips_bench.encoders.weights import DTYPES
from tips_bench.errors import UserError

LIMIT = "TIPS_BENCH_CACHE_LIMIT"
UNITS = {"MB": 1e6, "GB": 1e9, "TB": 1e12}
ROUNDED = {"fp16": torch.float16, "bf16": torch.bfloat16}


def rounding(cache: bool, dtype: str, cache_dtype: str | None) -> str | None:
    """The precision to which features are rounded before they are used and kept; None where the encoder computes in it anyway.

    Errors: one without a cache, one that is not known, one that saves no disk.
    """
    if cache_dtype is None:
        return None
    if not cache:
        raise UserError("it says how --cache keeps features", where="--cache-dtype", fix="Add --cache, or leave it out.")
    if cache_dtype not in ROUNDED:
        raise UserError(f"{cache_dtype!r} is not a precision of kept features", where="--cache-dtype", fix=f"Use {' or '.join(ROUNDED)}.")
    if DTYPES[dtype] == ROUNDED[cache_dtype]:
        return None
    if DTYPES[dtype].itemsize <= ROUNDED[cache_dtype].itemsize:
        fix = f"Leave it out: they are kept in {dtype}."
        raise UserError(f"{cache_dtype} needs as much disk as the encoder's {dtype}", where="--cache-dtype", fix=fix)
    return cache_dtype


def limit_bytes(cache: bool, cache_limit: str | None) -> int | None:
    """How much all features may take that --cache keeps; None = as much as there is. cache_limit: as "200GB"; None = as the variable says.

    Errors: a limit without a cache, no size.
    """
    if cache_limit is not None and not cache:
        raise UserError("it limits what --cache keeps", where="--cache-limit", fix="Add --cache, or leave it out.")
    text = os.environ.get(LIMIT) or None if cache_limit is None else cache_limit
    if text is None or not cache:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(MB|GB|TB)", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None or not float(match[1]):
        where = f"${LIMIT}" if cache_limit is None else "--cache-limit"
        raise UserError(f"{text[:50]!r} is not a size", where=where, fix="Give a number and MB, GB or TB, as 200GB.")
    return math.floor(float(match[1]) * UNITS[match[2].upper()])
