"""A guard: operations that make a processor wait for its device are errors."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Their results are values on the CPU, or have a shape that depends on values. `item`, `tolist`, `bool` and `int` of a tensor are the first.
WAITING = ("local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero", "bincount")


class NoWaiting(TorchDispatchMode):
    """Within it, whatever would wait for a GPU raises, on any device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.lstrip("_").startswith(WAITING):
            raise AssertionError(f"aten.{name} waits for the device")
        indexed = args[1] if name in ("index", "index_put", "index_put_") else []
        if any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in indexed):
            raise AssertionError(f"aten.{name} with a mask waits for the device")
        return func(*args, **(kwargs or {}))
