"""Learning-rate factors and momenta of the published linear protocols, as functions of the iteration, counted from 0."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["poly", "cosine", "cosine-throughout", "one-cycle", "quarter-cosine"]
DIVISOR = 25  # DINOv3's div_factor: its end is the base rate over this and over its final_div_factor


def lr_factor(kind: Schedule, iteration: int, total: int, warmup: int, warmup_ratio: float, end: float = 0.0) -> float:
    """Factor on the base rate. end: the one that "cosine-throughout" and "one-cycle" fall to.

    kind "poly": power 1 to 0 over all iterations, with a linear warm-up that multiplies it, from `warmup_ratio` to 1, as mmcv 1.x's
    PolyLrUpdaterHook does (factor * (1 - (1 - i / warmup) * (1 - ratio))); the published DINOv2 heads were trained with it.
    kind "cosine-throughout": half a cosine from 1 to `end` over all iterations, with that warm-up: mmcv 1.x's
    CosineAnnealingLrUpdaterHook, of DINOv2's depth heads. kind "one-cycle": DINOv3's WarmupOneCycleLR (facebookresearch/dinov3 6876159,
    dinov3/eval/depth/schedulers.py:87-137): the warm-up of a line from 1 to 0 over all iterations, or, where the ratio is 0, of half a
    cosine from 1 to 0, plus DIVISOR * end; then half a cosine from 1 to `end`, one iteration ahead. kind "cosine": the warm-up, then half
    a cosine from 1 to 0 over the rest. kind "quarter-cosine": probe3d's (evals/utils/optim.py), that warm-up, then a quarter of a cosine
    from 1 to `warmup_ratio` over the rest.
    """
    if kind == "quarter-cosine":
        share = iteration / warmup if iteration < warmup else math.cos(math.pi / 2 * (iteration - warmup) / max(1, total - warmup))
        return warmup_ratio + (1 - warmup_ratio) * share
    if kind == "one-cycle" and iteration < warmup and warmup_ratio == 0:
        return DIVISOR * end + _half_cosine(iteration / total) * iteration / warmup
    rise = 1 - (1 - iteration / warmup) * (1 - warmup_ratio) if iteration < warmup else 1.0
    if kind == "poly" or (kind == "one-cycle" and iteration < warmup):
        return rise * (1 - iteration / total)
    if kind == "one-cycle":
        return end + (1 - end) * _half_cosine((iteration + 1) / total)
    if kind == "cosine-throughout":
        return rise * (end + (1 - end) * _half_cosine(iteration / total))
    return rise * _half_cosine(max(0, iteration - warmup) / max(1, total - warmup))


def _half_cosine(done: float) -> float:
    """1 at 0, 0 at 1."""
    return (1 + math.cos(math.pi * done)) / 2


def one_cycle_momentum(iteration: int, total: int, least: float, greatest: float, rising: float = 0.3) -> float:
    """The first beta: from `greatest` to `least` while the rate rises, a part `rising` of all iterations, and back, on half cosines.

    L. Smith's one-cycle policy as torch's OneCycleLR and mmcv 1.x's OneCycleMomentumUpdaterHook have it.
    """
    turn, last = rising * total - 1, total - 1
    if iteration <= turn:
        return least + (greatest - least) * _half_cosine(iteration / turn if turn > 0 else 1.0)
    return greatest + (least - greatest) * _half_cosine((iteration - turn) / max(last - turn, 1e-9))


def momentum_after_warmup(iteration: int, total: int, warmup: int, first: float, last: float) -> float:
    """The first beta: 0 during the warm-up, then from `first` to `last` on half a cosine, as DINOv3's WarmupOneCycleLR has it.

    Source: dinov3/eval/depth/schedulers.py, facebookresearch/dinov3 commit 6876159, lines 97-129.
    """
    if iteration < warmup:
        return 0.0
    return last + (first - last) * _half_cosine((iteration - warmup) / (total - warmup))
