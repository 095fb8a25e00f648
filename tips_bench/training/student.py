"""What is trained: both towers, the heads and the temperature; and the losses that one piece of a batch gives.

Everything is in one forward pass, so that DDP and FSDP see the parameters used once. The whole and the masked view of the global crop go
through the tower together; where the student's encoder is the teacher's too, the targets are that same whole view.

Axes in tensor names: B images, V whole and masked views (B or 2B), K global tokens, P patches, D feature, M local crops, T texts,
H W pixels, R rows the patch loss is taken on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tips_bench.models.dropping import BlockPaths, Dropout, DropPaths
from tips_bench.models.files.checkpoints import load_text, load_vision
from tips_bench.models.initialization import rescale_narrow, scenic_fill, wave_positions
from tips_bench.models.layers import LayerScale
from tips_bench.models.text import TextTower
from tips_bench.models.vision import VisionTower
from tips_bench.training.heads import ProjectionHead
from tips_bench.training.pieces import GroupedTexts, MicroBatch
from tips_bench.training.prototypes import Center, Temperatures, prototype_loss
from tips_bench.training.recipe import BeginningPart, Recipe
from tips_bench.training.teacher import PATCHES, SELF_DISTILLATION, Target, Teacher, make_heads

CONTRASTIVE = "contrastive"
# Of the seeds of parts whose parameters bear the same names.
_TEXT_SEED, _HEAD_SEED = 1_000_003, 2_000_003
# Views of an image, which skip branches of their own.
_WHOLE, _MASKED, _FIRST_LOCAL = 0, 1, 2


@dataclass(frozen=True)
class Lesson:
    """What the teacher has to say on a piece. target: None where the student's own whole view is it."""

    teacher: Teacher
    temperatures: dict[str, Temperatures] = field(default_factory=dict)
    target: Target | None = None


class Student(nn.Module):
    """Towers, heads and temperature of a recipe. What the recipe has no use for is kept, and not trained."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        method, vision = recipe.method, recipe.model.vision_config
        self.method, self.model, self.seed = method, recipe.model, recipe.seed
        self.vision = VisionTower(vision)
        self.text = TextTower(recipe.model.text_config)
        self.heads = make_heads(method, vision.embed_dim)
        contrastive = method.contrastive
        # of one axis, since FSDP cannot cut up a number
        self.log_temperature = nn.Parameter(torch.tensor([math.log(contrastive.temperature if contrastive else 1.0)]))
        self.shares_encoder = method.teacher is not None and method.teacher.kind == "ema-heads"
        self.text.requires_grad_(contrastive is not None)
        self.log_temperature.requires_grad_(contrastive is not None)
        dropout = recipe.model.dropout
        self.paths = DropPaths(recipe.seed, depth=vision.depth, rate=dropout.path, growth=dropout.path_growth)
        for module in self.vision.modules():
            if isinstance(module, LayerScale):
                module.requires_grad_(recipe.model.layer_scale == "trained")
        self.vision.mask_token.requires_grad_(method.patches is not None and method.patches.mask is not None)

    def init_weights(self, seed: int) -> None:
        """Sets every parameter: from the seed, or a tower's from where the recipe begins.

        Errors: weights that do not fit the recipe's towers.
        """
        self.vision.init_weights(seed)
        self.text.init_weights(seed + _TEXT_SEED)
        if self.model.initial == "scenic":
            scenic_fill(self.vision, self.text, seed)
        if self.model.initial == "narrow":
            rescale_narrow(self.vision, self.text)
        if self.model.positions == "window":
            wave_positions(self.vision)
        for index, head in enumerate(self.heads.values()):
            cast(ProjectionHead, head).init_weights(seed + _HEAD_SEED + index)
        self._begin(self.model.begin)

    @torch.no_grad()
    def _begin(self, begin: BeginningPart) -> None:
        if begin.vision is not None:
            self.vision.load_state_dict(load_vision(begin.vision, self.vision.config).state_dict())
        if begin.text is not None:
            text = load_text(begin.text, self.text.config)
            self.text.load_state_dict(text.state_dict())
            if text.temperature is not None:
                self.log_temperature.fill_(math.log(text.temperature))

    def blocks(self) -> Iterator[nn.Module]:
        """The transformer blocks of both towers: the units of FSDP, of checkpointing and of compilation."""
        yield from self.vision.blocks
        yield from self.text.blocks

    @property
    def masked_patches_alone(self) -> bool:
        """Whether the patch loss is iBOT's, on masked patches, and not iBOT++'s, on all."""
        return self.method.patches is not None and self.method.patches.patches == "masked"

    @property
    def temperature(self) -> Tensor:
        """What cosines are divided by."""
        return self.log_temperature.exp().sum()  # of its one number: FSDP warns of what is returned as a view

    def forward(self, piece: MicroBatch, lesson: Lesson | None, *, embed_only: bool = False) -> dict[str, Tensor]:
        """Embeddings "image_KBD" and "text_KBD" of unit length with "temperature", if there is a contrastive loss; and the other losses.

        embed_only: nothing but the embeddings. After `eval()`, nothing is dropped.
        """
        out: dict[str, Tensor] = {}
        unmasked, masked = self._global_views(piece, embed_only)
        if self.method.contrastive is not None:
            if piece.texts is None:
                raise ValueError("the contrastive loss needs captions")
            out["image_KBD"] = F.normalize(_wide(unmasked.globals_BKD[:, : piece.texts.tokens].transpose(0, 1)), dim=-1)
            out["text_KBD"] = F.normalize(_wide(self._encode_texts(piece.texts)), dim=-1)
            out["temperature"] = self.temperature
        if embed_only or lesson is None:
            return out
        if lesson.target is None and not self.shares_encoder:
            raise ValueError("a teacher with an encoder of its own has given no target")
        target = lesson.target or unmasked
        if self.method.self_distillation is not None:
            out[SELF_DISTILLATION] = self._self_distillation(piece, target, lesson, self.method.self_distillation.token)
        if self.method.patches is not None:
            out[PATCHES] = self._patch_loss(piece, masked, target, lesson)
        return out

    def _global_views(self, piece: MicroBatch, embed_only: bool) -> tuple[Target, Target]:
        """The global crops seen whole and masked; both are the same where only one of them is needed."""
        pixels_B3HW, mask_BP, window_B2 = piece.global_B3HW, None if embed_only else piece.mask_BP, piece.window_B2
        need_whole = self.method.contrastive is not None or self.shares_encoder or mask_BP is None
        if mask_BP is None:
            return (self._see(pixels_B3HW, None, window_B2, piece.samples_B, [_WHOLE]),) * 2
        if not need_whole:
            return (self._see(pixels_B3HW, mask_BP, window_B2, piece.samples_B, [_MASKED]),) * 2
        windows_V2 = None if window_B2 is None else torch.cat([window_B2, window_B2])
        masks_VP = torch.cat([torch.zeros_like(mask_BP), mask_BP])
        both = self._see(pixels_B3HW, masks_VP, windows_V2, piece.samples_B, [_WHOLE, _MASKED])
        (whole_BKD, masked_BKD), (whole_BPD, masked_BPD) = both.globals_BKD.chunk(2), both.patches_BPD.chunk(2)
        return Target(whole_BKD, whole_BPD), Target(masked_BKD, masked_BPD)

    def _see(self, pixels_B3HW: Tensor, mask_VP: Tensor | None, windows_V2: Tensor | None, samples_B: Tensor, views: list[int]) -> Target:
        """views: of which `mask_VP` has the masks of all samples, one view after the other; each skips other branches."""
        paths = self._paths(samples_B, views, pixels_B3HW.device)
        seen = self.vision(pixels_B3HW, mask_BP=mask_VP, windows_B2=windows_V2, paths=paths)
        return Target(seen.globals_BKD, seen.patches[0].flatten(1, 2))

    def _paths(self, samples_B: Tensor, views: list[int], device: torch.device) -> list[BlockPaths | None] | None:
        return self.paths.plan(samples_B, views, device) if self.training else None

    def _text_dropout(self, numbers_T: Tensor, device: torch.device) -> Dropout | None:
        return Dropout.of_texts(self.seed, numbers_T, rate=self.model.dropout.text, device=device) if self.training else None

    def _encode_texts(self, texts: GroupedTexts) -> Tensor:
        """[K,B,D]"""
        device = texts.order_T.device
        text_TD = torch.cat(
            [
                self.text.encode(part.ids_BL, part.paddings_BL, self._text_dropout(numbers_T, device))
                for part, numbers_T in zip(texts.groups, texts.numbers, strict=True)
            ]
        )
        return text_TD[texts.order_T].unflatten(0, (texts.tokens, -1))

    def _self_distillation(self, piece: MicroBatch, target: Target, lesson: Lesson, token: int) -> Tensor:
        crops_V3HW, windows_V2 = torch.cat(piece.locals), torch.cat(piece.windows[1:]) if piece.windows else None
        views = [_FIRST_LOCAL + index for index in range(len(piece.locals))]
        paths = self._paths(piece.samples_B, views, crops_V3HW.device)
        seen = self.vision(crops_V3HW, layers=(), windows_B2=windows_V2, paths=paths)
        view_BMD = seen.globals_BKD[:, token].unflatten(0, (len(piece.locals), -1)).transpose(0, 1)
        return self._teach(SELF_DISTILLATION, view_BMD, target.globals_BKD[:, token], lesson, None)

    def _patch_loss(self, piece: MicroBatch, seen: Target, target: Target, lesson: Lesson) -> Tensor:
        """iBOT's loss on the masked patches, or iBOT++'s on all; every image counts alike."""
        view_RD, target_RD, weight_R = seen.patches_BPD.flatten(0, 1), target.patches_BPD.flatten(0, 1), None
        if self.masked_patches_alone:
            if piece.mask_rows_R is None or piece.mask_BP is None:
                raise ValueError("the loss of masked patches needs crops with a mask")
            rows_R, counts_B = piece.mask_rows_R, piece.mask_BP.sum(dim=1)
            view_RD, target_RD = view_RD[rows_R], target_RD[rows_R]
            weight_R = 1 / (len(counts_B) * counts_B[rows_R // piece.mask_BP.shape[1]].to(view_RD.dtype))
        return self._teach(PATCHES, view_RD[:, None], target_RD, lesson, weight_R)

    def _teach(self, name: str, view_NMD: Tensor, target_ND: Tensor, lesson: Lesson, weight_N: Tensor | None) -> Tensor:
        head, teacher = cast(ProjectionHead, self.heads[name]), cast(ProjectionHead, lesson.teacher.heads[name])
        center = cast(Center, lesson.teacher.centers[name])
        with torch.no_grad():
            target_NE, target_weight_CE = teacher(target_ND), teacher.weight_CE
        return prototype_loss(head(view_NMD), head.weight_CE, target_NE, target_weight_CE, center, lesson.temperatures[name], weight_N)


def checkpoint_activations(block: nn.Module) -> None:
    """Lets a block keep its input alone, and run again when gradients come back."""
    plain = block.forward

    def forward(*args: Any) -> Tensor:
        return checkpoint(plain, *args, use_reentrant=False)

    block.forward = forward


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.bfloat16 else x
