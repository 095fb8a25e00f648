"""Optimisers, their groups, and what changes with the step."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.helpers.pretraining import recipe
from tips_bench.training.adafactor import Adafactor
from tips_bench.training.muon import Muon
from tips_bench.training.optim import DECAYED, MATRICES, clip_gradients, make_optimizer, set_rates
from tips_bench.training.recipe import SharpeningPart, StagePart
from tips_bench.training.schedule import cosine, learning_rate
from tips_bench.training.student import Student
from tips_bench.training.teacher import temperatures

STAGE = {"name": "only", "batch": 8, "global_px": 56, "local_px": 28, "learning_rate": 2.0, "final_learning_rate": 0.5}


def test_the_rate_rises_linearly_to_its_peak_and_falls_along_a_cosine() -> None:
    stage = StagePart.model_validate({**STAGE, "steps": 11, "warmup": 4})
    rates = [learning_rate(stage, step) for step in range(11)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0 and rates[10] == 0.5 and rates[7] == pytest.approx(1.25)
    assert rates[5] == pytest.approx(0.5 + 1.5 * (1 + math.cos(math.pi / 6)) / 2)


@given(st.integers(2, 50), st.floats(-2, 2), st.floats(-2, 2))
def test_a_cosine_goes_from_one_value_to_the_other_without_turning_back(steps: int, start: float, end: float) -> None:
    values = [cosine(start, end, step, steps) for step in range(steps)]
    assert values[0] == pytest.approx(start) and values[-1] == pytest.approx(end)
    assert values == sorted(values, reverse=start > end) or max(values) - min(values) < 1e-12


def test_the_teachers_temperature_warms_up_and_stays() -> None:
    part = SharpeningPart(student=0.1, teacher=0.07, teacher_start=0.04, teacher_warmup=0.5, center_momentum=0.9)
    found = [temperatures(part, step, 20).teacher for step in (0, 5, 10, 19)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert temperatures(part.model_copy(update={"teacher_warmup": 0.0}), 0, 20).teacher == 0.07


def test_decay_acts_on_matrices_alone() -> None:
    student = Student(recipe())
    optimizer = make_optimizer(student, recipe().optimizer)
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    groups = {group["name"]: {names[id(parameter)] for parameter in group["params"]} for group in optimizer.param_groups}
    spared = ("bias", "norm", "gamma", "cls_token", "register_tokens", "mask_token", "pos_embed", "gain", "log_temperature")
    assert not {name for name in groups[DECAYED] if any(part in name for part in spared)}
    assert all(any(part in name for part in spared) for name in groups["spared"])
    assert groups[DECAYED] | groups["spared"] == set(names.values())
    set_rates(optimizer, 0.1, 0.3)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.1, 0.3), (0.1, 0.0)]


def test_what_a_recipe_has_no_use_for_is_not_trained() -> None:
    untrained = {name for name, p in Student(recipe(method__contrastive=None)).named_parameters() if not p.requires_grad}
    assert "log_temperature" in untrained and all(name.startswith(("text.", "log_t")) for name in untrained)
    unmasked = {name for name, p in Student(recipe(method__patches__mask=None)).named_parameters() if not p.requires_grad}
    assert unmasked == {"vision.mask_token"}


@pytest.mark.parametrize("shape", [(6, 4), (5,), (3, 2, 4, 4)])
def test_adafactor_takes_torchs_steps_where_those_are_not_scaled_by_the_parameter(shape: tuple[int, ...]) -> None:
    """torch's step is max(eps2, size of the parameter) * min(rate, 1 / sqrt(step)): with eps2 = 1 and small parameters, the rate."""
    torch.manual_seed(0)
    start = torch.randn(shape, dtype=torch.float64) * 0.1
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    mine = Adafactor([ours], lr=1e-3, decay=-0.8, clip=1.0, beta1=None, weight_decay=0.1)
    reference = torch.optim.Adafactor([theirs], lr=1e-3, beta2_decay=-0.8, eps=(None, 1.0), d=1.0, weight_decay=0.1)
    for _ in range(5):
        gradient = torch.randn(shape, dtype=torch.float64) * 10
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_parameters_that_are_updated_together_take_the_steps_that_each_takes_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=generator) for shape in [(6, 4), (5,), (3, 2, 4, 4), (4, 6), (1,), (6, 4)]]
    together, alone = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    options = {"lr": 1e-2, "decay": -0.8, "clip": 1.0, "beta1": 0.9, "weight_decay": 0.1}
    optimizers = [Adafactor(together, **options), *(Adafactor([one], **options) for one in alone)]
    for step in range(4):
        for index, pair in enumerate(zip(together, alone, strict=True)):
            for one in pair:
                # the second parameter has a gradient in every second step alone
                one.grad = None if index == 1 and step % 2 else torch.randn(one.shape, generator=generator.manual_seed(10 * step + index))
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one, other)
    assert float(optimizers[0].state[together[1]]["step"]) == 2


def test_adafactors_momentum_is_the_mean_of_its_steps_in_bfloat16() -> None:
    plain, smooth = nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(4, 3))
    gradient = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for parameter, beta1 in ((plain, None), (smooth, 0.9)):
        parameter.grad = gradient.clone()
        optimizer = Adafactor([parameter], lr=1.0, decay=-0.8, clip=1.0, beta1=beta1)
        optimizer.step()
    assert optimizer.state[smooth]["momentum"].dtype == torch.bfloat16
    torch.testing.assert_close(smooth, 0.1 * plain, rtol=1e-2, atol=1e-3)


@given(st.floats(0.01, 100))
def test_clipping_scales_all_gradients_together(limit: float) -> None:
    model = nn.Linear(3, 2)
    generator = torch.Generator().manual_seed(0)
    before = [torch.randn(parameter.shape, generator=generator) for parameter in model.parameters()]
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        parameter.grad = gradient.clone()
    norm = clip_gradients(model, limit).item()
    flat = torch.cat([gradient.flatten() for gradient in before])
    assert norm == pytest.approx(flat.norm().item(), rel=1e-5)
    after = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    torch.testing.assert_close(after, flat * min(1.0, limit / norm), rtol=1e-4, atol=1e-6)


MUON = {"type": "muon", "momentum": 0.95, "betas": [0.9, 0.999], "eps": 1e-8}


@pytest.mark.parametrize(("shape", "parts"), [((6, 4), 1), ((32, 48), 1), ((24, 8), 3), ((20, 16), 2)])
def test_muon_takes_torchs_steps_on_each_matrix_of_a_parameter(shape: tuple[int, int], parts: int) -> None:
    """torch's has whole parameters alone, so each part is one there. Both compute in bfloat16, with products in another order."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), [nn.Parameter(part.clone()) for part in start.chunk(parts)]
    spared = {"params": [nn.Parameter(torch.ones(1))]}
    mine = Muon({"params": [ours], "parts": [parts]}, [spared], lr=0.01, momentum=0.95, betas=(0.9, 0.999), eps=1e-8)
    mine.param_groups[0]["weight_decay"] = 0.1
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        gradient = torch.randn(shape, generator=generator)
        ours.grad = gradient.clone()
        for one, part in zip(theirs, gradient.chunk(parts), strict=True):
            one.grad = part.clone()
        mine.step()
        reference.step()
    moved, reference_moved = ours.detach() - start, torch.cat([one.detach() for one in theirs]) - start
    assert (moved - reference_moved).norm() < 0.01 * reference_moved.norm()
    assert mine.state[ours].keys() == {"momentum"}


def test_muon_has_the_matrices_of_blocks_and_adamw_all_else() -> None:
    chosen = recipe(optimizer__rule=MUON, model__vision__ffn="swiglu")
    student = Student(chosen)
    optimizer = make_optimizer(student, chosen.optimizer)
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    groups = {group["name"]: [names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups}
    parts = dict(zip(groups[MATRICES], optimizer.param_groups[0]["parts"], strict=True))
    in_block = {"attn.qkv": 3, "attn.proj": 1, "mlp.w12": 2, "mlp.w3": 1}
    in_text = {"attn.qkv": 3, "attn.proj": 1, "mlp.fc1": 1, "mlp.fc2": 1}
    assert parts == {
        **{f"vision.blocks.{block}.{name}.weight": count for block in (0, 1) for name, count in in_block.items()},
        **{f"text.blocks.0.{name}.weight": count for name, count in in_text.items()},
    }
    assert sorted([name for group in groups.values() for name in group]) == sorted(names.values())
    set_rates(optimizer, 0.1, 0.3)
    assert {group["name"]: group["weight_decay"] for group in optimizer.param_groups} == {MATRICES: 0.3, DECAYED: 0.3, "spared": 0.0}
    plain = make_optimizer(Student(recipe()), recipe().optimizer)
    assert {group["name"] for group in plain.param_groups} == {DECAYED, "spared"}


def test_beside_muon_adamw_takes_its_own_steps() -> None:
    ours, theirs, matrix = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(3, 2))
    mine = Muon({"params": [matrix], "parts": [1]}, [{"params": [ours]}], lr=0.01, momentum=0.95, betas=(0.9, 0.99), eps=1e-8)
    reference = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, fused=True)
    for step in range(3):
        ours.grad = torch.randn(5, generator=torch.Generator().manual_seed(step))
        theirs.grad, matrix.grad = ours.grad.clone(), torch.ones(3, 2)
        mine.step()
        reference.step()
    assert torch.equal(ours, theirs) and mine.state[ours].keys() == reference.state[theirs].keys()
