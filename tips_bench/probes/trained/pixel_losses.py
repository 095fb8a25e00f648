"""Losses of the published depth and normals heads, over the pixels whose truth is known.

Axes: B batch, H W pixels, V known pixels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

STRIDES = (1, 2, 4, 6)  # of the gradient term, as dinov2 (depth/models/losses/gradientloss.py) and probe3d have it; MegaDepth: 1, 2, 4, 8
GAP = 2  # pixels between the two that a difference is taken of, as in all three
Between = Literal["pixels", "images"]


def log_residual(depth_BHW: Tensor, truth_BHW: Tensor, epsilon: float) -> Tensor:
    """log(depth + epsilon) - log(truth + epsilon), 0 where the truth is unknown (0)."""
    known_BHW = truth_BHW > 0
    residual_BHW = (depth_BHW + epsilon).log() - (truth_BHW.where(known_BHW, torch.ones_like(truth_BHW)) + epsilon).log()
    return residual_BHW.where(known_BHW, torch.zeros_like(residual_BHW))


def scale_invariant_loss(residual_BHW: Tensor, known_BHW: Tensor, share: float, correction: int = 0) -> Tensor:
    """sqrt(var(r) + (1 - share) * mean(r)^2) over the known pixels of the batch; 0 where none is known.

    The scale-invariant log error of Eigen et al. (NIPS 2014) in the form of AdaBins. share: 1 ignores scale, 0 is the log RMSE.
    correction: the variance is a sum over the number of pixels less this; 0 gives sqrt(mean(r^2) - share * mean(r)^2), as probe3d has it,
    and 1 torch's own variance, as dinov2 and dinov3 have it.
    """
    count = known_BHW.sum()
    mean, squares = residual_BHW.sum() / count.clamp_min(1), residual_BHW.square().sum() / count.clamp_min(1)
    inside = (squares - mean.square()) * (count / (count - correction).clamp_min(1)) + (1 - share) * mean.square()
    # The root of 0 has no gradient: a perfect batch, or an empty one, is left alone.
    return inside.clamp_min(torch.finfo(residual_BHW.dtype).tiny).sqrt() * (count > 0)


def gradient_loss(residual_BHW: Tensor, known_BHW: Tensor, between: Between = "pixels") -> Tensor:
    """Sum over strides of the absolute differences of the residual, each over the known pixels at that stride.

    Multi-scale gradient matching (Z. Li, N. Snavely, MegaDepth, CVPR 2018), which takes differences along rows and columns: between
    "pixels". Between "images": of the images of the batch, two apart, at every pixel, as the code does that slices batch and channel in
    their place: facebookresearch/dinov2 b8931f7, dinov2/eval/depth/models/losses/gradientloss.py:34-58, and mbanani/probe3d 1fff822,
    evals/utils/losses.py:89-129. That is 0 for two images.
    """
    axes = (1, 2) if between == "pixels" else (0,)
    total = residual_BHW.new_zeros(())
    for stride in STRIDES:
        kept = tuple(slice(None, None, stride if axis in axes else None) for axis in range(3))
        residual, known = residual_BHW[kept], known_BHW[kept]
        total = total + sum(_differences(residual, known, axis) for axis in axes) / known.sum().clamp_min(1)
    return total


def _differences(residual_BHW: Tensor, known_BHW: Tensor, axis: int) -> Tensor:
    """Sum of absolute differences along an axis, GAP apart, where both are known."""
    pairs = max(0, residual_BHW.shape[axis] - GAP)
    first, last = (residual_BHW.narrow(axis, start, pairs) for start in (0, GAP if pairs else 0))
    both = known_BHW.narrow(axis, 0, pairs) & known_BHW.narrow(axis, GAP if pairs else 0, pairs)
    return ((last - first).abs() * both).sum()


def angular_loss(predicted_B3HW: Tensor, truth_B3HW: Tensor, known_BHW: Tensor, kappa_BHW: Tensor | None = None) -> Tensor:
    """Mean angle in radians between prediction and truth over the known pixels; 0 where none is known.

    kappa_BHW: raw outputs of a concentration. Then the negative log-likelihood of Bae et al. (ICCV 2021, equation 3, without its
    constant) for kappa = elu(raw) + 1.01: kappa * angle + log(1 + exp(-kappa * pi)) - log(kappa^2 + 1), as probe3d has it
    (evals/utils/losses.py), where cosines are kept 1e-4 away from -1 and 1.
    """
    margin = 1e-4
    cosine_BHW = F.cosine_similarity(predicted_B3HW, truth_B3HW, dim=1)
    loss_BHW = cosine_BHW.clamp(-1 + margin, 1 - margin).acos()
    if kappa_BHW is not None:
        kappa_BHW = F.elu(kappa_BHW) + 1.01
        loss_BHW = kappa_BHW * loss_BHW + (-kappa_BHW * torch.pi).exp().log1p() - (kappa_BHW.square() + 1).log()
    return loss_BHW.where(known_BHW, torch.zeros_like(loss_BHW)).sum() / known_BHW.sum().clamp_min(1)
