"""The last block of a CLIP tower under another attention, for patches that are compared with texts.

| attention | weights of the values, for each head | kept of the block | source |
|---|---|---|---|
| maskclip | 1 for a token's own | residual, feed-forward | chongzhou96/MaskCLIP 245d31f, mmseg/models/backbones/vit.py:94-105 |
| sclip | softmax(q q') + softmax(k k') | residual, feed-forward | wangf3014/SCLIP b56bd30, clip/model.py:250-251, 295-298 |
| naclip | softmax(k k' + a Gaussian of the distance in patches) | neither | sinahmr/NACLIP 0cac3a6, clip/model.py:118-119, 154-207 |
| clearclip | softmax(q q') | neither | mc-lan/ClearCLIP ad68a40, open_clip/transformer.py:525-526, 614-616 |
| proxyclip | softmax of another encoder's similarities | neither | mc-lan/ProxyCLIP e7b767f, open_clip/transformer.py:528, 560-587 |

q, k and v are those of the block's own attention, products are divided by the square root of a head's width, and its output projection
follows; then the final norm and the projection to the space of the texts. The weights of sclip sum to 2. The Gaussian adds nothing to the
scores of CLS.

Axes: B batch, S heads, N tokens, P = h w patches, D feature, E feature of the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Attention = Literal["maskclip", "sclip", "naclip", "clearclip", "proxyclip"]
Positions = Literal["encoder", "dino", "bicubic"]
Facet = Literal["token", "query", "key", "value"]
Network = Literal["encoder", "mmseg"]
MMSEG_EPS = 1e-6  # of its norms: chongzhou96/MaskCLIP 245d31f, configs/_base_/models/maskclip_vit16.py:22
GAUSSIAN_STD = 5.0  # in patches: sinahmr/NACLIP 0cac3a6, naclip.py:21


@dataclass(frozen=True)
class Proxy:
    """features_BhwD: of another encoder, whose grid the result has. beta, gamma: as in tips_bench.cards.ProxyCard."""

    features_BhwD: Tensor
    beta: float
    gamma: float


@dataclass(frozen=True)
class Reading:
    """How a tower is read. proxy: for the attention "proxyclip" and for no other. keys: the features are followed by the keys of the last
    block, after its output projection.
    """

    attention: Attention
    positions: Positions
    proxy: Proxy | None = None
    network: Network = "encoder"
    keys: bool = False


@dataclass(frozen=True)
class Block:
    """The parts of a transformer block with norms before them.

    qkv: normed tokens [B,N,D] -> their queries, keys and values, [B,N,D] each. out: the attention's output projection, and what scales
    it. feed_forward: its norm, network and scale, [B,N,D] -> [B,N,D].
    """

    norm: Callable[[Tensor], Tensor]
    qkv: Callable[[Tensor], Sequence[Tensor]]
    heads: int
    out: Callable[[Tensor], Tensor]
    feed_forward: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Projections:
    """What the last block makes of each token before its attention.

    norm, qkv: as of Block. Positions that are turned into queries and keys later (RoPE), and a norm of each head's, are not in them.
    """

    norm: Callable[[Tensor], Tensor]
    qkv: Callable[[Tensor], Sequence[Tensor]]

    def facet(self, before_BhwD: Tensor, facet: Facet) -> Tensor:
        """[B,h,w,E]: queries, keys or values, the heads side by side, of patches as the block before gives them, not normed."""
        parts = dict(zip(("query", "key", "value"), self.qkv(self.norm(before_BhwD.flatten(1, 2))), strict=True))
        return parts[facet].unflatten(1, before_BhwD.shape[1:3])


@dataclass(frozen=True)
class Tower:
    """A CLIP image tower in parts.

    embed: pixels -> [B,D,h,w]. positions_ND: a table of CLS and a square grid. resized: a grid (h, w) -> its positions [N,D] as the library
    makes them. norm_before: of the tokens. blocks: all but the last. finish: the final norm and the projection, [B,N,D] -> [B,N,E].
    module: that holds all of these.
    """

    module: nn.Module
    embed: Callable[[Tensor], Tensor]
    class_token_D: Tensor
    positions_ND: Tensor
    resized: Callable[[tuple[int, int]], Tensor]
    norm_before: Callable[[Tensor], Tensor]
    blocks: Sequence[Callable[[Tensor], Tensor]]
    last: Block
    finish: Callable[[Tensor], Tensor]


def read(tower: Tower, pixels_B3HW: Tensor, reading: Reading) -> Tensor:
    """[B,h,w,E] patch features of normalized pixels whose sides are multiples of the patch size; of a proxy's grid where there is one."""
    if reading.network == "encoder":
        return _read(tower, pixels_B3HW, reading)
    with as_in_mmseg(tower.module):
        return _read(tower, pixels_B3HW, reading)


def _read(tower: Tower, pixels_B3HW: Tensor, reading: Reading) -> Tensor:
    maps_BDhw = tower.embed(pixels_B3HW)
    grid = maps_BDhw.shape[-2], maps_BDhw.shape[-1]
    cls_B1D = tower.class_token_D.expand(len(pixels_B3HW), 1, -1)
    patches_BPD = maps_BDhw.flatten(2).transpose(1, 2)
    x_BND = tower.norm_before(torch.cat([cls_B1D, patches_BPD], 1) + _positions(tower, grid, reading.positions))
    for block in tower.blocks:
        x_BND = block(x_BND)
    last = tower.last
    q_BSNd, k_BSNd, v_BSNd = (_heads(part, last.heads) for part in last.qkv(last.norm(x_BND)))
    if reading.proxy is not None:
        seen_BPD = last.out(_merged(_by_proxy(v_BSNd[:, :, 1:].unflatten(2, grid), reading.proxy)))
        return tower.finish(seen_BPD).unflatten(1, reading.proxy.features_BhwD.shape[1:3])
    if reading.attention != "maskclip":
        v_BSNd = _weights(q_BSNd, k_BSNd, reading.attention, grid) @ v_BSNd
    seen_BND = last.out(_merged(v_BSNd))
    if reading.attention in ("maskclip", "sclip"):
        seen_BND = x_BND + seen_BND
        seen_BND = seen_BND + last.feed_forward(seen_BND)
    found_BNF = tower.finish(seen_BND)
    if reading.keys:
        found_BNF = torch.cat([found_BNF, last.out(_merged(k_BSNd))], -1)
    return found_BNF[:, 1:].unflatten(1, grid)


@contextmanager
def as_in_mmseg(module: nn.Module) -> Iterator[None]:
    """Meanwhile a tower has GELU where it has QuickGELU, and MMSEG_EPS in its norms.

    Source: chongzhou96/MaskCLIP 245d31f, configs/_base_/models/maskclip_vit16.py:22-23.
    """
    norms = [(norm, norm.eps) for norm in module.modules() if isinstance(norm, nn.LayerNorm)]
    gates = [(parent, name, gate) for parent in module.modules() for name, gate in parent.named_children() if _is_quick_gelu(gate)]
    try:
        for norm, _ in norms:
            norm.eps = MMSEG_EPS
        for parent, name, _ in gates:
            setattr(parent, name, nn.GELU())
        yield
    finally:
        for norm, eps in norms:
            norm.eps = eps
        for parent, name, gate in gates:
            setattr(parent, name, gate)


def _is_quick_gelu(module: nn.Module) -> bool:
    return type(module).__name__ in ("QuickGELU", "QuickGELUActivation")  # of open_clip and of transformers


def _positions(tower: Tower, grid: tuple[int, int], rule: Positions) -> Tensor:
    """[N,D]: CLS and patch positions."""
    if rule == "encoder":
        return tower.resized(grid)
    return dino_positions(tower.positions_ND, grid) if rule == "dino" else bicubic_positions(tower.positions_ND, grid)


def bicubic_positions(table_ND: Tensor, grid: tuple[int, int]) -> Tensor:
    """[N,D]: CLS and patch positions of a square table on another grid: bicubic, without antialiasing.

    Source: chongzhou96/MaskCLIP 245d31f, mmseg/models/backbones/vit.py:389-422.
    """
    side = round((len(table_ND) - 1) ** 0.5)
    if grid[0] * grid[1] == side**2:
        return table_ND
    table_1Dhw = table_ND[1:].float().unflatten(0, (side, side)).permute(2, 0, 1)[None]
    resized_1Dhw = F.interpolate(table_1Dhw, grid, mode="bicubic", align_corners=False)
    return torch.cat([table_ND[:1], resized_1Dhw[0].flatten(1).T.to(table_ND.dtype)])


def dino_positions(table_ND: Tensor, grid: tuple[int, int]) -> Tensor:
    """[N,D]: CLS and patch positions of a square table on another grid: bicubic, without antialiasing, a tenth of a patch off.

    Source: facebookresearch/dino 7c446df, vision_transformer.py:174-194; wangf3014/SCLIP b56bd30, clip/model.py:263-281 has the same.
    """
    side = round((len(table_ND) - 1) ** 0.5)
    if grid == (side, side):
        return table_ND
    table_1Dhw = table_ND[1:].float().unflatten(0, (side, side)).permute(2, 0, 1)[None]
    scale = (grid[0] + 0.1) / side, (grid[1] + 0.1) / side
    resized_1Dhw = F.interpolate(table_1Dhw, scale_factor=scale, mode="bicubic", align_corners=False, recompute_scale_factor=False)
    return torch.cat([table_ND[:1], resized_1Dhw[0].flatten(1).T.to(table_ND.dtype)])


def gaussian(grid: tuple[int, int], device: torch.device) -> Tensor:
    """[1 + P, 1 + P]: exp(-r^2 / 2 std^2) of the distance r of two patches; 0 for CLS."""
    axes = [torch.arange(side, device=device, dtype=torch.float32) for side in grid]
    closeness = [torch.exp(-((axis[:, None] - axis) ** 2) / (2 * GAUSSIAN_STD**2)) for axis in axes]
    return F.pad(torch.kron(*closeness), (1, 0, 1, 0))


def _weights(q_BSNd: Tensor, k_BSNd: Tensor, attention: Attention, grid: tuple[int, int]) -> Tensor:
    """[B,S,N,N] weights of the values."""
    scale = q_BSNd.shape[-1] ** -0.5
    if attention == "naclip":
        return (k_BSNd @ k_BSNd.mT * scale + gaussian(grid, k_BSNd.device).to(k_BSNd.dtype)).softmax(-1)
    weights_BSNN = (q_BSNd @ q_BSNd.mT * scale).softmax(-1)
    return weights_BSNN + (k_BSNd @ k_BSNd.mT * scale).softmax(-1) if attention == "sclip" else weights_BSNN


def _by_proxy(v_BShwd: Tensor, proxy: Proxy) -> Tensor:
    """[B,S,P,d]: the values, brought to the proxy's grid, gathered by the similarities of its patches.

    A patch is always left to itself, so that one whose scores are all negative has a value; the source makes NaN of it.
    """
    unit_BPD = F.normalize(proxy.features_BhwD.float().flatten(1, 2), dim=-1)
    scores_BPP = unit_BPD @ unit_BPD.mT
    scores_BPP = (scores_BPP - proxy.beta * scores_BPP.mean((1, 2), keepdim=True)) * proxy.gamma
    others_PP = ~torch.eye(scores_BPP.shape[1], dtype=torch.bool, device=scores_BPP.device)
    weights_B1PP = scores_BPP.masked_fill((scores_BPP < 0) & others_PP, -torch.inf).softmax(-1)[:, None].to(v_BShwd.dtype)
    heads, size = v_BShwd.shape[1], proxy.features_BhwD.shape[1:3]
    maps = F.interpolate(v_BShwd.flatten(0, 1).permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False)
    return weights_B1PP @ maps.flatten(2).mT.unflatten(0, (-1, heads))


def _heads(x_BND: Tensor, heads: int) -> Tensor:
    return x_BND.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merged(x_BSNd: Tensor) -> Tensor:
    return x_BSNd.transpose(1, 2).flatten(2)
