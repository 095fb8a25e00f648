"""How many floating-point operations an encoder takes for an image, and how many a second its device does at best.

A multiplication and an addition count as two operations. Axes: B batch, H W pixels.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tips_bench.encoders.base import Encoder

# Dense bfloat16 operations a second by a part of the device's name, the first that fits: NVIDIA's figures, as pytorch/torchtitan 8fb285c
# has them (torchtitan/tools/utils.py:71-85). Any other device and precision is measured.
BF16_PEAKS = {"H100 NVL": 835e12, "H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
SIDES = {"cpu": 2048, "cuda": 8192}  # of the square matrices that are multiplied to measure a device
ROUNDS = 5


@dataclass(frozen=True)
class Peak:
    """Floating-point operations a second of a device in one precision, and where the number comes from."""

    flops_per_s: float
    source: str


def image_flops(encoder: Encoder, height: int, width: int) -> int:
    """Operations of matrix products and convolutions for one image of height x width pixels, as torch's own counter adds them up."""
    pixels_13HW = torch.zeros(1, 3, height, width)
    # The counter does not see into what torch.compile made.
    eager = torch.compiler.set_stance("force_eager") if encoder.compiled else nullcontext()
    with eager, FlopCounterMode(display=False, custom_mapping=_unknown_to_torch()) as counter:
        encoder.encode_image(pixels_13HW)
    return int(counter.get_total_flops())


def listed_peak(device: torch.device, dtype: torch.dtype) -> Peak | None:
    """The most that the device does by its data sheet; None = it is not in BF16_PEAKS."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" and dtype == torch.bfloat16 else ""
    return next((Peak(flops_per_s, f"data sheet of {part}") for part, flops_per_s in BF16_PEAKS.items() if part in name), None)


def dense_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """The most that the device does: by its data sheet where that is known, else measured with a product of two large matrices."""
    return listed_peak(device, dtype) or Peak(_measured(device, dtype), "measured, matrix product")


def _measured(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the best of a few products of square matrices."""
    side = SIDES.get(device.type, SIDES["cpu"])
    left, right = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    best = math.inf
    for _ in range(ROUNDS):
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def _packed(input_shape: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """Of a packed linear map (models/cpu.py); what is fused into it counts for nothing, as elsewhere."""
    return 2 * math.prod(input_shape) * int(out_shape[-1])


def _attention(query_shape: Any, key_shape: Any, value_shape: Any, *_: Any, **__: Any) -> int:
    """Of both matrix products of attention, [B,S,N,E] each."""
    products = math.prod(query_shape[:-1]) * int(key_shape[-2])
    return 2 * products * (int(query_shape[-1]) + int(value_shape[-1]))


def _unknown_to_torch() -> dict[Any, Any]:
    """Formulas of the operators on a CPU that torch's counter does not know."""
    formulas: dict[Any, Any] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        formulas[torch.ops.mkldnn._linear_pointwise] = _packed
    return formulas
