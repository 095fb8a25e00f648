"""Which device a run computes on."""

from __future__ import annotations

import torch

from tips_bench.errors import UserError


def resolve_device(device: str | None) -> torch.device:
    """None = the first GPU where there is one, else the CPU. Errors: a device that this machine lacks."""
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
