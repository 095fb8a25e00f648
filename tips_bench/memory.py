"""How much memory a process took, in MB of 10^6 bytes. Imports no torch; what torch knows is asked only where it is loaded already."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path


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
