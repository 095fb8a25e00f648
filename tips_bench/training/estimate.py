"""What a recipe needs before anything of it runs: memory of a rank and floating-point operations, stage by stage.

    tips-bench train recipes/tipsv2-g14.yaml --dry-run --ranks 256 --device h100

Memory is that of `step_memory`. Operations are those of products of matrices, from the sizes of the towers.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from tips_bench.models.configs import TextConfig, VisionConfig
from tips_bench.training.recipe import HeadPart, Recipe
from tips_bench.training.schedule import first_taught
from tips_bench.training.stage_sizes import StageSizes
from tips_bench.training.step_memory import fullest


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
    """A stage on one rank. memory: part -> bytes that are held at the same time at its fullest moment, which is `moment`.

    operations: of a step, all ranks; the mean, where the teacher starts within the stage.
    """

    name: str
    steps: int
    images: int
    pieces: int
    moment: str
    memory: dict[str, float]
    operations: float

    @property
    def peak(self) -> float:
        """Bytes in the fullest moment."""
        return sum(self.memory.values())

    def days(self, ranks: int, machine: Machine, share: float = SHARE) -> float:
        """Of the whole stage."""
        return self.steps * self.operations / (ranks * machine.peak * share) / 86400


def estimate(recipe: Recipe, ranks: int, *, on_cpu: bool = False) -> list[StageEstimate]:
    """Every stage of a recipe. on_cpu: in bfloat16, attention keeps its weights there, and FSDP sends float32.

    Errors: a batch that the ranks cannot share.
    """
    return [_stage_estimate(recipe, index, ranks, on_cpu=on_cpu) for index in range(len(recipe.stages))]


def _stage_estimate(recipe: Recipe, index: int, ranks: int, *, on_cpu: bool) -> StageEstimate:
    stage, taught = recipe.stages[index], _taught_share(recipe, index)
    kinds = [
        (share, StageSizes(recipe, stage, ranks, on_cpu=on_cpu, taught=kind))
        for kind, share in ((True, taught), (False, 1 - taught))
        if share
    ]
    moment = max((fullest(sizes) for _, sizes in kinds), key=lambda one: one.total)
    operations = sum(share * _operations(sizes) for share, sizes in kinds)
    sizes = kinds[0][1]
    return StageEstimate(stage.name, stage.steps, sizes.images, sizes.pieces, moment.name, moment.memory, operations)


def _taught_share(recipe: Recipe, index: int) -> float:
    """The share of a stage's steps that are not before the teacher starts; all, where there is none."""
    begin, steps = sum(stage.steps for stage in recipe.stages[:index]), recipe.stages[index].steps
    before = min(max(math.ceil(first_taught(recipe)) - begin, 0), steps)
    return 1 - before / steps


def _operations(sizes: StageSizes) -> float:
    """Products and sums of matrices in a step, of all ranks: a backward pass is two forward passes."""
    recipe, batch = sizes.recipe, sizes.stage.batch
    rate = recipe.model.dropout
    kept = 1 - rate.path * (1.0 if rate.path_growth == "uniform" else 0.5)
    again = 4 if sizes.running.activation_checkpointing else 3
    whole = kept * _forward(sizes.vision, sizes.tokens(sizes.stage.global_px))
    # of one image: all its views and captions, with and without gradients
    image = 0.0
    for one in sizes.passes():
        image += again * one.rows / sizes.piece * _forward(one.config, one.tokens) * (1.0 if one.is_text else kept)
        if one.is_text and sizes.pieces > 1:
            image += one.rows / sizes.piece * _forward(one.config, one.tokens) + whole  # embeddings are made once more, first
    if sizes.teacher_sees:
        image += _forward(sizes.teacher_vision, sizes.teacher_tokens)
    heads = sum(
        rows * views / sizes.piece * _head_operations(sizes, name, part.head)
        for name, (rows, views, part) in zip(sizes.taught_parts, sizes.heads(), strict=True)
    )
    # both directions, each with its gradients to query, key and temperature
    pairs = sizes.captions * 2 * 4 * 2 * batch * sizes.vision.embed_dim
    return batch * (image + heads + pairs)


def _forward(config: VisionConfig | TextConfig, tokens: int) -> float:
    """Operations for one image or text, through all blocks."""
    maps = 3 if getattr(config, "ffn", "mlp") == "swiglu" else 2
    token = 2 * (4 * config.embed_dim**2 + maps * config.embed_dim * config.mlp_dim) + 4 * tokens * config.embed_dim
    return config.depth * tokens * token


def _head_operations(sizes: StageSizes, name: str, head: HeadPart) -> float:
    """For one row: a student's pass with gradients, and a teacher's."""
    theirs = sizes.teacher_heads.get(name, head)
    return 3 * _head_forward(sizes.vision.embed_dim, head) + _head_forward(sizes.teacher_vision.embed_dim, theirs)


def _head_forward(dim: int, head: HeadPart) -> float:
    widths = [dim, *[head.hidden_dim] * (head.layers - 1), head.bottleneck_dim]
    maps = sum(before * after for before, after in itertools.pairwise(widths))
    return 2 * (maps + head.bottleneck_dim * head.prototypes)
