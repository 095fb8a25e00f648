"""Losses of the published depth and normals heads, over the pixels whose truth is known.

Axes: B batch, H W pixels, V known pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

STRIDES = (1, 2, 4, 6)  # of the gradient term, as dinov2 (depth/models/losses/gradientloss.py) and probe3d have it; MegaDepth: 1, 2, 4, 8
GAP = 2  # pixels between the two that a difference is taken of, as in all three


def log_residual(depth_BHW: Tensor, truth_BHW: Tensor, epsilon: float) -> Tensor:
    """log(depth + epsilon) - log(truth + epsilon), 0 where the truth is unknown (0)."""
    known_BHW = truth_BHW > 0
    residual_BHW = (depth_BHW + epsilon).log() - (truth_BHW.where(known_BHW, torch.ones_like(truth_BHW)) + epsilon).log()
    return residual_BHW.where(known_BHW, torch.zeros_like(residual_BHW))


def scale_invariant_loss(residual_BHW: Tensor, known_BHW: Tensor, share: float) -> Tensor:
    """sqrt(mean(r^2) - share * mean(r)^2) over the known pixels of the batch; 0 where none is known.

    The scale-invariant log error of Eigen et al. (NIPS 2014) in the form of AdaBins. share: 1 ignores scale, 0 is the log RMSE.
    """
    count = known_BHW.sum()
    mean, squares = residual_BHW.sum() / count.clamp_min(1), residual_BHW.square().sum() / count.clamp_min(1)
    # The root of 0 has no gradient: a perfect batch, or an empty one, is left alone.
    return (squares - share * mean.square()).clamp_min(torch.finfo(residual_BHW.dtype).tiny).sqrt() * (count > 0)


def gradient_loss(residual_BHW: Tensor, known_BHW: Tensor) -> Tensor:
    """Sum over strides of the absolute differences of the residual along rows and columns, each over the known pixels at that stride.

    Multi-scale gradient matching (Z. Li, N. Snavely, MegaDepth, CVPR 2018). The published dinov2 and probe3d code slices batch and
    channel where height and width are meant; here they are meant.
    """
    total = residual_BHW.new_zeros(())
    for stride in STRIDES:
        residual, known = residual_BHW[:, ::stride, ::stride], known_BHW[:, ::stride, ::stride]
        rows = (residual[:, GAP:] - residual[:, :-GAP]).abs() * (known[:, GAP:] & known[:, :-GAP])
        columns = (residual[:, :, GAP:] - residual[:, :, :-GAP]).abs() * (known[:, :, GAP:] & known[:, :, :-GAP])
        total = total + (rows.sum() + columns.sum()) / known.sum().clamp_min(1)
    return total


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
