"""The memory that a recipe is said to need, beside what torch gives out in steps of the recipe, made small, on this machine.

Of runs on several ranks: beside the storages that are alive on each.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.step_peak import step_peaks
from tests.helpers.torchrun import torchrun
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
    said = estimate(recipe, 1, on_cpu=True)
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


@pytest.mark.nightly
@pytest.mark.parametrize("running", [["precision=fp32"], ["precision=bf16", "activation_checkpointing=true", "micro_batch=2"]])
@pytest.mark.parametrize("name", list(SHAPES))
def test_a_step_before_the_teacher_starts_takes_the_memory_that_is_said(name: str, running: list[str], tmp_path: Path) -> None:
    """The first of two stages has no other steps."""
    assert_near([*SHAPES[name], "method.teacher.start=0.5", *(f"running.{value}" for value in running)], tmp_path / "trace.json")


# Small enough that weights, and not what they compute, take most of the memory.
TINY = ["data.shards=none", "data.crops.local_count=2", "data.max_tokens=16"]
STAGE = "name: only, steps: 4, warmup: 1, global_px: 112, local_px: 28, learning_rate: 0.001, final_learning_rate: 0.0"
THIN = "{prototypes: 64, layers: 3, hidden_dim: 32, bottleneck_dim: 16}"
DEEP = shape(64, "depth: 4, mlp_dim: 172", 4, THIN)
OF_ADAMW = "betas: [0.9, 0.999], eps: 1.0e-8"
CUT_UP = {
    "deep": [*DEEP, "running.precision=fp32", "running.activation_checkpointing=false"],
    "deep, in two pieces": [*DEEP, "running.precision=fp32", "running.micro_batch=1"],
    "deep, bf16": DEEP,
    "many words": [*shape(64, "depth: 2, mlp_dim: 128", 6, THIN), "running.text_groups=1", "method.teacher.kind=ema"],
    "many prototypes": shape(64, "depth: 2, mlp_dim: 172", 2, "{prototypes: 1024, layers: 3, hidden_dim: 256, bottleneck_dim: 64}"),
    "AdamW": [*DEEP, f"optimizer.rule={{type: adamw, {OF_ADAMW}}}"],
    "Muon": [*DEEP, f"optimizer.rule={{type: muon, momentum: 0.95, {OF_ADAMW}}}"],
}
GROUPS = ["deep", "deep, in two pieces", "many words", "Muon"]


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("ranks", "running", "names"),
    [(2, ["parallel=fsdp"], list(CUT_UP)), (4, ["parallel=hsdp", "shard_ranks=2"], GROUPS)],
    ids=["fsdp", "hsdp"],
)
def test_each_rank_that_holds_a_part_takes_the_memory_that_is_said(
    ranks: int, running: list[str], names: list[str], tmp_path: Path
) -> None:
    """Two images on each rank."""
    common = [*TINY, f"stages=[{{{STAGE}, batch: {2 * ranks}}}]", *(f"running.{value}" for value in running)]
    recipes = {name: load_recipe("tipsv2-g14", [*common, *CUT_UP[name]]) for name in names}
    (tmp_path / "recipes.json").write_text(json.dumps({name: recipe.model_dump(mode="json") for name, recipe in recipes.items()}))
    script = Path(__file__).resolve().parents[1] / "helpers" / "rank_peaks.py"
    done = torchrun(ranks, script, tmp_path / "peaks.json", tmp_path / "recipes.json", limit_s=1700)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {name: max(peaks)[0] for name, peaks in json.loads((tmp_path / "peaks.json").read_text()).items()}
    said = {name: estimate(recipe, ranks, on_cpu=True)[0].peak for name, recipe in recipes.items()}
    assert said == {name: pytest.approx(peak, rel=0.1) for name, peak in found.items()}
