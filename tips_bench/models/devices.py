"""Which device a run computes on, and whether code can be compiled for it."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch

from tips_bench.errors import UserError
from tips_bench.models.heap import keep_freed_memory


def resolve_device(device: str | None) -> torch.device:
    """None = the first GPU where there is one, else the CPU, where freed memory is kept. Errors: a device this machine lacks."""
    found = _resolved(device)
    if found.type == "cpu":
        keep_freed_memory()
    return found


def _resolved(device: str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"{device!r} is not a device", where="device", fix="Use cpu, cuda or cuda:N.") from error
    if found.type not in ("cpu", "cuda"):
        raise UserError(f"{device!r} is a kind of device that is not supported", where="device", fix="Use cpu, cuda or cuda:N.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{device!r}: this machine has {torch.cuda.device_count()} CUDA devices", where="device", fix="Use cpu, or leave --device out."
        )
    return found


def check_compiler(device: torch.device) -> None:
    """Errors: torch.compile finds no compiler for this kind of device."""
    if device.type == "cuda":
        found, fix = importlib.util.find_spec("triton") is not None, "Install the package triton, or leave --compile out."
    else:
        named = os.environ.get("CXX")
        found = any(shutil.which(name) for name in ([named] if named else ["g++", "clang++"]))
        fix = "Install g++ (Debian: apt install g++), name a compiler in CXX, or leave --compile out."
    if not found:
        raise UserError(f"torch.compile finds no compiler for the {device.type.upper()}", where="--compile", fix=fix)
