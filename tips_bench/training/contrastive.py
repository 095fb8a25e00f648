"""InfoNCE between images and texts, without the matrix of all similarities.

A row of logits is needed as its log-sum-exp and its entry for the matching pair alone, so it is made and forgotten in chunks, once going
forward and once going back. A rank compares its own images with all texts and its own texts with all images.

Loss: CLIP (arXiv 2103.00020), figure 3: the mean of both directions. Axes in tensor names: B pairs of this rank, N pairs of all ranks,
n pairs of one chunk, D feature.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from tips_bench.training.distributed import gather


def contrastive_loss(image_BD: Tensor, text_BD: Tensor, temperature: Tensor, chunk: int) -> Tensor:
    """Nats. Rows of unit length; logits = cosine / temperature. chunk: pairs of all ranks that are compared with at once."""
    image_ND, first = gather(image_BD)
    text_ND, _ = gather(text_BD)
    scale = 1 / temperature
    to_text_B = matching_cross_entropy(image_BD, text_ND, scale, first, chunk)
    to_image_B = matching_cross_entropy(text_BD, image_ND, scale, first, chunk)
    return (to_text_B.mean() + to_image_B.mean()) / 2


def matching_cross_entropy(query_BD: Tensor, key_ND: Tensor, scale: Tensor, first: int, chunk: int) -> Tensor:
    """[B]: -log softmax(scale * query_b . keys) at key first + b, in nats."""
    return cast("Tensor", _MatchingCrossEntropy.apply(query_BD, key_ND, scale, first, chunk))


class _MatchingCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query_BD: Tensor, key_ND: Tensor, scale: Tensor, first: int, chunk: int) -> Tensor:
        lse_B = query_BD.new_full((len(query_BD),), -torch.inf)
        for key_nD in key_ND.split(chunk):
            lse_B = torch.logaddexp(lse_B, (scale * (query_BD @ key_nD.T)).logsumexp(dim=1))
        ctx.save_for_backward(query_BD, key_ND, scale, lse_B)
        ctx.first, ctx.chunk = first, chunk
        return lse_B - scale * (query_BD * key_ND[first : first + len(query_BD)]).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, *grads_B: Tensor) -> tuple[Tensor | None, ...]:
        (grad_B,) = grads_B
        query_BD, key_ND, scale, lse_B = ctx.saved_tensors
        own = slice(ctx.first, ctx.first + len(query_BD))
        # The matching pair pulls with -1, every pair pushes with its probability.
        query_grad_BD, key_grad_ND = -grad_B[:, None] * key_ND[own], torch.zeros_like(key_ND)
        key_grad_ND[own] = -grad_B[:, None] * query_BD
        scale_grad = -(grad_B * (query_BD * key_ND[own]).sum(dim=1)).sum()
        for key_nD, grad_nD in zip(key_ND.split(ctx.chunk), key_grad_ND.split(ctx.chunk), strict=True):
            cosine_Bn = query_BD @ key_nD.T
            push_Bn = (scale * cosine_Bn - lse_B[:, None]).exp_().mul_(grad_B[:, None])
            query_grad_BD += push_Bn @ key_nD
            grad_nD += push_Bn.T @ query_BD
            scale_grad += (push_Bn * cosine_Bn).sum()
        return scale * query_grad_BD, scale * key_grad_ND, scale_grad, None, None
