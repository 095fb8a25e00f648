"""Transformer blocks that the towers are made of.

Axes in tensor names: B batch, N tokens, D feature, S heads, E features of a head, C3 = 3 D.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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

    def attend(self, qkv_BNC3: Tensor, keep_BN: Tensor | None = None) -> Tensor:
        """[B,N,D]: the heads' outputs side by side, before the output projection.

        keep_BN: bool, False where a token must not be looked at; not together with causal.
        """
        batch, tokens, width = qkv_BNC3.shape
        qkv_BN3SE = qkv_BNC3.view(batch, tokens, 3, self.num_heads, width // (3 * self.num_heads))
        q_BSNE, k_BSNE, v_BSNE = qkv_BN3SE.permute(2, 0, 3, 1, 4).unbind(0)
        mask_B11N = None if keep_BN is None else keep_BN[:, None, None, :]
        heads_BSNE = F.scaled_dot_product_attention(q_BSNE, k_BSNE, v_BSNE, attn_mask=mask_B11N, is_causal=self.causal)
        return heads_BSNE.transpose(1, 2).reshape(batch, tokens, width // 3)


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

    def forward(self, x_BND: Tensor) -> Tensor:
        return self.fc2(_ACTIVATIONS[self.activation](self.fc1(x_BND)))


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

    def forward(self, x_BND: Tensor, keep_BN: Tensor | None = None) -> Tensor:
        qkv_BNC3 = self.attn.qkv(self.norm1(x_BND))
        return self._finish(x_BND, self.attn.attend(qkv_BNC3, keep_BN))

    def with_values(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and its value path: the same block with each token attending to itself alone."""
        qkv_BNC3 = self.attn.qkv(self.norm1(x_BND))
        values_BND = qkv_BNC3[..., -x_BND.shape[-1] :]
        return self._finish(x_BND, self.attn.attend(qkv_BNC3)), self._finish(x_BND, values_BND)

    def _finish(self, x_BND: Tensor, heads_BND: Tensor) -> Tensor:
        x_BND = _add_scaled(x_BND, self.attn.proj(heads_BND), self.ls1)
        return _add_scaled(x_BND, self.mlp(self.norm2(x_BND)), self.ls2)


def _add_scaled(x_BND: Tensor, branch_BND: Tensor, scale: LayerScale | None) -> Tensor:
    if scale is None:
        return x_BND + branch_BND
    return torch.addcmul(x_BND, branch_BND, scale.gamma)
