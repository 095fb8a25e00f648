"""The memory that a recipe is said to need, beside what torch gives out in steps of the recipe, made small, on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.step_peak import step_peaks
from tips_bench.training.estimate import estimate
from tips_bench.training.recipe_files import load_recipe

STAGES = ["steps=4", "warmup=1"]
SMALL = ["data.shards=none", *(f"stages.{stage}.{value}" for stage in (0, 1) for value in STAGES), "stages.0.batch=6", "stages.1.batch=3"]


def shape(width: int, vision: str, text_depth: int, head: str) -> list[str]:
    return [
        f"model.vision={{embed_dim: {width}, num_heads: {width // 64}, position_grid: [16, 16], {vision}}}",
        f"model.text={{embed_dim: {width}, depth: {text_depth}, num_heads: {width // 64}, mlp_dim: {4 * width}, vocab_size: 1000}}",
        f"method.self_distillation.head={head}",
        f"method.patches.head={head}",
    ]


FEW = "{prototypes: 128, layers: 3, hidden_dim: 64, bottleneck_dim: 32}"
SHAPES = {
    # fullest in a loss over prototypes
    "many prototypes": shape(128, "depth: 4, mlp_dim: 344", 2, "{prototypes: 1024, layers: 3, hidden_dim: 512, bottleneck_dim: 64}"),
    # fullest in the backward pass of a block
    "wide blocks": shape(256, "depth: 3, mlp_dim: 684", 2, FEW),
    "wide blocks with GELU": [*shape(256, "depth: 3, mlp_dim: 1024, ffn: mlp", 2, FEW), "method.teacher.kind=ema"],
    # fullest in the texts
    "many words": [*shape(256, "depth: 2, mlp_dim: 256", 8, FEW), "running.text_groups=1"],
}


def assert_near(changes: list[str], trace: Path) -> None:
    """Within 15 % at 224 and at 448 pixels."""
    recipe = load_recipe("tipsv2-g14", [*SMALL, *changes])
    said = estimate(recipe, 1, fused_attention=recipe.running.precision == "fp32")
    for stage, peak in zip(said, step_peaks(recipe, trace), strict=True):
        assert stage.peak == pytest.approx(peak, rel=0.15), (stage, peak)


@pytest.mark.nightly
@pytest.mark.parametrize("micro_batch", ["null", "2"])
@pytest.mark.parametrize("checkpointing", ["false", "true"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", list(SHAPES))
def test_a_step_takes_the_memory_that_is_said(name: str, precision: str, checkpointing: str, micro_batch: str, tmp_path: Path) -> None:
    running = {"precision": precision, "activation_checkpointing": checkpointing, "micro_batch": micro_batch}
    assert_near([*(f"running.{key}={value}" for key, value in running.items()), *SHAPES[name]], tmp_path / "trace.json")
