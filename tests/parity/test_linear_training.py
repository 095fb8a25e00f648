"""The sweep of linear heads: its loss is torch's, its heads are those of separate runs, its schedule mmcv's."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tips_bench.cards import WindowCard
from tips_bench.features.geometry import CHUNK_ELEMENTS, Upsampling, Windows
from tips_bench.probes.trained.cross_entropy import upsampled_cross_entropy
from tips_bench.probes.trained.head_sweep import GridPoint, HeadSweep, optimizer
from tips_bench.probes.trained.schedules import lr_factor, momentum_after_warmup, one_cycle_momentum


def upsampling(size=24, grid=7, padding=(2, 2, 2, 2)):
    return Upsampling.of((grid, grid), padding, Windows.of((size, size), WindowCard()), (size, size))


def plain_loss(logits_BSChw, labels_BHW):
    """In float64, with all of the upsampled logits in memory."""
    flat = F.interpolate(logits_BSChw.double().flatten(0, 1), (28, 28), mode="bilinear")[..., 2:-2, 2:-2]
    pixels = flat.unflatten(0, logits_BSChw.shape[:2])
    sums = [F.cross_entropy(pixels[:, s], labels_BHW.long(), ignore_index=255, reduction="sum") for s in range(pixels.shape[1])]
    return torch.stack(sums) / labels_BHW.numel()


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_fused_loss_and_its_gradient_are_those_of_cross_entropy(scale, monkeypatch):
    monkeypatch.setitem(CHUNK_ELEMENTS, "cpu", 500)
    torch.manual_seed(0)
    logits = (torch.randn(2, 3, 6, 7, 7) * scale).requires_grad_()
    labels = torch.randint(0, 6, (2, 24, 24)).to(torch.uint8)
    labels[0, :5] = 255
    weights = torch.tensor([1.0, 0.3, 2.0])
    expected = plain_loss(logits, labels)
    (gradient,) = torch.autograd.grad((expected * weights).sum(), logits)
    found = upsampled_cross_entropy(logits, labels, upsampling())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad((found * weights).sum(), logits)[0], gradient, rtol=1e-4, atol=1e-7)


def stream(steps):
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        features = torch.randn(2, 7, 7, 10, generator=generator) * 3 + 1
        labels = torch.randint(0, 6, (2, 24, 24), generator=generator).to(torch.uint8)
        yield features, labels


def train(grid, steps=25, dropout=0.1):
    sweep = HeadSweep(len(grid), 10, 6, batch_norm=True, dropout=dropout, seed=5)
    adam = optimizer(sweep, grid, (0.9, 0.999))
    for iteration, (features, labels) in enumerate(stream(steps)):
        loss = upsampled_cross_entropy(sweep(features, iteration), labels, upsampling())
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
    return sweep


def test_heads_trained_together_are_those_trained_alone():
    grid = [GridPoint(lr, decay) for lr in (1e-3, 1e-2) for decay in (1e-4, 1e-1)]
    together = train(grid)
    for index, point in enumerate(grid):
        alone, shared = train([point]).head(0), together.head(index)
        torch.testing.assert_close(shared.weight_CD, alone.weight_CD, atol=1e-5, rtol=0)
        torch.testing.assert_close(shared.bias_C, alone.bias_C, atol=1e-5, rtol=0)


def test_a_head_is_what_torch_modules_train_to():
    point = GridPoint(1e-2, 1e-3)
    ours = train([point], dropout=0.0).head(0)
    start = HeadSweep(1, 10, 6, batch_norm=True, dropout=0.0, seed=5)
    norm, convolution = nn.BatchNorm2d(10), nn.Conv2d(10, 6, 1)
    with torch.no_grad():
        convolution.weight.copy_(start.weight[0][..., None, None])
        convolution.bias.zero_()
    adam = torch.optim.AdamW([*norm.parameters(), *convolution.parameters()], lr=point.lr, weight_decay=point.weight_decay)
    for features, labels in stream(25):
        logits = convolution(norm(features.permute(0, 3, 1, 2)))
        pixels = F.interpolate(logits, (28, 28), mode="bilinear")[..., 2:-2, 2:-2]
        adam.zero_grad()
        F.cross_entropy(pixels, labels.long()).backward()
        adam.step()
    norm.eval()
    features = next(stream(1))[0]
    torch.testing.assert_close(ours(features), convolution(norm(features.permute(0, 3, 1, 2))), atol=1e-4, rtol=1e-4)


def test_with_dropout_first_a_head_is_what_dinov3s_order_of_torch_modules_trains_to():
    """Dropout, BatchNorm, convolution in training, without dropout afterwards; features have a mean, so the order is seen."""
    ours = HeadSweep(1, 10, 6, batch_norm=True, dropout=0.1, dropout_first=True, seed=5)
    norm, convolution = nn.BatchNorm2d(10), nn.Conv2d(10, 6, 1)
    with torch.no_grad():
        convolution.weight.copy_(ours.weight[0][..., None, None])
        convolution.bias.zero_()
    point = GridPoint(1e-2, 1e-3)
    mine = optimizer(ours, [point], (0.9, 0.999))
    theirs = torch.optim.AdamW([*norm.parameters(), *convolution.parameters()], lr=point.lr, weight_decay=point.weight_decay)
    for iteration, (features, labels) in enumerate(stream(25)):
        mask = ours._mask(2, 10, iteration)[..., None, None]  # Dropout2d draws from torch's own state
        found, expected = ours(features, iteration), convolution(norm(features.permute(0, 3, 1, 2) * mask))
        torch.testing.assert_close(found[:, 0], expected, atol=1e-4, rtol=1e-4)
        mine.zero_grad()
        theirs.zero_grad()
        upsampled_cross_entropy(found, labels, upsampling()).sum().backward()
        pixels = F.interpolate(expected, (28, 28), mode="bilinear")[..., 2:-2, 2:-2]
        F.cross_entropy(pixels, labels.long()).backward()
        mine.step()
        theirs.step()
    norm.eval()
    features = next(stream(1))[0].permute(0, 3, 1, 2)
    torch.testing.assert_close(ours.head(0)(features.permute(0, 2, 3, 1)), convolution(norm(features)), atol=1e-4, rtol=1e-4)


def test_dropout_drops_whole_channels_and_keeps_their_mean():
    sweep = HeadSweep(1, 10000, 2, batch_norm=False, dropout=0.1, seed=0)
    mask = sweep._mask(2, 10000, 7)
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.9])
    assert float((mask == 0).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(mask, sweep._mask(2, 10000, 7)) and not torch.equal(mask, sweep._mask(2, 10000, 8))


def test_the_poly_schedule_is_that_of_torch_and_mmcv():
    parameter = nn.Parameter(torch.zeros(1))
    poly = torch.optim.lr_scheduler.PolynomialLR(torch.optim.SGD([parameter], lr=1.0), total_iters=400, power=1.0)
    for iteration in range(400):
        regular = poly.get_last_lr()[0]
        warm = regular * (1 - (1 - iteration / 15) * (1 - 1e-6)) if iteration < 15 else regular  # mmcv 1.x LrUpdaterHook.get_warmup_lr
        assert lr_factor("poly", iteration, 400, 15, 1e-6) == pytest.approx(warm, rel=1e-6, abs=1e-12)
        poly.optimizer.step()
        poly.step()


def test_the_cosine_schedule_is_that_of_torch():
    parameter = nn.Parameter(torch.zeros(1))
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([parameter], lr=1.0), T_max=385)
    for iteration in range(15, 400):
        assert lr_factor("cosine", iteration, 400, 15, 1e-6) == pytest.approx(cosine.get_last_lr()[0], rel=1e-6, abs=1e-9)
        cosine.optimizer.step()
        cosine.step()
    assert lr_factor("cosine", 0, 400, 15, 1e-6) == pytest.approx(1e-6)


def test_the_cosine_throughout_is_torchs_with_mmcvs_warm_up():
    parameter = nn.Parameter(torch.zeros(1))
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([parameter], lr=1.0), T_max=400)
    for iteration in range(400):
        regular = cosine.get_last_lr()[0]
        warm = regular * (1 - (1 - iteration / 130) * (1 - 1e-3)) if iteration < 130 else regular  # mmcv 1.x LrUpdaterHook.get_warmup_lr
        assert lr_factor("cosine-throughout", iteration, 400, 130, 1e-3) == pytest.approx(warm, rel=1e-6, abs=1e-9)
        cosine.optimizer.step()
        cosine.step()


def test_the_one_cycle_falls_from_its_warm_up_line_to_dinov3s_end():
    for iteration in (0, 7, 129):  # warm-up: a line from 1e-3 to 1 on one from 1 to 0
        rise = 1e-3 + (1 - 1e-3) * iteration / 130
        assert lr_factor("one-cycle", iteration, 400, 130, 1e-3) == pytest.approx(rise * (400 - iteration) / 400)
    for iteration in (0, 7, 129):  # without a ratio, the line is on a cosine
        rise = 1e-3 + (1 + math.cos(math.pi * iteration / 400)) / 2 * iteration / 130
        assert lr_factor("one-cycle", iteration, 400, 130, 0.0, 1 / 25e3) == pytest.approx(rise)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), 400, eta_min=1 / 25e3)
    for iteration in range(400):
        schedule.optimizer.step()
        schedule.step()
        if iteration >= 130:  # one iteration ahead
            assert lr_factor("one-cycle", iteration, 400, 130, 1e-3, 1 / 25e3) == pytest.approx(schedule.get_last_lr()[0], rel=1e-5)


def test_the_momentum_of_one_cycle_is_torchs():
    adam = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=1.0, total_steps=400, base_momentum=0.85, max_momentum=0.95)
    for iteration in range(400):
        assert one_cycle_momentum(iteration, 400, 0.85, 0.95) == pytest.approx(adam.param_groups[0]["betas"][0], abs=1e-12)
        if iteration < 399:
            adam.step()
            schedule.step()


def test_the_momentum_of_dinov3_is_zero_in_the_warm_up_and_rises_on_torchs_cosine():
    """dinov3/eval/depth/schedulers.py at commit 6876159: the annealing of torch, over what follows the warm-up."""
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.85), 270, eta_min=0.95)
    assert {momentum_after_warmup(iteration, 400, 130, 0.85, 0.95) for iteration in range(130)} == {0.0}
    for iteration in range(130, 400):
        assert momentum_after_warmup(iteration, 400, 130, 0.85, 0.95) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        schedule.optimizer.step()
        schedule.step()
