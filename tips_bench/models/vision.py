"""The TIPS image tower: a ViT with two global tokens and LayerScale.

Architecture: google-deepmind/tips, pytorch/image_encoder.py. Tokens are ordered [CLS, register-style global tokens, patches]; CLS
and patches get a position embedding. Positions are interpolated bilinearly, with antialiasing and without an offset.

Axes in tensor names: B batch, K global tokens, P = h w patches, N = K + P tokens, D feature, H W pixels, h w patch grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tips_bench.errors import UserError
from tips_bench.models import cpu
from tips_bench.models.configs import VisionConfig
from tips_bench.models.dropping import BlockPaths
from tips_bench.models.initialization import SeededTower
from tips_bench.models.layers import Block, Mlp, SwiGlu


@dataclass(frozen=True)
class VisionOutput:
    """What an image tower saw.

    globals_BKD: global tokens of the last block after the final norm.
    patches: [B,h,w,D] for each layer asked for; views, not copies.
    layer_globals: [B,K,D] for each layer asked for, normed like the patches.
    value_patches_BhwD: the value path of the last block after the final norm, if asked for.
    """

    globals_BKD: Tensor
    patches: list[Tensor]
    layer_globals: list[Tensor]
    value_patches_BhwD: Tensor | None


class PatchEmbed(nn.Module):
    """Cuts an image into patches and maps each linearly. The weight has the shape of a convolution, as in every file format."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """[B,P,D], rows of patches first."""
        return self.proj(pixels_B3HW).flatten(2).transpose(1, 2)


class VisionTower(SeededTower[VisionConfig]):
    """Pixels, already normalised as the model wants them (TIPS: in [0,1], mean 0, std 1), to global tokens and patch features."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__(config)
        dim, grid = config.embed_dim, config.position_grid
        self.patch_embed = PatchEmbed(config.patch_size, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.num_global_tokens - 1, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid[0] * grid[1], dim))
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self._packed: list[cpu.PackedBlock] | None = None
        self._positions: dict[tuple, Tensor] = {}

    def init_weights(self, seed: int) -> None:
        """Sets every parameter from the seed: the same values on any device and in any process."""
        self.unpack()
        super().init_weights(seed)

    def forward(
        self,
        pixels_B3HW: Tensor,
        *,
        layers: Sequence[int] = (-1,),
        norm: bool = True,
        values: bool = False,
        mask_BP: Tensor | None = None,
        windows_B2: Tensor | None = None,
        paths: Sequence[BlockPaths | None] | None = None,
    ) -> VisionOutput:
        """Runs all blocks.

        layers: blocks whose patch features are wanted; negative ones count from the end.
        norm: apply the final norm to them, to intermediate blocks too (as google-deepmind/tips does).
        values: also give the value path of the last block, the features that TIPS compares with text
            (google-deepmind/tips, pytorch/TIPS_zeroshot_segmentation.ipynb).
        mask_BP: bool, True where a patch is replaced by the mask token, before positions are added. Of several masks for each image, [V,P]
            with V = n B, the first B are those of all images, and so on: images are embedded once and seen n times, [V,...].
        windows_B2: int64, the row and the column of the table of positions at which each image's first patch stands, as if it had been
            cut from an image of the table's size, into which it must fit (not checked); None: the whole table, at the image's grid.
        paths: what each block keeps of its branches, for training (`models.dropping`); None: all.
        """
        grid = self._checked_grid(pixels_B3HW)
        wanted = self._block_indices(layers)
        blocks, last = self._runnable_blocks(pixels_B3HW, plain=paths is not None), self.config.depth - 1
        x_BND, value_BND, kept = self._embed(pixels_B3HW, grid, mask_BP, windows_B2), None, {}
        for index, block in enumerate(blocks):
            if values and index == last:
                x_BND, value_BND = block.with_values(x_BND)
            elif paths is not None and isinstance(block, Block):
                x_BND = block(x_BND, None, paths[index])
            else:
                x_BND = block(x_BND)
            if index in wanted:
                kept[index] = x_BND
        return self._output(x_BND, value_BND, [kept[index] for index in wanted], grid, norm)

    def _output(
        self, last_BND: Tensor, value_BND: Tensor | None, layers_BND: list[Tensor], grid: tuple[int, int], norm: bool
    ) -> VisionOutput:
        count = self.config.num_global_tokens
        # The last layer is the one most often asked for; it is normed whole and once, others need only its global tokens.
        last_wanted = norm and any(layer is last_BND for layer in layers_BND)
        normed_BND = self.norm(last_BND if last_wanted else last_BND[:, :count])
        if norm:
            layers_BND = [normed_BND if layer is last_BND else self.norm(layer) for layer in layers_BND]
        return VisionOutput(
            globals_BKD=normed_BND[:, :count],
            patches=[layer[:, count:].unflatten(1, grid) for layer in layers_BND],
            layer_globals=[layer[:, :count] for layer in layers_BND],
            value_patches_BhwD=None if value_BND is None else self.norm(value_BND[:, count:]).unflatten(1, grid),
        )

    def _embed(self, pixels_B3HW: Tensor, grid: tuple[int, int], mask_BP: Tensor | None, windows_B2: Tensor | None = None) -> Tensor:
        x_BPD = self.patch_embed(pixels_B3HW.to(self.patch_embed.proj.weight.dtype))
        if mask_BP is not None:
            self._check_mask(mask_BP, x_BPD)
            masks_nBP1 = mask_BP.unflatten(0, (-1, len(x_BPD)))[..., None]
            x_BPD = torch.where(masks_nBP1, self.mask_token.to(x_BPD.dtype), x_BPD).flatten(0, 1)
        batch = len(x_BPD)
        cls_11D = self.cls_token + self.pos_embed[:, :1]
        positions = self._grid_positions(grid) if windows_B2 is None else self._window_positions(grid, windows_B2)
        return torch.cat([cls_11D.expand(batch, -1, -1), self.register_tokens.expand(batch, -1, -1), x_BPD + positions], dim=1)

    def _grid_positions(self, grid: tuple[int, int]) -> Tensor:
        """[1,P,D]: the patches' position embeddings at this grid; remembered in inference mode, where an encoder is frozen."""
        table_1PD = self.pos_embed[:, 1:]
        if grid == self.config.position_grid:
            return table_1PD
        # Not wherever gradients are off: FSDP puts a parameter together at an old address without counting a version.
        if not torch.is_inference_mode_enabled() or self.pos_embed.is_inference():
            return interpolate_positions(table_1PD, self.config.position_grid, grid)
        # The version counts changes of the weights in place.
        key = (grid, self.pos_embed.data_ptr(), self.pos_embed._version)
        if key not in self._positions:
            self._positions = {k: v for k, v in self._positions.items() if k[1:] == key[1:]}
            self._positions[key] = interpolate_positions(table_1PD, self.config.position_grid, grid)
        return self._positions[key]

    def _window_positions(self, grid: tuple[int, int], windows_B2: Tensor) -> Tensor:
        """[B,P,D]: the positions of a window of the table for each image, row by row."""
        columns = self.config.position_grid[1]
        rows, across = (torch.arange(side, device=windows_B2.device) for side in grid)
        steps_P = (rows[:, None] * columns + across).flatten()
        first_B = windows_B2[:, 0] * columns + windows_B2[:, 1]
        return F.embedding(first_B[:, None] + steps_P, self.pos_embed[0, 1:])

    def pack(self) -> bool:
        """Prepares frozen weights for faster inference on a CPU (see `models.cpu`); returns whether that is possible here.

        The tower's own weights stay as they are. Until `unpack`, changes to them in place are not seen; `train`, `to` and
        `load_state_dict` unpack by themselves, and a forward pass with gradients or autocast goes the plain way.
        """
        self._packed = None
        if all(cpu.can_pack(block) for block in self._plain_blocks()):
            with torch.no_grad():
                self._packed = [cpu.PackedBlock(block) for block in self._plain_blocks()]
        return self._packed is not None

    def unpack(self) -> None:
        """Undoes `pack`."""
        self._packed = None

    def train(self, mode: bool = True) -> Self:
        if mode:
            self.unpack()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.unpack()
        self._positions = {}
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self.unpack()
        self._positions = {}
        super()._load_from_state_dict(*args, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_packed": None, "_positions": {}}

    def _plain_blocks(self) -> Sequence[Block]:
        return cast("Sequence[Block]", self.blocks)

    def _runnable_blocks(self, pixels_B3HW: Tensor, *, plain: bool) -> Sequence[Block | cpu.PackedBlock]:
        if plain or self._packed is None or torch.is_grad_enabled() or torch.is_autocast_enabled(pixels_B3HW.device.type):
            return self._plain_blocks()
        return self._packed

    def _checked_grid(self, pixels_B3HW: Tensor) -> tuple[int, int]:
        patch = self.config.patch_size
        if pixels_B3HW.ndim != 4 or pixels_B3HW.shape[1] != 3:
            raise UserError(f"pixels have the shape {tuple(pixels_B3HW.shape)}", where=self._where(), fix="Give [B, 3, H, W].")
        height, width = pixels_B3HW.shape[-2:]
        if height % patch or width % patch or not height or not width:
            raise UserError(
                f"an image of {height} x {width} pixels is not a whole number of patches of {patch}",
                where=self._where(),
                fix="Pad or resize it first.",
            )
        return height // patch, width // patch

    def _check_mask(self, mask_BP: Tensor, x_BPD: Tensor) -> None:
        batch, patches = x_BPD.shape[:2]
        if mask_BP.dtype != torch.bool or mask_BP.ndim != 2 or mask_BP.shape[1] != patches or not len(mask_BP) or len(mask_BP) % batch:
            raise UserError(
                f"the mask is {mask_BP.dtype} of shape {tuple(mask_BP.shape)}",
                where=self._where(),
                fix=f"Give booleans of shape {(batch, patches)}, True where a patch is hidden.",
            )

    def _block_indices(self, layers: Sequence[int]) -> list[int]:
        depth = self.config.depth
        if bad := [layer for layer in layers if not -depth <= layer < depth]:
            problem = f"layers = {list(layers)}: there is no block {bad[0]}, the tower has {depth}"
            raise UserError(problem, where=self._where(), fix=f"Use 0-{depth - 1}.")
        return [layer % depth for layer in layers]

    def _where(self) -> str:
        return f"image tower {self.config.name!r}"


def _block(config: VisionConfig) -> Block:
    if config.ffn == "swiglu":
        ffn: nn.Module = SwiGlu(config.embed_dim, config.mlp_dim)
    else:
        ffn = Mlp(config.embed_dim, config.mlp_dim, activation=f"gelu-{config.gelu}")
    return Block(config.embed_dim, config.num_heads, ffn, eps=config.layer_norm_eps, init_values=config.init_values)


def interpolate_positions(table_1PD: Tensor, table_grid: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Position embeddings of a table's grid, resampled to another grid in float32: bilinear, antialiased, no offset."""
    table_1Dhw = table_1PD.unflatten(1, table_grid).permute(0, 3, 1, 2).float()
    resized_1Dhw = F.interpolate(table_1Dhw, size=grid, mode="bilinear", align_corners=False, antialias=True)
    return resized_1Dhw.permute(0, 2, 3, 1).flatten(1, 2).to(table_1PD.dtype)
