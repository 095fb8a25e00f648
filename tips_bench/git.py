"""git as a process: without the caller's GIT_ variables, which would point it at another repository."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path


def git(folder: Path, *arguments: str, seconds: float, keep: Collection[str] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """Run git in `folder` and wait for it; its status is not checked.

    seconds: it is stopped after these. keep: names of GIT_ variables that the caller's environment may set. variables: set for git.
    Errors: FileNotFoundError without git, another OSError, subprocess.TimeoutExpired.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in keep}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment | variables, timeout=seconds, check=False)
