"""One step: its teacher against a loop, its parts switched off one by one, and the ways of computing it that change nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.pretraining import ALONE, random_batch, recipe
from tips_bench.training.bad_steps import fault_of
from tips_bench.training.schedule import cosine
from tips_bench.training.step import Learner
from tips_bench.training.teacher import Teacher

ROOT = Path(__file__).resolve().parents[2]
CONTRASTIVE, DISTILLED, PATCHES = {"contrastive", "contrastive/0", "contrastive/1", "temperature"}, {"self_distillation"}, {"patches"}


def steps(learner: Learner, count: int = 3, *, masked: bool = True) -> list[dict[str, float]]:
    return [learner.step(random_batch(seed=number, masked=masked), number) for number in range(count)]


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in learner.student.named_parameters()}


def losses_in(report: dict[str, float]) -> set[str]:
    return {name for name in report if name in CONTRASTIVE | DISTILLED | PATCHES}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"method__self_distillation": None, "method__patches": None, "method__teacher": None}, CONTRASTIVE),
        ({"method__contrastive": None}, DISTILLED | PATCHES),
        ({"method__self_distillation": None}, CONTRASTIVE | PATCHES),
        ({"method__patches": None}, CONTRASTIVE | DISTILLED),
        ({"method__patches__mask": None}, CONTRASTIVE | DISTILLED | PATCHES),
        ({"method__contrastive": None, "method__teacher": {"kind": "ema", "momentum": [0.9, 1.0]}}, DISTILLED | PATCHES),
    ],
)
def test_each_part_is_switched_off_by_the_recipe(changes: dict[str, Any], wanted: set[str]) -> None:
    chosen = recipe(**changes)
    learner = Learner(chosen, ALONE)
    before = weights(learner)
    masked = chosen.method.patches is not None and chosen.method.patches.mask is not None
    report = steps(learner, masked=masked)[-1]
    assert losses_in(report) == wanted
    assert (learner.teacher is None) == (chosen.method.teacher is None)
    after = weights(learner)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    # nothing is trained in vain, and what is trained moves
    assert moved == {name for name, parameter in learner.student.named_parameters() if parameter.requires_grad}


def test_a_teacher_that_starts_later_leaves_the_contrastive_loss_alone_until_then() -> None:
    late = Learner(recipe(steps=4, method__teacher__start=0.5), ALONE)
    alone = Learner(recipe(steps=4, method__self_distillation=None, method__patches=None, method__teacher=None), ALONE)
    before, reports = weights(late), steps(late, 2)
    for report, wanted in zip(reports, steps(alone, 2), strict=True):
        assert losses_in(report) == CONTRASTIVE and report["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
        assert not [name for name in report if name.startswith("entropy")]
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(late)[name], value, rtol=1e-5, atol=1e-6)
    assert torch.equal(weights(late)["heads.patches.gain"], before["heads.patches.gain"])
    assert losses_in(late.step(random_batch(seed=2), 2)) == CONTRASTIVE | DISTILLED | PATCHES
    assert not torch.equal(weights(late)["heads.patches.gain"], before["heads.patches.gain"])


def test_the_warm_up_of_a_teacher_that_starts_later_counts_from_its_own_first_step() -> None:
    def losses(number: int, **sharpening: float) -> dict[str, float]:
        parts = {
            f"method__{part}__sharpening__{key}": value for part in ("self_distillation", "patches") for key, value in sharpening.items()
        }
        report = Learner(recipe(steps=12, method__teacher__start=1 / 3, **parts), ALONE).step(random_batch(seed=4), number)
        return {name: report[name] for name in ("self_distillation", "patches", "entropy/patches")}

    for number, temperature in ((4, 0.02), (6, 0.04), (8, 0.06), (11, 0.06)):
        warming = losses(number, teacher_start=0.02, teacher=0.06, teacher_warmup=0.5)
        assert warming == pytest.approx(losses(number, teacher_start=1.0, teacher=temperature, teacher_warmup=0.0), rel=1e-6)


def cosine_over(*lengths: int) -> list[float]:
    """Half a cosine from 0 to 1 over each of some numbers of steps."""
    return [(1 - math.cos(math.pi * step / (length - 1))) / 2 for length in lengths for step in range(length)]


@pytest.mark.parametrize(("over", "wanted"), [("run", cosine_over(10)), ("stage", cosine_over(4, 6))])
def test_a_schedule_goes_over_the_run_or_begins_again_with_each_stage(over: str, wanted: list[float]) -> None:
    stage = recipe().stages[0].model_dump() | {"warmup": 1}
    chosen = recipe(stages=[{**stage, "steps": 4}, {**stage, "steps": 6}], schedules={"momentum": over, "weight_decay": over})
    reports = steps(Learner(chosen, ALONE), 10)
    assert [report["momentum"] for report in reports] == pytest.approx([0.99 + 0.01 * value for value in wanted])
    assert [report["weight_decay"] for report in reports] == pytest.approx([0.04 + 0.36 * value for value in wanted])


def test_the_teachers_warm_up_begins_again_with_a_stage_where_the_recipe_says_so() -> None:
    stage = recipe().stages[0].model_dump() | {"warmup": 1}
    stages = [{**stage, "steps": 4}, {**stage, "steps": 6}]

    def entropy(over: str, **sharpening: float) -> float:
        parts = {
            f"method__{part}__sharpening__{key}": value for part in ("self_distillation", "patches") for key, value in sharpening.items()
        }
        chosen = recipe(stages=stages, schedules={"temperature": over}, method__teacher__start=0.2, **parts)
        return Learner(chosen, ALONE).step(random_batch(seed=4), 4)["entropy/patches"]

    def fixed(temperature: float) -> float:
        return entropy("run", teacher_start=1.0, teacher=temperature, teacher_warmup=0.0)

    # step 4 is the first of the second stage, and the third of the eight in which the teacher teaches
    assert entropy("stage", teacher_start=0.02, teacher=0.06, teacher_warmup=0.5) == pytest.approx(fixed(0.02))
    assert entropy("run", teacher_start=0.02, teacher=0.06, teacher_warmup=0.5) == pytest.approx(fixed(0.04))


def test_narrow_towers_start_with_maps_that_keep_the_variance_of_what_they_are_given() -> None:
    plain, narrow = Learner(recipe(), ALONE).student, Learner(recipe(model__initial="narrow"), ALONE).student
    x_ND = torch.randn(4096, 32, generator=torch.Generator().manual_seed(0))
    qkv = narrow.vision.blocks[0].attn.qkv
    assert qkv(x_ND).var().item() == pytest.approx(1.0, abs=0.3) and plain.vision.blocks[0].attn.qkv(x_ND).var() < 0.05
    assert narrow.text.token_embed.weight.var().item() * 32 == pytest.approx(1.0, abs=0.3)
    assert [[block.ls1.gamma.mean().item() for block in tower.vision.blocks] for tower in (plain, narrow)] == [
        [1.0] * 2,
        [pytest.approx(0.2)] * 2,
    ]
    gray_B3HW = torch.full((1, 3, 28, 28), 0.5)
    assert narrow.vision.patch_embed(gray_B3HW).abs().max() < 1e-5 < plain.vision.patch_embed(gray_B3HW).abs().max()


def test_weights_can_begin_as_in_the_training_code_of_tips() -> None:
    """Spreads of Flax's initializers, by their formulas; and the position of the CLS token and LayerScale change nothing at first."""
    chosen = recipe(model__initial="scenic", model__layer_scale="fixed", model__vision__ffn="swiglu")
    student, again = Learner(chosen, ALONE).student, Learner(chosen, ALONE).student
    assert all(torch.equal(one, other) for one, other in zip(student.parameters(), again.parameters(), strict=True))
    block, text = student.vision.blocks[0], student.text
    for weight, fans in (
        (block.attn.qkv.weight, 64),
        (block.mlp.w12.weight, 96),
        (block.mlp.w3.weight, 96),
        (text.blocks[0].mlp.fc1.weight, 96),
    ):
        assert weight.abs().max().item() == pytest.approx((6 / fans) ** 0.5, rel=0.02)
        assert weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.05)
    assert student.vision.patch_embed.proj.weight.std().item() == pytest.approx((3 * 14 * 14) ** -0.5, rel=0.05)
    assert student.vision.pos_embed[:, 1:].std().item() == pytest.approx(32**-0.5, rel=0.1)
    assert text.token_embed.weight.std().item() == pytest.approx(32**-0.5, rel=0.1)
    assert not student.vision.cls_token.any() and not student.vision.register_tokens.any() and not student.vision.pos_embed[:, 0].any()
    assert {name for name, value in student.named_parameters() if not value.requires_grad} == {
        f"vision.blocks.{index}.ls{branch}.gamma" for index in range(2) for branch in (1, 2)
    }


def test_images_of_bytes_and_of_fractions_give_the_same_step() -> None:
    batch = random_batch()
    said = replace(batch, global_B3HW=(batch.global_B3HW * 255).byte(), locals=[(crop * 255).byte() for crop in batch.locals])
    plain = replace(said, global_B3HW=said.global_B3HW / 255, locals=[crop / 255 for crop in said.locals])
    assert Learner(recipe(), ALONE).step(said, 0) == Learner(recipe(), ALONE).step(plain, 0)


def test_captions_of_both_kinds_can_share_one_token() -> None:
    chosen = recipe(method__contrastive__captions=[["web", "synthetic"]], method__contrastive__weight=0.5)
    batch = random_batch()
    batch.texts.pop()
    report = Learner(chosen, ALONE).step(batch, 0)
    assert losses_in(report) == {"contrastive", "temperature"} | DISTILLED | PATCHES
    assert report["loss"] == pytest.approx(0.5 * report["contrastive"] + report["self_distillation"] + 2 * report["patches"], rel=1e-5)


@pytest.mark.parametrize("kind", ["ema", "ema-heads"])
def test_the_teacher_is_the_running_mean_that_a_loop_gives(kind: str) -> None:
    chosen = recipe(method__teacher={"kind": kind, "momentum": [0.6, 1.0]})
    learner = Learner(chosen, ALONE)
    assert isinstance(learner.teacher, Teacher)
    names = [name for name, _ in learner.teacher.named_parameters()]
    assert any(name.startswith("vision.") for name in names) == (kind == "ema")
    mean = {name: weights(learner)[name] for name in names}
    for number in range(4):
        learner.step(random_batch(seed=number), number)
        momentum = cosine(0.6, 1.0, number, 20)
        now = weights(learner)
        mean = {name: momentum * value + (1 - momentum) * now[name] for name, value in mean.items()}
    for name, parameter in learner.teacher.named_parameters():
        torch.testing.assert_close(parameter, mean[name], rtol=1e-5, atol=1e-7)
        assert not parameter.requires_grad


def test_a_shared_encoder_halves_what_a_teacher_holds() -> None:
    sizes = {}
    for kind in ("ema", "ema-heads"):
        teacher = Learner(recipe(method__teacher={"kind": kind, "momentum": [0.9, 1.0]}), ALONE).teacher
        assert teacher is not None
        sizes[kind] = sum(parameter.numel() for parameter in teacher.parameters())
    vision = sum(parameter.numel() for parameter in Learner(recipe(), ALONE).student.vision.parameters())
    assert sizes["ema"] - sizes["ema-heads"] == vision


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ema", "ema-heads"])
@pytest.mark.parametrize(
    "running", [{"micro_batch": 1}, {"micro_batch": 2}, {"micro_batch": 3}, {"text_groups": 5}, {"activation_checkpointing": True}]
)
def test_how_a_step_is_computed_does_not_change_it(running: dict[str, Any], kind: str) -> None:
    teacher = {"kind": kind, "momentum": [0.9, 1.0]}
    plain, other = Learner(recipe(method__teacher=teacher), ALONE), Learner(recipe(method__teacher=teacher, running=running), ALONE)
    for a, b in zip(steps(other), steps(plain), strict=True):
        assert set(a) == set(b)
        for name, value in b.items():
            assert a[name] == pytest.approx(value, rel=1e-4 if name == "grad_norm" else 1e-5, abs=1e-5), name
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_bfloat16_stays_near_float32_and_keeps_float32_weights() -> None:
    plain, half = Learner(recipe(), ALONE), Learner(recipe(running={"precision": "bf16"}), ALONE)
    for a, b in zip(steps(half), steps(plain), strict=True):
        assert a["contrastive"] == pytest.approx(b["contrastive"], abs=0.02)
        assert a["patches"] == pytest.approx(b["patches"], abs=0.3)
    assert {value.dtype for value in weights(half).values()} == {torch.float32}


def test_a_step_that_is_no_number_changes_nothing() -> None:
    learner = Learner(recipe(), ALONE)
    assert learner.teacher is not None
    steps(learner, 1)
    before, center = weights(learner), learner.teacher.centers["patches"].mean_C.clone()
    batch = random_batch(seed=1)
    batch.locals[0][0] = torch.nan
    report = learner.step(batch, 1)
    assert all(torch.equal(value, before[name]) for name, value in weights(learner).items())
    assert torch.equal(learner.teacher.centers["patches"].mean_C, center)
    assert fault_of(report) == "the term 'self_distillation' is nan"
    assert not learner.teacher.centers["patches"].seen.any()
