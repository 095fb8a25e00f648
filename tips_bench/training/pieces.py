"""A piece of a batch as one forward pass takes it, on the device.

All that depends on values (how long texts are, which patches are masked) is found out here, on the CPU, where the small parts of a batch
lie: the device is never waited for.

Axes in tensor names: B images, P patches, T texts of all global tokens, L tokens of a text, H W pixels, R masked patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tips_bench.models.text import trim
from tips_bench.training.batches import Batch, Texts, send

# Lengths of texts are rounded up to it: libraries keep memory for each shape they have met.
_TEXT_MULTIPLE = 4


@dataclass(frozen=True)
class GroupedTexts:
    """The texts of all global tokens, those of like length together, so that few are padded to the length of a longer one.

    groups: each as long as its longest text. numbers: of the texts of each group among all of the run, on the CPU.
    order_T: where each text is among those of all groups. tokens: global tokens with a text.
    """

    groups: list[Texts]
    numbers: list[Tensor]
    order_T: Tensor
    tokens: int


@dataclass(frozen=True)
class MicroBatch:
    """Some images of a batch, on the device.

    texts: None where the recipe has no contrastive loss. mask_rows_R: of all patches in a row, those that are masked.
    samples_B: as of a batch, on the CPU.
    """

    global_B3HW: Tensor
    locals: list[Tensor]
    texts: GroupedTexts | None
    mask_BP: Tensor | None
    mask_rows_R: Tensor | None
    windows: list[Tensor]
    samples_B: Tensor

    @property
    def window_B2(self) -> Tensor | None:
        """Where the global crop stands among the positions."""
        return self.windows[0] if self.windows else None


def make_piece(batch: Batch, rows: slice, text_groups: int, device: torch.device) -> MicroBatch:
    """The images of some rows of a batch. text_groups: forward passes of the text tower."""

    mask_BP = None if batch.mask_BP is None else batch.mask_BP[rows]
    texts = [Texts(part.ids_BL[rows], part.paddings_BL[rows]) for part in batch.texts]
    return MicroBatch(
        _pixels(send(batch.global_B3HW[rows], device)),
        [_pixels(send(crop[rows], device)) for crop in batch.locals],
        _grouped(texts, batch.samples_B[rows], text_groups, device) if texts else None,
        None if mask_BP is None else send(mask_BP, device),
        None if mask_BP is None else send(mask_BP.flatten().nonzero().squeeze(1), device),
        [send(window_B2[rows], device) for window_B2 in batch.windows],
        batch.samples_B[rows],
    )


def _grouped(texts: list[Texts], samples_B: Tensor, groups: int, device: torch.device) -> GroupedTexts:
    ids_TL, paddings_TL = torch.cat([part.ids_BL for part in texts]), torch.cat([part.paddings_BL for part in texts])
    numbers_T = torch.cat([samples_B * len(texts) + token for token in range(len(texts))])
    order_T = paddings_TL.sum(dim=1).argsort(stable=True)
    chunks = order_T.chunk(groups)
    trimmed = [trim(ids_TL[rows], paddings_TL[rows], multiple=_TEXT_MULTIPLE) for rows in chunks]
    sent = [Texts(send(ids, device), send(paddings, device)) for ids, paddings in trimmed]
    return GroupedTexts(sent, [numbers_T[rows] for rows in chunks], send(order_T.argsort(), device), len(texts))


def _pixels(image_B3HW: Tensor) -> Tensor:
    """uint8 as float32 in [0, 1]; what is floating point already stays as it is."""
    return image_B3HW if image_B3HW.is_floating_point() else image_B3HW.to(torch.float32).div_(255)
