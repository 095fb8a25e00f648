"""Where a number comes from: versions, the state of the source tree, and how much memory it took.

Nothing here imports torch; what torch knows is asked only where it is loaded already.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

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
    """As installed; where its module is loaded and names the build too, as torch does (2.13.0+cu130), as that says.

    Errors: PackageNotFoundError.
    """
    stated = metadata.version(distribution)
    own = str(getattr(sys.modules.get(distribution), "__version__", ""))
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
    """git's output, None where it fails. The caller's GIT_ variables would point it elsewhere; no lock is taken."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def reset_peak_memory(device: str = "cpu") -> None:
    """Let `peak_memory_mb` count from now. On the CPU only Linux can; elsewhere the peak is that of the process."""
    if device.startswith("cuda"):
        sys.modules["torch"].cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # no such file elsewhere, or not ours to write in a container
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb(device: str = "cpu") -> float:
    """Peak memory in MB (10^6 bytes): of this process on the CPU (resident), of torch's allocator on a CUDA device."""
    if device.startswith("cuda"):
        return float(sys.modules["torch"].cuda.max_memory_allocated(device)) / 1e6
    try:
        peak = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        peak = None
    if peak:
        return int(peak[1]) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
