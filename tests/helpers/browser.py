"""Pages in headless Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def browser() -> str:
    found = [path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("no Chromium or Chrome on this machine: the pages' scripts are not tried")
    return found[0]


def look(url: str, folder: Path, *options: str, size: str = "1400,1000") -> str:
    """The page after its scripts have run, as HTML; a message on its console is an error."""
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", f"--window-size={size}",
        "--virtual-time-budget=3000", "--enable-logging=stderr", "--dump-dom", *options, url,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "HOME": str(folder)})
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not messages, messages
    return done.stdout
