"""Learning-rate factors of the published linear protocols, as a function of the iteration, counted from 0."""

from __future__ import annotations

import math


def lr_factor(kind: str, iteration: int, total: int, warmup: int, warmup_ratio: float) -> float:
    """Factor on the base rate.

    kind "poly": power 1 to 0 over all iterations, with a linear warm-up that multiplies it, from `warmup_ratio` to 1, as mmcv 1.x's
    PolyLrUpdaterHook does (factor * (1 - (1 - i / warmup) * (1 - ratio))); the published DINOv2 heads were trained with it.
    kind "cosine": the warm-up, then half a cosine from 1 to 0 over the rest, as DINOv3's one-cycle schedule.
    """
    rise = 1 - (1 - iteration / warmup) * (1 - warmup_ratio) if iteration < warmup else 1.0
    if kind == "poly":
        return rise * (1 - iteration / total)
    done = max(0, iteration - warmup) / max(1, total - warmup)
    return rise * (1 + math.cos(math.pi * done)) / 2
