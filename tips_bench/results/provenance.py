"""Where a number comes from: versions and the state of the source tree. Imports no torch; it is asked only where it is loaded already."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from tips_bench.git import git

PACKAGES = (
    "tips-bench torch torchvision numpy scipy scikit-learn pillow opencv-python-headless opencv-python "
    "mmengine mmcv-lite mmcv mmsegmentation timm transformers open_clip_torch open3d safetensors"
)
GIT_SECONDS = 20


def versions() -> dict[str, str]:
    """Name -> version of Python, the platform, and those of the packages that can change a number and are installed."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "machine": platform.machine()}
    for name in PACKAGES.split():
        try:
            found[name] = version_of(name)
        except metadata.PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["cuda"] = str(torch.version.cuda)
    return found


def version_of(distribution: str) -> str:
    """As installed; of torch with the build, where it is loaded (2.13.0+cu130). Others may be loaded in one process and not in the next.

    Errors: PackageNotFoundError.
    """
    stated = metadata.version(distribution)
    module = sys.modules.get(distribution) if distribution == "torch" else None
    own = "" if module is None else str(vars(module).get("__version__", ""))
    return own if own.startswith(f"{stated}+") else stated


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """(commit, dirty) of the checkout that `folder` is tracked in; (None, None) outside one, in an installed package, or without git.

    dirty: a file in `folder` differs from the commit, or is there untracked and not ignored. An installed package inside somebody
    else's checkout (.venv/) is not tracked by it, so that checkout's commit is not taken for ours.
    """
    if not _git(folder, "ls-files", "."):
        return None, None
    commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--", ".")
    if not commit or changes is None:
        return None, None
    return commit.strip(), bool(changes.strip())


def _git(folder: Path, *arguments: str) -> str | None:
    """git's output, None where it fails; no lock is taken."""
    try:
        done = git(folder, *arguments, seconds=GIT_SECONDS, GIT_OPTIONAL_LOCKS="0")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
