"""How large one stage of a recipe is on one rank: images, views, tokens and parameters. Nothing of it is made; parameters are only counted.

Letters: P patches, N tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tips_bench.models.configs import TextConfig, VisionConfig
from tips_bench.training.distributed import ranks_of_a_copy
from tips_bench.training.optim import is_hidden
from tips_bench.training.rank_counts import images_of_a_rank
from tips_bench.training.recipe import Recipe, StagePart
from tips_bench.training.runs import recipe_of_teacher
from tips_bench.training.student import Student
from tips_bench.training.teacher import parts_with_heads

WIDE = 4
"""Bytes of a float32."""
MACHINE_RANKS = 8
"""GPUs of one machine, as most have that are made for training; with hsdp, a plan without `shard_ranks` assumes it."""


@dataclass(frozen=True)
class TowerPass:
    """One use of a tower in a piece. rows: images or texts that go through it. groups: passes that they are divided among."""

    name: str
    config: VisionConfig | TextConfig
    rows: float
    tokens: int
    groups: int = 1

    @property
    def is_text(self) -> bool:
        """Whether it reads captions."""
        return isinstance(self.config, TextConfig)


class StageSizes:
    """Of one stage on one of `ranks`. cut: ranks that hold the parameters together. on_cpu: the ranks are on CPUs, not on GPUs.

    taught: in a step with all losses of the recipe; otherwise in one before the teacher starts, with the contrastive loss alone.
    A frozen teacher is as large as its run or the recipe of that name says, else it is taken to be as large as the student.
    Errors: a batch that the ranks cannot share; ranks that cannot be divided into the groups of hsdp.
    """

    def __init__(self, recipe: Recipe, stage: StagePart, ranks: int, *, on_cpu: bool = False, taught: bool = True) -> None:
        self.images = images_of_a_rank(recipe, stage, ranks)
        self.recipe, self.stage, self.ranks = recipe, stage, ranks
        self.running, self.method = recipe.running, recipe.method
        self.vision, self.text = recipe.model.vision_config, recipe.model.text_config
        self.piece = min(self.images, self.running.micro_batch or self.images)
        self.pieces = -(-self.images // self.piece)
        self.bytes = 2 if self.running.precision == "bf16" else WIDE
        self.sent = WIDE if on_cpu else self.bytes  # of a value of a block that FSDP puts together
        self.fused = not on_cpu or self.bytes == WIDE  # attention keeps no weights
        self.cut = ranks_of_a_copy(self.running, ranks, machine=MACHINE_RANKS)
        self.taught_parts = parts_with_heads(self.method) if taught else {}
        masked = taught and self.method.patches is not None and self.method.patches.mask is not None
        shared = self.method.teacher is not None and self.method.teacher.kind == "ema-heads"
        self.whole_views = 1 if self.method.contrastive is not None or shared or not masked else 0
        self.views = self.whole_views + masked
        self.locals_seen = recipe.local_count if taught else 0
        self.captions = len(self.method.contrastive.captions) if self.method.contrastive else 0
        student = _unmade(recipe)
        self.parameters = _sizes(student)
        theirs = recipe_of_teacher(recipe)
        self.teacher_parameters = self.parameters if theirs is None else _sizes(_unmade(theirs))
        self.teacher_vision = (theirs or recipe).model.vision_config
        self.teacher_heads = {name: part.head for name, part in parts_with_heads((theirs or recipe).method).items()}
        trained = [(name, parameter) for name, parameter in student.named_parameters() if parameter.requires_grad]
        hidden = [parameter.numel() for name, parameter in trained if is_hidden(name, parameter)]
        self.hidden, self.largest_hidden = sum(hidden), max(hidden)  # matrices of blocks
        self.trained = sum(parameter.numel() for _, parameter in trained)
        self.unused = 0 if taught else self.parameters_in("heads.")  # no loss gives them a gradient

    def parameters_in(self, prefix: str, part: str = "") -> int:
        """Parameters whose name begins so and contains `part`."""
        return sum(size for name, size in self.parameters.items() if name.startswith(prefix) and part in name)

    @property
    def teacher_encodes(self) -> bool:
        """Whether the teacher has an encoder of its own."""
        return self.method.teacher is not None and self.method.teacher.kind != "ema-heads"

    @property
    def teacher_sees(self) -> bool:
        """Whether that encoder sees the images of the step."""
        return self.teacher_encodes and bool(self.taught_parts)

    def teacher_in(self, prefix: str) -> int:
        """Parameters of the teacher's model whose name begins so."""
        return sum(size for name, size in self.teacher_parameters.items() if name.startswith(prefix))

    @property
    def multiplied(self) -> int:
        """Parameters of linear maps, which autocast copies to bfloat16. Prototypes and embeddings stay in float32.

        Those of blocks come in bfloat16 with FSDP on a GPU, and are not copied.
        """
        heads = self.parameters_in("heads.", ".layers.") if self.taught_parts else 0
        return heads + (self.in_blocks if self.copies_blocks else 0)

    @property
    def copies_blocks(self) -> bool:
        """Whether autocast copies what is in blocks."""
        return self.cut == 1 or self.sent > self.bytes

    @property
    def everything(self) -> int:
        """Parameters."""
        return sum(self.parameters.values())

    @property
    def in_blocks(self) -> int:
        """Parameters of all blocks."""
        return self.parameters_in("", ".blocks.")

    @property
    def outside_blocks(self) -> int:
        """Parameters of no block, which FSDP puts together for a whole step."""
        return self.everything - self.in_blocks

    @property
    def block_parameters(self) -> int:
        """Of the largest block."""
        return max(self.parameters_in(prefix) for prefix in ("vision.blocks.0.", "text.blocks.0."))

    def tokens(self, px: int) -> int:
        """N of an image of so many pixels a side."""
        return _tokens(self.vision, px)

    @property
    def teacher_tokens(self) -> int:
        """N of a global crop in the teacher."""
        return _tokens(self.teacher_vision, self.stage.global_px)

    def global_pass(self) -> TowerPass:
        """The whole and the masked views of the global crops."""
        return TowerPass("global crops", self.vision, self.piece * self.views, self.tokens(self.stage.global_px))

    def passes(self) -> list[TowerPass]:
        """Of the student, in the order of its forward pass."""
        found = [self.global_pass()]
        if self.captions:
            texts = self.piece * self.captions
            found.append(TowerPass("texts", self.text, texts, self.recipe.data.max_tokens, self.running.text_groups))
        if self.locals_seen:
            rows = self.piece * self.locals_seen
            found.append(TowerPass("local crops", self.vision, rows, self.tokens(self.stage.local_px)))
        return found

    def heads(self) -> list[tuple[int, int, Any]]:
        """(rows of a piece, views of a row, part of the recipe) of each loss over prototypes, in the order of the forward pass."""
        patches = self.tokens(self.stage.global_px) - self.vision.num_global_tokens
        found = []
        for name, part in self.taught_parts.items():
            rows, views = (1, self.locals_seen) if name == "self_distillation" else (patches, 1)
            if name == "patches" and part.patches == "masked":
                rows = round(part.mask.ratio * patches)
            found.append((self.piece * rows, views, part))
        return found


def _unmade(recipe: Recipe) -> Student:
    with torch.device("meta"):
        return Student(recipe)


def _sizes(model: Student) -> dict[str, int]:
    return {name: parameter.numel() for name, parameter in model.named_parameters()}


def _tokens(vision: VisionConfig, px: int) -> int:
    return (px // vision.patch_size) ** 2 + vision.num_global_tokens
