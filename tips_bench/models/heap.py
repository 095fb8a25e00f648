"""Memory of tensors on the CPU: what is freed stays with the process for the next tensor.

By default glibc gives a large block back to the system when it is freed, and the system clears every page of the next one. A step of
training or a pass through a backbone frees and asks for the same blocks again and again: with these bounds, a step of
tips-nano takes 10 to 20 % less processor time (docs/hardware.md).
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

LARGEST = 32 * 2**20  # bytes of a block that is kept; glibc takes no larger bound
KEPT = 256 * 2**20  # bytes that are kept free at the end of the heap; more goes back to the system
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@functools.cache
def keep_freed_memory() -> bool:
    """Whether it is asked for: not where the user has set bounds in the environment, nor where the C library is not glibc."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _OF_THE_USER):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, LARGEST) and library.mallopt(_TRIM_THRESHOLD, KEPT))
