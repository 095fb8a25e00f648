"""Transformer blocks that the towers are made of.

Axes in tensor names: B batch, N tokens, D feature, S heads, E features of a head, C3 = 3 D,
M hidden features, R kept rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tips_bench.models.dropping import BlockPaths, Dropout, KeptRows


class Attention(nn.Module):
    """Multi-head self-attention whose queries, keys and values come from one linear map.

    qkv_bias: whether that map has a bias. causal: a token looks at itself and at those before it alone.
    """

    def __init__(self, dim: int, num_heads: int, *, qkv_bias: bool = True, causal: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.causal = causal
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def attend(self, qkv_BNC3: Tensor, keep_BN: Tensor | None = None, dropout: Dropout | None = None) -> Tensor:
        """[B,N,D]: the heads' outputs side by side, before the output projection.

        keep_BN: bool, False where a token must not be looked at; not together with causal. dropout: of the weights, not with causal.
        """
        batch, tokens, width = qkv_BNC3.shape
        qkv_BN3SE = qkv_BNC3.view(batch, tokens, 3, self.num_heads, width // (3 * self.num_heads))
        q_BSNE, k_BSNE, v_BSNE = qkv_BN3SE.permute(2, 0, 3, 1, 4).unbind(0)
        mask_B11N = None if keep_BN is None else keep_BN[:, None, None, :]
        if dropout is None:
            heads_BSNE = F.scaled_dot_product_attention(q_BSNE, k_BSNE, v_BSNE, attn_mask=mask_B11N, is_causal=self.causal)
        else:
            heads_BSNE = _attend_with_dropout(q_BSNE, k_BSNE, v_BSNE, mask_B11N, dropout)
        return heads_BSNE.transpose(1, 2).reshape(batch, tokens, width // 3)


def _attend_with_dropout(q_BSNE: Tensor, k_BSNE: Tensor, v_BSNE: Tensor, mask_B11N: Tensor | None, dropout: Dropout) -> Tensor:
    """Written out, since the fused attention draws from a generator."""
    scores_BSNN = q_BSNE @ k_BSNE.transpose(-1, -2) / math.sqrt(q_BSNE.shape[-1])
    if mask_B11N is not None:
        scores_BSNN = scores_BSNN.masked_fill(~mask_B11N, -torch.inf)
    return dropout(scores_BSNN.softmax(dim=-1)).to(v_BSNE.dtype) @ v_BSNE


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu-erf": F.gelu,
    "gelu-tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


class Mlp(nn.Module):
    """Linear, activation, linear. activation: "gelu-erf" (exact), "gelu-tanh" (approximate) or "relu"."""

    def __init__(self, dim: int, hidden: int, *, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x_BND: Tensor, dropout: Dropout | None = None) -> Tensor:
        """dropout: of the hidden values."""
        hidden_BNM = _ACTIVATIONS[self.activation](self.fc1(x_BND))
        return self.fc2(hidden_BNM if dropout is None else dropout(hidden_BNM))


class SwiGlu(nn.Module):
    """Gated feed-forward (Shazeer, arXiv 2002.05202): silu(gate) * up, both from one linear map."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        gate, up = self.w12(x_BND).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * up)


class LayerScale(nn.Module):
    """A learned factor for each feature of a residual branch (Touvron et al., arXiv 2103.17239)."""

    def __init__(self, dim: int, init_value: float) -> None:
        super().__init__()
        self.init_value = init_value
        self.gamma = nn.Parameter(torch.full((dim,), init_value))


class Block(nn.Module):
    """A pre-norm transformer block: attention, then feed-forward, each added to what came in.

    init_values: None = no LayerScale. qkv_bias, causal: of the attention.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        ffn: nn.Module,
        *,
        eps: float,
        init_values: float | None = None,
        qkv_bias: bool = True,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, num_heads, qkv_bias=qkv_bias, causal=causal)
        self.ls1 = None if init_values is None else LayerScale(dim, init_values)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = ffn
        self.ls2 = None if init_values is None else LayerScale(dim, init_values)

    def forward(
        self, x_BND: Tensor, keep_BN: Tensor | None = None, paths: BlockPaths | None = None, dropout: Dropout | None = None
    ) -> Tensor:
        """keep_BN: as of `Attention.attend`. paths: the rows that each branch is computed for, without keep_BN and dropout.

        dropout: of the weights of attention, of both branches, and of the hidden values of an `Mlp`.
        """
        if paths is not None:
            return self._along_kept_paths(x_BND, paths)
        qkv_BNC3 = self.attn.qkv(self.norm1(x_BND))
        if dropout is not None:
            return self._finish_with_dropout(x_BND, self.attn.attend(qkv_BNC3, keep_BN, dropout.at(0)), dropout)
        return self._finish(x_BND, self.attn.attend(qkv_BNC3, keep_BN))

    def with_values(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and its value path: the same block with each token attending to itself alone."""
        qkv_BNC3 = self.attn.qkv(self.norm1(x_BND))
        values_BND = qkv_BNC3[..., -x_BND.shape[-1] :]
        return self._finish(x_BND, self.attn.attend(qkv_BNC3)), self._finish(x_BND, values_BND)

    def _finish(self, x_BND: Tensor, heads_BND: Tensor) -> Tensor:
        x_BND = _add_scaled(x_BND, self.attn.proj(heads_BND), self.ls1)
        return _add_scaled(x_BND, self.mlp(self.norm2(x_BND)), self.ls2)

    def _finish_with_dropout(self, x_BND: Tensor, heads_BND: Tensor, dropout: Dropout) -> Tensor:
        x_BND = _add_scaled(x_BND, dropout.at(1)(self.attn.proj(heads_BND)), self.ls1)
        return _add_scaled(x_BND, dropout.at(3)(self.mlp(self.norm2(x_BND), dropout.at(2))), self.ls2)

    def _along_kept_paths(self, x_BND: Tensor, paths: BlockPaths) -> Tensor:
        attention_RND = self.attn.proj(self.attn.attend(self.attn.qkv(self.norm1(x_BND[paths.attention.rows_R]))))
        x_BND = _add_to_rows(x_BND, attention_RND, self.ls1, paths.attention)
        return _add_to_rows(x_BND, self.mlp(self.norm2(x_BND[paths.mlp.rows_R])), self.ls2, paths.mlp)


def _add_to_rows(x_BND: Tensor, branch_RND: Tensor, scale: LayerScale | None, kept: KeptRows) -> Tensor:
    branch_RND = branch_RND if scale is None else branch_RND * scale.gamma
    return x_BND.index_add(0, kept.rows_R, branch_RND.to(x_BND.dtype), alpha=kept.factor)


def _add_scaled(x_BND: Tensor, branch_BND: Tensor, scale: LayerScale | None) -> Tensor:
    if scale is None:
        return x_BND + branch_BND
    return torch.addcmul(x_BND, branch_BND, scale.gamma)
