"""What all tests share: nothing written outside tmp_path, and no network but this machine's own."""

from __future__ import annotations

import importlib
import os
import signal
import socket
from typing import Any

import pytest

# Before torch and numpy are imported: tensors here are small, and more threads only wait for each other.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# Python's readline, which pytest's debugger loads, tells processes below it the size of a terminal that they do not have.
for variable in ("COLUMNS", "LINES"):
    os.environ.pop(variable, None)

# A shell that starts the tests in the background lets them, and the processes they start, ignore Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def pytest_configure(config: pytest.Config) -> None:
    """Before the workers start: yapf, which mmengine imports, writes a file of the user's cache, and a worker may read half of it."""
    if not hasattr(config, "workerinput"):
        importlib.import_module("yapf")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own cache, data root and card folders, whatever the environment says."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(folder / "cache"))
    monkeypatch.setenv("TIPS_BENCH_DATA", str(folder / "data"))
    monkeypatch.delenv("TIPS_BENCH_CARDS", raising=False)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that would leave this machine is an error, so that no test depends on one."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            raise OSError(f"tests use no network, and this one asked for {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
