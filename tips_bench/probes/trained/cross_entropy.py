"""Cross-entropy at pixel resolution of logits that live at patch resolution, for many heads, in bounded memory.

The upsampled logits of S heads on a batch of 16 crops of 512 pixels with 150 classes are 20 GB for S = 8. Here they exist a few
rows of one head at a time, and the gradient is computed while they do.

Axes: B batch, S heads, C classes, h w token grid, H W pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tips_bench.data.base import IGNORE
from tips_bench.features.geometry import Upsampling


def upsampled_cross_entropy(logits_BSChw: Tensor, labels_BHW: Tensor, upsampling: Upsampling) -> Tensor:
    """losses_S: mean over all B*H*W pixels of the cross-entropy after bilinear upsampling; ignored pixels add 0 to the sum.

    That ignored pixels count in the mean is mmsegmentation's rule (CrossEntropyLoss with avg_non_ignore=False), which the
    published linear protocols train with.
    """
    return _UpsampledCrossEntropy.apply(logits_BSChw, labels_BHW, upsampling)


class _UpsampledCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_BSChw: Tensor, labels_BHW: Tensor, upsampling: Upsampling) -> Tensor:
        gradient_BSChw = torch.empty_like(logits_BSChw, dtype=torch.float32)
        losses_S = torch.zeros(logits_BSChw.shape[1], dtype=torch.float64, device=logits_BSChw.device)
        scale = 1.0 / labels_BHW.numel()
        bands = upsampling.bands(logits_BSChw.shape[2] * labels_BHW.shape[-1])
        for image, labels_HW in enumerate(labels_BHW.long()):
            weight_HW = (labels_HW != IGNORE).float() * scale
            target_HW = labels_HW.where(labels_HW != IGNORE, torch.zeros_like(labels_HW))
            for head in range(logits_BSChw.shape[1]):
                # With the greatest logit of every patch at 0 no upsampled logit is above 0, so exp cannot overflow.
                logits_Chw = logits_BSChw[image, head].float()
                wide_ChW = (logits_Chw - logits_Chw.amax(0)) @ upsampling.columns_Ww.T
                gradient_ChW = torch.zeros_like(wide_ChW)
                for rows, tokens, weights in bands:
                    values_CrW = weights @ wide_ChW[:, tokens]
                    target_1rW, weight_rW = target_HW[None, rows], weight_HW[rows]
                    label_rW = values_CrW.gather(0, target_1rW)[0]
                    total_rW = values_CrW.exp_().sum(0).clamp_min_(1e-37)
                    losses_S[head] += ((total_rW.log() - label_rW) * weight_rW).sum().double()
                    values_CrW *= weight_rW / total_rW
                    values_CrW.scatter_add_(0, target_1rW, -weight_rW[None])
                    gradient_ChW[:, tokens] += weights.T @ values_CrW
                gradient_BSChw[image, head] = gradient_ChW @ upsampling.columns_Ww
        ctx.save_for_backward(gradient_BSChw)
        return losses_S.float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient_BSChw,) = ctx.saved_tensors
        return gradient_BSChw * gradients[0][:, None, None, None], None, None
