"""The losses and a whole step, beside plain versions in float64: full matrices, one pass a view, nothing merged or made in pieces."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from tests.helpers.pretraining import ALONE, random_batch, recipe
from tips_bench.models.vision import VisionTower
from tips_bench.training.batches import Batch
from tips_bench.training.contrastive import contrastive_loss
from tips_bench.training.prototypes import Center, Temperatures, prototype_loss
from tips_bench.training.step import Learner
from tips_bench.training.teacher import Teacher


def unit_rows(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1).requires_grad_()


def plain_contrastive(image: Tensor, text: Tensor, temperature: Tensor) -> Tensor:
    logits, own = image @ text.T / temperature, torch.arange(len(image))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@settings(max_examples=40, deadline=None)
@given(pairs=st.integers(1, 17), chunk=st.integers(1, 20), temperature=st.floats(0.004, 2.0), seed=st.integers(0, 99))
def test_the_chunked_contrastive_loss_and_its_gradients_equal_the_full_matrix(
    pairs: int, chunk: int, temperature: float, seed: int
) -> None:
    made = [unit_rows(pairs, 8, seed=seed), unit_rows(pairs, 8, seed=seed + 100)]
    made.append(torch.tensor(temperature, dtype=torch.float64, requires_grad=True))
    found, wanted = contrastive_loss(*made, chunk=chunk), plain_contrastive(*made)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    for a, b in zip(torch.autograd.grad(3 * found, made), torch.autograd.grad(3 * wanted, made), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_the_chunked_contrastive_loss_in_float32_is_within_1e_5_of_float64() -> None:
    made = [unit_rows(64, 32, seed=0), unit_rows(64, 32, seed=1), torch.tensor(0.07, dtype=torch.float64, requires_grad=True)]
    small = [value.detach().float().requires_grad_() for value in made]
    found, wanted = contrastive_loss(*small, chunk=10), plain_contrastive(*made)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-5)
    for a, b in zip(torch.autograd.grad(found, small), torch.autograd.grad(wanted, made), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


def plain_prototype_loss(view: Tensor, weight: Tensor, target: Tensor, target_weight: Tensor, mean: Tensor, rows: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for n in range(len(view)):
        teacher = torch.softmax((target_weight @ target[n] - mean) / 0.05, dim=0).detach()
        for m in range(view.shape[1]):
            total = total - rows[n] / view.shape[1] * (teacher * torch.log_softmax(weight @ view[n, m] / 0.1, dim=0)).sum()
    return total


@pytest.mark.parametrize("piece_values", [1, 100, 10_000])
@pytest.mark.parametrize("views", [1, 3])
def test_the_loss_over_prototypes_in_pieces_equals_the_one_written_out(piece_values: int, views: int) -> None:
    view, weight = unit_rows(7, views, 5, seed=0), unit_rows(11, 5, seed=1)
    target, target_weight = unit_rows(7, 5, seed=2).detach(), unit_rows(11, 5, seed=3).detach()
    center = Center(11, momentum=0.9).double()
    center.mean_C.copy_(torch.linspace(-0.2, 0.2, 11))
    rows = torch.linspace(0.5, 2.0, 7, dtype=torch.float64)
    before = center.mean_C.clone()
    found = prototype_loss(view, weight, target, target_weight, center, Temperatures(0.1, 0.05), rows, piece_values)
    wanted = plain_prototype_loss(view, weight, target, target_weight, before, rows)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    for a, b in zip(torch.autograd.grad(2 * found, [view, weight]), torch.autograd.grad(2 * wanted, [view, weight]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    notes = center.move()
    scores = target @ target_weight.T
    torch.testing.assert_close(center.mean_C, 0.9 * before + 0.1 * scores.mean(dim=0))
    said = torch.softmax((scores - before) / 0.05, dim=1)
    assert notes["entropy"].item() == pytest.approx(-(said * said.log()).sum(dim=1).mean().item())
    assert notes["mean_entropy"].item() == pytest.approx(-(said.mean(0) * said.mean(0).log()).sum().item())


# --- a whole step ---------------------------------------------------------------------------------------------------------------------


def plain_head(head: Any, x: Tensor) -> Tensor:
    """Scores: GELU between linear maps, unit length, times prototypes of unit length, times gains."""
    for index, layer in enumerate(head.layers):
        x = x @ layer.weight.T + layer.bias
        if index < len(head.layers) - 1:
            x = x * (1 + torch.erf(x / math.sqrt(2))) / 2
    x = x / x.norm(dim=-1, keepdim=True)
    return x @ (head.prototypes / head.prototypes.norm(dim=1, keepdim=True)).T * head.gain


def plain_teaching(student: Tensor, teacher: Tensor, center: Tensor, teacher_temperature: float) -> Tensor:
    """One number a row."""
    said = torch.softmax((teacher - center) / teacher_temperature, dim=-1).detach()
    return -(said * torch.log_softmax(student / 0.1, dim=-1)).sum(dim=-1)


def plain_sight(tower: VisionTower, pixels: Tensor, window: Tensor | None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Global tokens and patches; with windows image by image, in a tower whose table of positions is no more than that image's window."""
    if window is None:
        whole = tower(pixels, mask_BP=mask)
        return whole.globals_BKD, whole.patches[0].flatten(1, 2)
    rows, columns = tower.config.position_grid
    side = pixels.shape[-1] // tower.config.patch_size
    small = VisionTower(replace(tower.config, position_grid=(side, side))).double()
    seen = []
    for b, (top, left) in enumerate(window.tolist()):
        table = tower.pos_embed[0, 1:].reshape(rows, columns, -1)[top : top + side, left : left + side].reshape(side * side, -1)
        own = dict(tower.named_parameters()) | {"pos_embed": torch.cat([tower.pos_embed[:, :1], table[None]], dim=1)}
        seen.append(functional_call(small, own, (pixels[b : b + 1],), {"mask_BP": None if mask is None else mask[b : b + 1]}))
    return torch.cat([one.globals_BKD for one in seen]), torch.cat([one.patches[0].flatten(1, 2) for one in seen])


def plain_losses(learner: Learner, batch: Batch, kind: str, patches: str, warm: float) -> dict[str, Tensor]:
    student, teacher = learner.student, learner.teacher
    assert isinstance(teacher, Teacher)
    window, *local_windows = batch.windows or [None] * (1 + len(batch.locals))
    pixels = batch.global_B3HW.double()
    whole, whole_patches = plain_sight(student.vision, pixels, window)
    image = F.normalize(whole, dim=-1)
    temperature = student.log_temperature.exp().squeeze()
    losses = {}
    for k, texts in enumerate(batch.texts):
        text = F.normalize(student.text(texts.ids_BL, texts.paddings_BL), dim=-1)
        losses[f"contrastive/{k}"] = plain_contrastive(image[:, k], text, temperature)
    losses["contrastive"] = (losses["contrastive/0"] + losses["contrastive/1"]) / 2
    target, target_patches = plain_sight(teacher.vision, pixels, window) if kind == "ema" else (whole, whole_patches)
    said = plain_head(teacher.heads["self_distillation"], target[:, 0])
    rows = [
        plain_teaching(
            plain_head(student.heads["self_distillation"], plain_sight(student.vision, crop.double(), place)[0][:, 0]),
            said,
            teacher.centers["self_distillation"].mean_C,
            warm,
        )
        for crop, place in zip(batch.locals, local_windows, strict=True)
    ]
    losses["self_distillation"] = torch.stack(rows).mean()
    assert batch.mask_BP is not None
    masked = plain_sight(student.vision, pixels, window, batch.mask_BP)[1]
    said_BPC = plain_head(teacher.heads["patches"], target_patches)
    loss_BP = plain_teaching(plain_head(student.heads["patches"], masked), said_BPC, teacher.centers["patches"].mean_C, warm)
    if patches == "masked":
        per_image = [loss_BP[b][batch.mask_BP[b]].mean() for b in range(len(loss_BP))]
        losses["patches"] = torch.stack(per_image).mean()
    else:
        losses["patches"] = loss_BP.mean()
    losses["loss"] = losses["contrastive"] + losses["self_distillation"] + 2 * losses["patches"]
    return losses


@pytest.mark.parametrize("micro_batch", [None, 3])
@pytest.mark.parametrize(("kind", "patches"), [("ema", "masked"), ("ema", "all"), ("ema-heads", "all"), ("ema-heads", "masked")])
@pytest.mark.parametrize("table", [0, 7])
def test_a_steps_losses_and_gradients_equal_a_plain_step(kind: str, patches: str, micro_batch: int | None, table: int) -> None:
    chosen = recipe(
        method__teacher={"kind": kind, "momentum": [0.9, 1.0]},
        method__patches__patches=patches,
        running={"micro_batch": micro_batch, "text_groups": 3},
        model__positions="window" if table else "interpolated",
        model__vision__position_grid=[table or 4] * 2,
    )
    learner = Learner(chosen, ALONE)
    learner.student.double()
    assert learner.teacher is not None
    learner.teacher.double()
    for center in learner.teacher.centers.values():
        center.mean_C.copy_(torch.linspace(-0.1, 0.1, 64))
    batch = random_batch(images=7, table=table, shortest=3)
    assert batch.mask_BP is not None
    batch.mask_BP[0, :5] = True  # images need not have as many masked patches as each other
    found = learner._backward(batch, 2)
    warm = 0.04 + (0.07 - 0.04) * 2 / (0.3 * 20)
    wanted = plain_losses(learner, batch, kind, patches, warm)
    for name, value in wanted.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-6, abs=1e-9), name
    trained = {name: parameter for name, parameter in learner.student.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad(wanted["loss"], list(trained.values()), allow_unused=True)
    for (name, parameter), gradient in zip(trained.items(), gradients, strict=True):
        assert parameter.grad is not None and gradient is not None, name
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}")
