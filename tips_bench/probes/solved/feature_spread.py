"""Have patches collapsed? How their features spread, from a mean and a covariance that a probe computes anyway.

A probe at its optimum finds whatever patches still tell apart, however faint: it may keep its score while nearly all of a patch has
become one vector that all patches share. These two numbers show it. They depend on the architecture (a few outlying channels lower
both), so compare a checkpoint with an earlier one of its kind, not a model with another.

Axes: D feature.
"""

from __future__ import annotations

import torch
from torch import Tensor


def spread(mean_D: Tensor, covariance_DD: Tensor) -> dict[str, float]:
    """common_share: |mean|^2 / E|x|^2, from 0 to 1: what all patches share. effective_rank: from 1 to D, of what is left.

    Effective rank: exp(entropy) of the singular values of the centred patches divided by their sum (Roy & Vetterli, EUSIPCO 2007); of
    image embeddings it is known to follow a model's worth, without labels (RankMe, Garrido et al., ICML 2023). 0 where patches are equal.
    """
    shared, rest = float(mean_D.square().sum()), max(float(covariance_DD.diagonal().sum()), 0.0)
    eigenvalues_D = torch.linalg.eigvalsh(covariance_DD)
    # Sums of products in float32 leave this much of a direction that does not vary.
    floor = max(float(eigenvalues_D.max()), 0.0) * torch.finfo(torch.float32).eps
    singular_D = eigenvalues_D[eigenvalues_D > floor].sqrt()
    share_D = singular_D / singular_D.sum()
    rank = float(torch.special.entr(share_D).sum().exp()) if len(share_D) else 0.0
    return {"common_share": shared / (shared + rest) if shared + rest else 0.0, "effective_rank": rank}
