"""Freed memory on the CPU: it stays with the process, unless the user has set bounds."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# A block of 8 MiB is asked for, written and freed twenty times; what is printed: whether memory is kept, and the pages that were cleared.
SCRIPT = """
import resource, torch
from tips_bench.models.devices import resolve_device
from tips_bench.models.heap import keep_freed_memory
resolve_device("cpu")
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**21)
before = pages()
for _ in range(20):
    torch.ones(2**21)
print(int(keep_freed_memory()), pages() - before)
"""
PAGES = 8 * 2**20 // 4096


def kept(**variables: str) -> tuple[bool, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", SCRIPT]
    found = subprocess.run(command, env=clean | variables, capture_output=True, text=True, check=True).stdout.split()
    return bool(int(found[0])), int(found[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_block_that_was_freed_is_used_again_without_the_system() -> None:
    held, cleared = kept()
    assert held and cleared < PAGES


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_"])
def test_bounds_that_the_user_has_set_stay(name: str) -> None:
    assert kept(**{name: "131072" if name.startswith("MALLOC") else ""})[0] is False
