"""What a recipe needs before anything of it runs: memory of a rank and floating-point operations, stage by stage.

    tips-bench train recipes/tipsv2-g14.yaml --dry-run --ranks 256 --device h100

Formulas, from the sizes of the towers. What a block keeps for its backward pass was read from autograd: for each token two residual
sums in float32, and in the precision of the run the inputs of its maps, queries, keys, values and their mean, the hidden features before
and after their activation, and what LayerScale multiplies. Not counted: what the driver and libraries take, what the
allocator loses, and the numbers that dropout draws. Captions are taken as long as data.max_tokens allows, which is more than most have.

Letters: B images of a piece on a rank, D width, M hidden width, P patches, N tokens, C prototypes, E bottleneck; sizes in bytes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch

from tips_bench.errors import UserError
from tips_bench.models.configs import TextConfig, VisionConfig
from tips_bench.training.prototypes import PIECE_VALUES
from tips_bench.training.recipe import AdamWPart, HeadPart, Recipe, StagePart
from tips_bench.training.student import Student
from tips_bench.training.teacher import parts_with_heads

_WIDE = 4  # bytes of a float32


@dataclass(frozen=True)
class Machine:
    """A GPU. peak: dense bfloat16 operations a second; memory: bytes. By their makers' data sheets."""

    peak: float
    memory: float


MACHINES = {
    "a100": Machine(312e12, 80e9),
    "h100": Machine(989e12, 80e9),
    "h200": Machine(989e12, 141e9),
    "b200": Machine(2250e12, 180e9),
}
SHARE = 0.4
"""Of a GPU's peak that a run is assumed to reach: large transformers are reported between 0.3 and 0.5."""


@dataclass(frozen=True)
class StageEstimate:
    """A stage on one rank. memory: part -> bytes that are held at the same time in its fullest moment. operations: of a step, all ranks."""

    name: str
    steps: int
    images: int
    pieces: int
    memory: dict[str, float]
    operations: float

    @property
    def peak(self) -> float:
        """Bytes in the fullest moment."""
        return sum(self.memory.values())

    def days(self, ranks: int, machine: Machine, share: float = SHARE) -> float:
        """Of the whole stage."""
        return self.steps * self.operations / (ranks * machine.peak * share) / 86400


def estimate(recipe: Recipe, ranks: int, *, fused_attention: bool = True) -> list[StageEstimate]:
    """Every stage of a recipe. fused_attention: as on a GPU; on a CPU in bfloat16, attention keeps its weights.

    Errors: a batch that the ranks cannot share.
    """
    return [_Stage(recipe, stage, ranks, fused_attention).estimate() for stage in recipe.stages]


class _Stage:
    """The sizes of one stage."""

    def __init__(self, recipe: Recipe, stage: StagePart, ranks: int, fused_attention: bool) -> None:
        if stage.batch % ranks:
            fix = "Use a number of ranks that divides the batch."
            raise UserError(f"batch = {stage.batch} cannot be divided equally among {ranks} ranks", where=f"stage {stage.name!r}", fix=fix)
        self.recipe, self.stage, self.ranks, self.fused = recipe, stage, ranks, fused_attention
        self.running, self.method = recipe.running, recipe.method
        self.vision, self.text = recipe.model.vision_config, recipe.model.text_config
        self.images = stage.batch // ranks
        self.piece = min(self.images, self.running.micro_batch or self.images)
        self.pieces = -(-self.images // self.piece)
        self.bytes = 2 if self.running.precision == "bf16" else _WIDE
        self.cut = ranks if ranks > 1 and self.running.parallel == "fsdp" else 1
        masked = self.method.patches is not None and self.method.patches.mask is not None
        shared = self.method.teacher is not None and self.method.teacher.kind == "ema-heads"
        self.whole_views = 1 if self.method.contrastive is not None or shared or not masked else 0
        self.views = self.whole_views + masked
        self.captions = len(self.method.contrastive.captions) if self.method.contrastive else 0
        with torch.device("meta"):
            student = Student(recipe)
        self.sizes = {name: parameter.numel() for name, parameter in student.named_parameters()}
        self.trained = sum(parameter.numel() for parameter in student.parameters() if parameter.requires_grad)

    def estimate(self) -> StageEstimate:
        held = {"weights": self._weights(), "optimizer": self._optimizer(), "teacher": self._teacher(), "images": self._images()}
        gradients, passing = self._gradients(), self._activations()
        # In one piece, gradients come as activations go. In several, the gradients of earlier pieces are there already.
        if self.pieces == 1 and gradients > passing:
            passing = 0.0
        elif self.pieces == 1:
            gradients = 0.0
        return StageEstimate(
            self.stage.name,
            self.stage.steps,
            self.images,
            self.pieces,
            {**held, "gradients": gradients, "activations": passing, "one block and losses": self._working()},
            self._operations(),
        )

    def _weights(self) -> float:
        """float32 on this rank; beside them what is put together, or what autocast keeps in bfloat16."""
        total = sum(self.sizes.values())
        if self.cut > 1:
            blocks = sum(size for name, size in self.sizes.items() if ".blocks." in name)
            largest = max(self._block_size(prefix) for prefix in ("vision.blocks.0.", "text.blocks.0."))
            return _WIDE * (total / self.cut + total - blocks) + 2 * self.bytes * largest
        return _WIDE * total + (self.bytes * total if self.bytes < _WIDE else 0)

    def _block_size(self, prefix: str) -> int:
        return sum(size for name, size in self.sizes.items() if name.startswith(prefix))

    def _optimizer(self) -> float:
        rule = self.recipe.optimizer.rule
        if isinstance(rule, AdamWPart):
            return 2 * _WIDE * self.trained / self.cut
        return (2 * self.trained if rule.beta1 is not None else 0) / self.cut

    def _teacher(self) -> float:
        part = self.method.teacher
        if part is None:
            return 0.0
        heads = sum(size for name, size in self.sizes.items() if name.startswith("heads."))
        tower = sum(size for name, size in self.sizes.items() if name.startswith("vision."))
        # a frozen teacher is a larger model, whose size only its run knows; it is taken as large as the student
        return _WIDE * (heads + (tower / self.cut if part.kind != "ema-heads" else 0))

    def _images(self) -> float:
        """The batch of this rank, as bytes."""
        return 3.0 * self.images * (self.stage.global_px**2 + self.recipe.local_count * self.stage.local_px**2)

    def _gradients(self) -> float:
        """FSDP keeps them whole until the last of several pieces."""
        return _WIDE * self.trained / (self.cut if self.pieces == 1 else 1)

    def _tokens(self, px: int) -> int:
        return (px // self.vision.patch_size) ** 2 + self.vision.num_global_tokens

    def _activations(self) -> float:
        """What all blocks and heads of a piece keep from the forward to the backward pass."""
        kept = self.piece * self.captions * self._depth(self.text, self.recipe.data.max_tokens, text=True)
        for count, px in self._image_passes():
            tokens = self._tokens(px)
            pixels = 3 * px**2 * (_WIDE + self.bytes)
            kept += self.piece * count * (self._depth(self.vision, tokens) + 2 * _WIDE * tokens * self.vision.embed_dim + pixels)
        return kept + sum(rows * self._head_row(part.head) for rows, part in self._heads())

    def _image_passes(self) -> list[tuple[int, int]]:
        """(views of an image, pixels of a side) of the student's passes."""
        return [(self.views, self.stage.global_px), (self.recipe.local_count, self.stage.local_px)]

    def _depth(self, config: VisionConfig | TextConfig, tokens: int, *, text: bool = False) -> float:
        """Of one image or text, over all blocks."""
        if self.running.activation_checkpointing:
            return config.depth * tokens * _WIDE * config.embed_dim
        return config.depth * tokens * self._token(config, tokens, text=text)

    def _token(self, config: VisionConfig | TextConfig, tokens: int, *, text: bool) -> float:
        """What one block keeps of one token."""
        hidden = 1 if text else 4 if getattr(config, "ffn", "mlp") == "swiglu" else 2
        maps = (6 if text else 8) * config.embed_dim + hidden * config.mlp_dim
        return 2 * _WIDE * config.embed_dim + self.bytes * maps + self._attention(config, tokens)

    def _attention(self, config: VisionConfig | TextConfig, tokens: int) -> float:
        """The weights of one token, which the fused attention does not keep."""
        return 0.0 if self.fused else self.bytes * config.num_heads * tokens

    def _heads(self) -> list[tuple[int, Any]]:
        """(rows of a piece, its part of the recipe) of each loss over prototypes."""
        patches = self._tokens(self.stage.global_px) - self.vision.num_global_tokens
        found = []
        for name, part in parts_with_heads(self.method).items():
            rows = self.recipe.local_count if name == "self_distillation" else patches
            if name == "patches" and part.patches == "masked":
                rows = round(part.mask.ratio * patches)
            found.append((self.piece * rows, part))
        return found

    def _head_row(self, head: HeadPart) -> float:
        hidden = 2 * (head.layers - 1) * head.hidden_dim
        return _WIDE * (self.vision.embed_dim + 4 * head.bottleneck_dim) + self.bytes * (self.vision.embed_dim + hidden)

    def _working(self) -> float:
        """The block whose gradients are being made, or the prototypes' scores, whichever needs more."""
        texts = self.captions / self.running.text_groups
        passes: list[tuple[VisionConfig | TextConfig, float, int, bool]] = [(self.text, texts, self.recipe.data.max_tokens, True)]
        passes += [(self.vision, count, self._tokens(px), False) for count, px in self._image_passes()]
        blocks = []
        for config, count, tokens, text in passes:
            token: float = 2 * _WIDE * config.embed_dim + self.bytes * (3 * config.embed_dim + 2 * config.mlp_dim)
            token += 4 * self._attention(config, tokens)  # weights and scores with their gradients
            again = self._token(config, tokens, text=text) if self.running.activation_checkpointing else 0
            blocks.append(self.piece * count * tokens * (token + again))
        losses = [self._loss(rows, part.head) for rows, part in self._heads()]
        return max([*blocks, *losses])

    def _loss(self, rows: int, head: HeadPart) -> float:
        """Teacher's and student's scores of some rows at a time, and prototypes with their gradients."""
        return _WIDE * (5 * min(PIECE_VALUES, rows * head.prototypes) + 4 * head.prototypes * head.bottleneck_dim)

    def _operations(self) -> float:
        """Products and sums of matrices in a step, of all ranks: a backward pass is two forward passes."""
        rate = self.recipe.model.dropout
        kept = 1 - rate.path * (1.0 if rate.path_growth == "uniform" else 0.5)
        again = 4 if self.running.activation_checkpointing else 3
        text = self.captions * _forward(self.text, self.recipe.data.max_tokens)
        whole = _forward(self.vision, self._tokens(self.stage.global_px))
        seen = kept * sum(count * _forward(self.vision, self._tokens(px)) for count, px in self._image_passes())
        image = again * (seen + text)
        if self.pieces > 1 and self.captions:
            image += text + kept * whole  # embeddings are made once more, first
        if self.method.teacher is not None and self.method.teacher.kind != "ema-heads":
            image += whole
        heads = sum(rows / self.piece * _head_operations(self.vision.embed_dim, part.head) for rows, part in self._heads())
        # both directions, each with its gradients to query, key and temperature
        pairs = self.captions * 2 * 4 * 2 * self.stage.batch * self.vision.embed_dim
        return self.stage.batch * (image + heads + pairs)


def _forward(config: VisionConfig | TextConfig, tokens: int) -> float:
    """Operations for one image or text, through all blocks."""
    maps = 3 if getattr(config, "ffn", "mlp") == "swiglu" else 2
    token = 2 * (4 * config.embed_dim**2 + maps * config.embed_dim * config.mlp_dim) + 4 * tokens * config.embed_dim
    return config.depth * tokens * token


def _head_operations(dim: int, head: HeadPart) -> float:
    """For one row: a student's pass with gradients, and a teacher's."""
    widths = [dim, *[head.hidden_dim] * (head.layers - 1), head.bottleneck_dim]
    maps = sum(before * after for before, after in itertools.pairwise(widths))
    return 2 * 4 * (maps + head.bottleneck_dim * head.prototypes)
