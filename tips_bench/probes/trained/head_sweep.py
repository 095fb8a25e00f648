"""Many linear heads trained on one stream of frozen features: the learning-rate x weight-decay grid at the cost of one backbone pass.

Every head is BatchNorm -> Dropout2d -> 1x1 convolution, or has Dropout2d first. The batch statistics of frozen features are the same
for all heads, so they are computed once, and each head's scale, shift, dropout mask and convolution fold into one affine map: the
logits of all S heads are one matrix product. All heads start from the same weights and see the same masks; with the same learning rate
two heads stay equal.

Axes: B batch, P patches (B*h*w), h w token grid, D feature, S heads, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tips_bench.encoders.waiting import sent
from tips_bench.probes.linear_head import LinearHead

EPSILON = 1e-5  # BatchNorm's, torch default
MOMENTUM = 0.1  # of the running statistics, torch default
INITIAL_DEVIATION = 0.01  # of the convolution's weights, as mmsegmentation's decode heads and DINOv3's linear head


@dataclass(frozen=True)
class GridPoint:
    """One head's optimiser settings."""

    lr: float
    weight_decay: float


class HeadSweep(nn.Module):
    """S heads on features of D channels. batch_norm: as in the protocol; without it features go straight to the convolution.

    dropout_first: before BatchNorm, whose statistics are then those of what dropout leaves (DINOv3, eval/segmentation/models/heads/
    linear_head.py).

    initial: "normal" weights of INITIAL_DEVIATION with a bias of 0, or as "torch" begins a convolution.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        heads: int,
        dim: int,
        classes: int,
        *,
        batch_norm: bool,
        dropout: float,
        dropout_first: bool = False,
        seed: int,
        initial: Literal["normal", "torch"] = "normal",
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight_CD, bias_C = torch.randn(classes, dim, generator=generator) * INITIAL_DEVIATION, torch.zeros(classes)
        if initial == "torch":  # Conv2d.reset_parameters: both even within 1 / sqrt(dim)
            weight_CD, bias_C = ((2 * torch.rand(shape, generator=generator) - 1) / dim**0.5 for shape in ((classes, dim), (classes,)))
        self.weight = nn.ParameterList(nn.Parameter(weight_CD.clone()) for _ in range(heads))
        self.bias = nn.ParameterList(nn.Parameter(bias_C.clone()) for _ in range(heads))
        self.scale = nn.ParameterList(nn.Parameter(torch.ones(dim)) for _ in range(heads if batch_norm else 0))
        self.shift = nn.ParameterList(nn.Parameter(torch.zeros(dim)) for _ in range(heads if batch_norm else 0))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.batch_norm, self.dropout, self.dropout_first, self.seed = batch_norm, dropout, dropout_first, seed

    def parameters_of(self, head: int) -> list[nn.Parameter]:
        """All parameters of one head: the published optimisers decay every one of them."""
        norm = [self.scale[head], self.shift[head]] if self.batch_norm else []
        return [self.weight[head], self.bias[head], *norm]

    def forward(self, features_BhwD: Tensor, iteration: int) -> Tensor:
        """logits_BSChw of a training batch; the running statistics move on. iteration: what the dropout mask is drawn from."""
        batch, height, width, dim = features_BhwD.shape
        features_PD = features_BhwD.reshape(-1, dim).float()
        mask_BD = sent(self._mask(batch, dim, iteration), features_PD.device)
        if self.dropout_first:
            features_PD = (features_PD.view(batch, -1, dim) * mask_BD[:, None]).view(-1, dim)
            mask_BD = torch.ones_like(mask_BD)
        if self.batch_norm:
            features_PD = self._normalized(features_PD)
        weight_SCD, bias_SC = torch.stack(list(self.weight)), torch.stack(list(self.bias))
        if self.batch_norm:
            scale_SD, shift_SD = torch.stack(list(self.scale)), torch.stack(list(self.shift))
            shifted_BSC = torch.einsum("bd,sd,scd->bsc", mask_BD, shift_SD, weight_SCD)
            weight_SCD = weight_SCD * scale_SD[:, None]
        else:
            shifted_BSC = torch.zeros(batch, *bias_SC.shape, device=features_PD.device)
        masked_BPD = features_PD.view(batch, -1, dim) * mask_BD[:, None]
        logits_BPSC = torch.nn.functional.linear(masked_BPD, weight_SCD.flatten(0, 1)).view(batch, -1, *bias_SC.shape)
        logits_BPSC = logits_BPSC + (bias_SC + shifted_BSC)[:, None]
        return logits_BPSC.permute(0, 2, 3, 1).reshape(batch, *bias_SC.shape, height, width)

    @torch.no_grad()
    def _normalized(self, features_PD: Tensor) -> Tensor:
        variance_D, mean_D = torch.var_mean(features_PD, 0, correction=0)
        count = len(features_PD)
        self.running_mean.lerp_(mean_D, MOMENTUM)
        self.running_var.lerp_(variance_D * count / max(count - 1, 1), MOMENTUM)
        return (features_PD - mean_D) * (variance_D + EPSILON).rsqrt()

    def _mask(self, batch: int, dim: int, iteration: int) -> Tensor:
        """Dropout2d's mask: a whole channel of an image at a time, from (seed, iteration) alone."""
        if self.dropout == 0:
            return torch.ones(batch, dim)
        generator = torch.Generator().manual_seed((self.seed << 32) + iteration)
        return (torch.rand(batch, dim, generator=generator) >= self.dropout).float() / (1 - self.dropout)

    @torch.no_grad()
    def head(self, index: int) -> LinearHead:
        """A head as used for inference: running statistics folded in, no dropout."""
        weight_CD, bias_C = self.weight[index], self.bias[index]
        if self.batch_norm:
            factor_D = self.scale[index] * (self.running_var + EPSILON).rsqrt()
            bias_C = bias_C + weight_CD @ (self.shift[index] - factor_D * self.running_mean)
            weight_CD = weight_CD * factor_D
        return LinearHead(weight_CD.detach().cpu().clone(), bias_C.detach().cpu().clone())


def optimizer(sweep: HeadSweep, grid: list[GridPoint], betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW over all heads, one parameter group a head with its own learning rate and weight decay."""
    groups: list[dict[str, Any]] = [
        {"params": sweep.parameters_of(index), "lr": point.lr, "base_lr": point.lr, "weight_decay": point.weight_decay}
        for index, point in enumerate(grid)
    ]
    return torch.optim.AdamW(groups, betas=betas)
