"""A faster way through a block on a CPU, for frozen weights: same mathematics, fewer passes over memory.

- Weights are laid out once as oneDNN wants them, instead of at every call.
- Bias, GELU or gate, LayerScale and the residual sum happen inside the matrix product (LayerScale is folded into a copy of the
  weights; the module's own weights are not touched).
- In bfloat16, attention is two oneDNN products with a softmax between, in pieces that stay in the cache. PyTorch's fused CPU
  kernel multiplies bfloat16 at the speed of float32 where the processor has avx512_bf16 but no AMX. The pieces are bfloat16
  scores, so the keys are centred first: a constant added to all scores of a query leaves its softmax as it was, and smaller scores
  lose less to rounding.

The operators are those torch.compile emits for frozen CPU graphs (torch/_inductor/fx_passes/mkldnn_fusion.py).
Axes in tensor names: B batch, N tokens, M = B N rows, D feature, S heads, E features of a head, G = B S.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tips_bench.models.layers import Block, LayerScale, Mlp, SwiGlu

# The rows oneDNN chooses its layout for; other numbers of rows work too.
_LAYOUT_ROWS = 1024
# Scores of one piece of attention: a few times the L2 cache of a core, well inside L3.
_PIECE_BYTES = 8 * 2**20


def can_pack(block: Block) -> bool:
    """Whether the packed form of this block would run here: on a CPU, in float32, or in bfloat16 with processor support."""
    weight = block.attn.qkv.weight
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32


def _prefers_pieces() -> bool:
    """True where bfloat16 products are fast but PyTorch's fused attention cannot use them."""
    return torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


class PackedLinear:
    """A linear map in oneDNN's layout, with what follows it fused in. Rows in, rows out."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None, scale_O: Tensor | None = None) -> None:
        if scale_O is not None:
            dtype, weight_OI = weight_OI.dtype, weight_OI.float() * scale_O.float()[:, None]
            weight_OI = weight_OI.to(dtype)
            bias_O = None if bias_O is None else (bias_O.float() * scale_O.float()).to(dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), _LAYOUT_ROWS)
        self.bias_O = None if bias_O is None else bias_O.clone()

    def __call__(self, x_MI: Tensor, then: str = "none") -> Tensor:
        """then: "none", "gelu-erf", "gelu-tanh" or "swish"."""
        name, _, algorithm = then.partition("-")
        return torch.ops.mkldnn._linear_pointwise(x_MI, self.weight, self.bias_O, name, [], {"erf": "none"}.get(algorithm, algorithm))

    def combine(self, x_MI: Tensor, other_MO: Tensor, how: str) -> Tensor:
        """The map's output joined with another tensor. how: "add" or "mul"."""
        return torch.ops.mkldnn._linear_pointwise.binary(x_MI, other_MO, self.weight, self.bias_O, how)


class PackedBlock:
    """A `Block` for inference on a CPU. Built from a block's present weights; later changes to those are not seen."""

    def __init__(self, block: Block) -> None:
        self.norm1, self.norm2, self.attn = block.norm1, block.norm2, block.attn
        self.qkv = PackedLinear(block.attn.qkv.weight, block.attn.qkv.bias)
        self.proj = PackedLinear(block.attn.proj.weight, block.attn.proj.bias, _gamma(block.ls1))
        self.ffn = _packed_ffn(block.mlp, _gamma(block.ls2))
        self.in_pieces = block.attn.qkv.weight.dtype == torch.bfloat16 and _prefers_pieces()

    def __call__(self, x_BND: Tensor) -> Tensor:
        qkv_BNC3 = self._qkv(x_BND)
        return self._finish(x_BND, self._attend(qkv_BNC3))

    def with_values(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """As `Block.with_values`."""
        qkv_BNC3 = self._qkv(x_BND)
        values_BND = qkv_BNC3[..., -x_BND.shape[-1] :]
        return self._finish(x_BND, self._attend(qkv_BNC3)), self._finish(x_BND, values_BND)

    def _qkv(self, x_BND: Tensor) -> Tensor:
        return self.qkv(self.norm1(x_BND).flatten(0, 1)).view(*x_BND.shape[:2], -1)

    def _attend(self, qkv_BNC3: Tensor) -> Tensor:
        return attend_in_pieces(qkv_BNC3, self.attn.num_heads) if self.in_pieces else self.attn.attend(qkv_BNC3)

    def _finish(self, x_BND: Tensor, heads_BND: Tensor) -> Tensor:
        x_MD = self.proj.combine(heads_BND.flatten(0, 1), x_BND.flatten(0, 1), "add")
        return self.ffn(self.norm2(x_MD), x_MD).view(x_BND.shape)


def _gamma(scale: LayerScale | None) -> Tensor | None:
    return None if scale is None else scale.gamma


def _packed_ffn(ffn: nn.Module, scale_D: Tensor | None) -> _PackedMlp | _PackedSwiGlu:
    if isinstance(ffn, SwiGlu):
        return _PackedSwiGlu(ffn, scale_D)
    if isinstance(ffn, Mlp) and ffn.activation.startswith("gelu"):
        return _PackedMlp(ffn, scale_D)
    raise TypeError(f"no packed form of {ffn}")


class _PackedMlp:
    def __init__(self, mlp: Mlp, scale_D: Tensor | None) -> None:
        self.activation = mlp.activation
        self.fc1 = PackedLinear(mlp.fc1.weight, mlp.fc1.bias)
        self.fc2 = PackedLinear(mlp.fc2.weight, mlp.fc2.bias, scale_D)

    def __call__(self, x_MD: Tensor, residual_MD: Tensor) -> Tensor:
        return self.fc2.combine(self.fc1(x_MD, self.activation), residual_MD, "add")


class _PackedSwiGlu:
    def __init__(self, ffn: SwiGlu, scale_D: Tensor | None) -> None:
        gate_weight, up_weight = ffn.w12.weight.chunk(2)
        gate_bias, up_bias = ffn.w12.bias.chunk(2)
        self.gate = PackedLinear(gate_weight, gate_bias)
        self.up = PackedLinear(up_weight, up_bias)
        self.w3 = PackedLinear(ffn.w3.weight, ffn.w3.bias, scale_D)

    def __call__(self, x_MD: Tensor, residual_MD: Tensor) -> Tensor:
        hidden = self.up.combine(x_MD, self.gate(x_MD, "swish"), "mul")
        return self.w3.combine(hidden, residual_MD, "add")


def attend_in_pieces(qkv_BNC3: Tensor, num_heads: int, piece_bytes: int = _PIECE_BYTES) -> Tensor:
    """`Attention.attend` as plain matrix products over pieces of at most about `piece_bytes` of scores. [B,N,D], no gradients."""
    batch, tokens, width = qkv_BNC3.shape
    head_dim = width // (3 * num_heads)
    qkv_3BSNE = qkv_BNC3.view(batch, tokens, 3, num_heads, head_dim).permute(2, 0, 3, 1, 4).contiguous()
    q_GNE, k_GNE, v_GNE = qkv_3BSNE.flatten(1, 2).unbind(0)
    k_GNE -= k_GNE.mean(dim=1, keepdim=True)
    out_GNE = torch.empty_like(v_GNE)
    row_bytes = tokens * qkv_BNC3.element_size()
    rows = max(1, min(tokens, piece_bytes // row_bytes))
    groups = max(1, piece_bytes // (row_bytes * tokens))
    scores = torch.empty(groups, rows, tokens, dtype=qkv_BNC3.dtype)
    for g in range(0, len(q_GNE), groups):
        keys_gEN, values_gNE = k_GNE[g : g + groups].transpose(1, 2), v_GNE[g : g + groups]
        for n in range(0, tokens, rows):
            queries_gnE = q_GNE[g : g + groups, n : n + rows]
            scores_gnN = scores[: queries_gnE.shape[0], : queries_gnE.shape[1]]
            torch.baddbmm(scores_gnN, queries_gnE, keys_gEN, beta=0, alpha=head_dim**-0.5, out=scores_gnN)
            torch.softmax(scores_gnN, dim=-1, out=scores_gnN)
            out_GNE[g : g + groups, n : n + rows] = torch.bmm(scores_gnN, values_gNE)
    return out_GNE.view(batch, num_heads, tokens, head_dim).transpose(1, 2).reshape(batch, tokens, width // 3)
