"""What a recipe is said to need: operations as torch counts them, and what a block keeps as autograd saves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers.pretraining import ALONE, full_batch, recipe
from tips_bench.cli.training_plan import print_plan
from tips_bench.errors import UserError
from tips_bench.models.configs import VisionConfig
from tips_bench.models.layers import Block, Mlp
from tips_bench.models.vision import VisionTower
from tips_bench.training.claim import write_recipe
from tips_bench.training.estimate import MACHINES, estimate
from tips_bench.training.rank_counts import check_ranks, listed_counts, ranks_that_fit
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.stage_sizes import StageSizes
from tips_bench.training.step import Learner, _attention_on_cpu
from tips_bench.training.step_memory import BlockMemory
from tips_bench.training.teacher import Teacher

SIZES: dict[str, Any] = {
    "model__vision__embed_dim": 64,
    "model__text__embed_dim": 64,
    "model__vision__mlp_dim": 192,
    "model__text__mlp_dim": 256,
    "stages__0__global_px": 112,
    "model__vision__position_grid": [8, 8],
}
EMA = {"method__teacher": {"kind": "ema", "momentum": [0.9, 1.0]}}


def counted(learner: Learner, step: int = 0) -> int:
    """Operations of a step: all but those of patch embeddings, which a plan leaves out."""
    batch = full_batch(learner.recipe, learner.recipe.stages[0])
    # attention in products, which are counted on a CPU too
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        learner.step(batch, step)
    return sum(count for kind, count in counter.get_flop_counts()["Global"].items() if "convolution" not in str(kind))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        EMA,
        {"running": {"activation_checkpointing": True}},
        {"running": {"micro_batch": 2}, **EMA},
        {"model__vision__ffn": "swiglu", "method__patches__patches": "masked"},
    ],
)
def test_a_step_has_the_operations_that_torch_counts(changes: dict[str, Any]) -> None:
    """All but those of the contrastive loss, which knows nothing of skipped rows."""
    chosen = recipe(**SIZES, **changes)
    (stage,) = estimate(chosen, 1)
    assert stage.operations == pytest.approx(counted(Learner(chosen, ALONE)), rel=0.03)


@pytest.mark.parametrize("changes", [{"kind": "ema-heads"}, {"kind": "ema", "momentum": [0.9, 1.0]}])
def test_steps_before_the_teacher_starts_count_without_it(changes: dict[str, Any]) -> None:
    late: dict[str, Any] = {"method__teacher": {"momentum": [0.9, 1.0], "start": 0.75, **changes}, "running": {"micro_batch": 4}}
    first = recipe(**SIZES, **late).stages[0].model_dump()
    chosen = recipe(**SIZES, **late, stages=[first, {**first, "steps": 12}])
    learner = Learner(chosen, ALONE)
    without, taught = counted(learner, 0), counted(learner, 24)
    one, other = estimate(chosen, 1)
    assert one.operations == pytest.approx(without, rel=0.03)
    assert other.operations == pytest.approx(without * 4 / 12 + taught * 8 / 12, rel=0.03)
    assert without < 0.6 * taught and "teacher" not in one.moment and one.peak < other.peak
    assert one.memory["teacher"] == other.memory["teacher"] > 0


def test_a_frozen_teacher_is_as_large_as_its_run(tmp_path: Path) -> None:
    small = {**SIZES, "method__patches__mask": None}
    wide = {**small, "model__vision__embed_dim": 128, "model__text__embed_dim": 128, "model__vision__depth": 5}
    theirs = recipe(**wide, method__patches__head__hidden_dim=96)
    write_recipe(tmp_path, theirs)
    chosen = recipe(**small, method__teacher={"kind": "frozen", "run": str(tmp_path)})
    heads = {"patches": chosen.method.patches.model_copy(update={"head": theirs.method.patches.head})}  # type: ignore[union-attr]
    teacher = Teacher(chosen.method.model_copy(update=heads), theirs.model.vision_config, 128)
    (stage,) = estimate(chosen, 1)
    assert stage.operations == pytest.approx(counted(Learner(chosen, ALONE, teacher)), rel=0.03)
    assert stage.memory["teacher"] == 4 * sum(parameter.numel() for parameter in teacher.parameters())


def test_a_plan_says_whose_size_a_frozen_teacher_is_taken_to_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    known, unknown = load_recipe("tipsv2-s14"), load_recipe("tipsv2-s14", ["method.teacher.run=runs/mine"])
    print_plan(known, 64, "h100")
    assert "The frozen teacher is that of runs/tipsv2-g14, by the recipe tipsv2-g14: 40 blocks, 1536 wide." in capsys.readouterr().out
    print_plan(unknown, 64, "h100")
    assert "no run runs/mine and no recipe of that name: the frozen teacher is assumed to be as large as the student" in (
        " ".join(capsys.readouterr().out.split())
    )
    more = (estimate(known, 64)[0].operations - estimate(unknown, 64)[0].operations) / known.stages[0].batch
    assert more == pytest.approx(2 * 257 * 1.13e9, rel=0.1)  # twice the parameters of g for each token


def saved(block: Block, x_BND: Tensor, keep_BN: Tensor | None) -> int:
    """Bytes that autograd keeps, without the weights."""
    weights, kept = {parameter.untyped_storage().data_ptr() for parameter in block.parameters()}, {}

    def pack(tensor: Tensor) -> Tensor:
        copied = {tuple(parameter.shape[::order]) for parameter in block.parameters() for order in (1, -1)}  # in bfloat16
        if tensor.untyped_storage().data_ptr() not in weights and tuple(tensor.shape) not in copied and tensor.is_floating_point():
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x_BND * 1.0, keep_BN)
    return sum(kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("ffn", ["mlp", "swiglu", "text"])
def test_a_block_keeps_what_is_said(precision: str, ffn: str) -> None:
    chosen = recipe(**{**SIZES, "model__vision__ffn": "mlp" if ffn == "text" else ffn}, running={"precision": precision})
    stage = StageSizes(chosen, chosen.stages[0], 1)
    config: Any = stage.text if ffn == "text" else stage.vision
    if ffn == "text":
        block = Block(64, config.num_heads, Mlp(64, config.mlp_dim, activation="relu"), eps=1e-6)
    else:
        block = VisionTower.random(VisionConfig.from_dict(config.to_dict(), where=None), 0).blocks[0]
    tokens, images = 70, 3
    with _attention_on_cpu("cpu", precision), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        found = saved(block, torch.randn(images, tokens, 64, requires_grad=True), None)
    said = BlockMemory(config, tokens, stage.bytes, fused=precision == "fp32")
    assert said.kept * images * tokens == pytest.approx(found, rel=0.05)


def test_fsdp_and_more_ranks_need_less_and_the_days_are_shared() -> None:
    chosen = recipe(stages__0__batch=64, running={"parallel": "fsdp"})
    one, many = estimate(chosen, 1)[0], estimate(chosen, 16)[0]
    assert many.images == 4 and many.peak < one.peak / 4 and many.operations == one.operations
    assert one.days(1, MACHINES["h100"]) == pytest.approx(16 * many.days(16, MACHINES["h100"]))


def test_a_plan_with_hsdp_divides_the_weights_among_the_ranks_of_a_group() -> None:
    def held(running: dict[str, Any], ranks: int) -> list[float]:
        (stage,) = estimate(recipe(stages__0__batch=4 * ranks, running=running), ranks)
        return [stage.memory[part] for part in ("weights", "optimizer", "teacher")]

    assert held({"parallel": "hsdp", "shard_ranks": 4}, 16) == held({"parallel": "fsdp"}, 4) < held({"parallel": "fsdp"}, 2)
    assert held({"parallel": "hsdp"}, 32) == held({"parallel": "fsdp"}, 8)  # those of a machine
    with pytest.raises(UserError, match=r"running\.shard_ranks: 6 ranks cannot be divided into groups of 4"):
        held({"parallel": "hsdp", "shard_ranks": 4}, 6)


def test_fsdp_sends_blocks_in_bfloat16_so_that_only_heads_are_copied() -> None:
    def copied(running: dict[str, Any], ranks: int) -> tuple[int, int]:
        chosen = recipe(stages__0__batch=16, running={"precision": "bf16", **running})
        sizes = StageSizes(chosen, chosen.stages[0], ranks)
        return sizes.multiplied, sum(size for name, size in sizes.parameters.items() if ".blocks." in name)

    heads, blocks = copied({"parallel": "fsdp"}, 2)
    assert 0 < heads == copied({"parallel": "ddp"}, 2)[0] - blocks


def test_muon_keeps_half_of_adamws_state_in_the_matrices_of_blocks() -> None:
    def held(rule: dict[str, Any], running: dict[str, Any]) -> tuple[StageSizes, float]:
        chosen = recipe(optimizer__rule=rule, running=running)
        return StageSizes(chosen, chosen.stages[0], 2), estimate(chosen, 2)[0].memory["optimizer"]

    for running, cut in (({"parallel": "ddp"}, 1), ({"parallel": "fsdp"}, 2)):
        adamw = {"betas": [0.9, 0.999], "eps": 1e-8}
        (sizes, muon), (_, plain) = held({"type": "muon", "momentum": 0.95, **adamw}, running), held({"type": "adamw", **adamw}, running)
        assert plain - muon == 4 * sizes.hidden / cut > 0


def test_a_batch_that_ranks_cannot_share_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"batch = 8 cannot .* among 3 ranks\. Use 1, 2, 4 or 8 ranks, .*: --set stages\.0\.batch=6\."):
        estimate(recipe(), 3)


def test_ranks_that_fit_share_the_batch_of_every_stage() -> None:
    paper = load_recipe("tipsv2-g14")
    with pytest.raises(UserError, match=r"Use 32, 64, 128, 256 or 512 ranks, or another batch, .* --set stages\.0\.batch=8184\."):
        check_ranks(paper, 248)
    check_ranks(load_recipe("tipsv2-g14", ["stages.0.batch=8184", "stages.1.batch=3968"]), 248)
    assert max(ranks_that_fit(paper)) == 4096
    groups = load_recipe("tipsv2-g14", ["running.parallel=hsdp", "running.shard_ranks=16"])
    assert ranks_that_fit(groups)[:3] == [16, 32, 64]
    assert listed_counts([1], 5) == "1" and listed_counts([1, 2, 4, 8, 16], 3) == "1, 2, 4 or 8"


def test_a_plan_of_a_small_recipe_has_units_that_fit_it(capsys: pytest.CaptureFixture[str]) -> None:
    nano = load_recipe("tips-nano")
    print_plan(nano, 1, "h100")
    said = capsys.readouterr().out
    stages = estimate(nano, 1)
    assert "GFLOP a step" in said and f"{stages[0].operations / 1e9:,.0f}" in said
    seconds = sum(stage.days(1, MACHINES["a100"]) for stage in stages) * 24 * 3600
    assert 10 < seconds < 60 and "seconds, a100" in said and f"{seconds:.1f}" in said
    assert " 0.0 " not in said and " 0.00 " not in said


def test_a_plan_names_every_stage_and_says_whether_it_fits(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(load_recipe("tipsv2-g14"), 256, "h100")
    said = capsys.readouterr().out
    assert said.count("low-resolution") == said.count("high-resolution") == 2 and "fits into nine tenths of the 80 GB" in said
    assert "The batches can be shared by 64, 128, 256, 512 or 1024 ranks" in said and "days, h100" in said and "TFLOP a step" in said
    assert "Each rank holds 1/256 of the weights, gradients and optimizer state. Of 1,5" in said
    print_plan(load_recipe("tipsv2-g14", ["running.parallel=ddp", "running.activation_checkpointing=false"]), 128, "a100")
    said = capsys.readouterr().out
    assert "does not fit" in said and "Each rank holds all weights, gradients and optimizer state." in said
    print_plan(load_recipe("tipsv2-g14", ["running.parallel=hsdp"]), 256, "h100")
    assert "on 256 ranks, in 32 groups of 8 (GPUs of one machine, assumed)" in capsys.readouterr().out
    with pytest.raises(UserError, match="GPU named 'v100'"):
        print_plan(load_recipe("tipsv2-g14"), 256, "v100")


def test_a_plan_for_fsdp_holds_whole_what_is_in_no_block() -> None:
    def gathered(running: dict[str, Any]) -> float:
        chosen = recipe(stages__0__batch=16, running=running, model__text__vocab_size=5000)
        return estimate(chosen, 4)[0].memory["copies of weights"]

    sizes = StageSizes(recipe(model__text__vocab_size=5000), recipe().stages[0], 1)
    assert gathered({"parallel": "ddp"}) == 0
    assert gathered({"parallel": "fsdp"}) == 4 * (sizes.outside_blocks + 2 * sizes.block_parameters)
