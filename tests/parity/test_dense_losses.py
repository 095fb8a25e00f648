"""Losses of depth and normals heads against the formulas written out pixel by pixel in float64, with gradients by differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tips_bench.probes.trained.pixel_losses import angular_loss, gradient_loss, log_residual, scale_invariant_loss

EPSILON = 0.001


def residuals(depth, truth):
    places = [place for place in np.ndindex(depth.shape) if truth[place] > 0]
    return {place: math.log(depth[place] + EPSILON) - math.log(truth[place] + EPSILON) for place in places}


def plain_scale_invariant(depth, truth, share):
    values = list(residuals(depth, truth).values())
    mean = sum(values) / len(values)
    return math.sqrt(sum(value**2 for value in values) / len(values) - share * mean**2)


def plain_gradient(depth, truth):
    total, known = 0.0, residuals(depth, truth)
    for stride in (1, 2, 4, 6):
        places = [place for place in known if place[1] % stride == 0 and place[2] % stride == 0]
        for image, row, column in places:
            for other in ((image, row + 2 * stride, column), (image, row, column + 2 * stride)):
                if other in known:
                    total += abs(known[image, row, column] - known[other]) / len(places)
    return total


def plain_gradient_between_images(depth, truth):
    """Differences of a batch along its first axis: 1fff822's evals/utils/losses.py:105-127 on [B,1,H,W], a pixel at a time."""
    total, known = 0.0, residuals(depth, truth)
    for stride in (1, 2, 4, 6):
        places = [place for place in known if place[0] % stride == 0]
        for image, row, column in places:
            if (image + 2 * stride, row, column) in known:
                total += abs(known[image, row, column] - known[image + 2 * stride, row, column]) / len(places)
    return total


def plain_angle(predicted, truth, known, kappa):
    total = 0.0
    for image, row, column in np.argwhere(known):
        a, b = predicted[image, :, row, column], truth[image, :, row, column]
        angle = math.acos(min(max(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -0.9999), 0.9999))
        if kappa is not None:
            raw = kappa[image, row, column]
            k = (raw if raw > 0 else math.exp(raw) - 1) + 1.01
            angle = k * angle + math.log(1 + math.exp(-k * math.pi)) - math.log(k**2 + 1)
        total += angle
    return total / known.sum()


def numeric_gradient(function, values, step=1e-6):
    """Central differences at a few entries: {flat index: slope}."""
    found = {}
    for index in np.random.default_rng(5).choice(values.size, size=min(12, values.size), replace=False):
        low, high = values.copy(), values.copy()
        low.flat[index] -= step
        high.flat[index] += step
        found[int(index)] = (function(high) - function(low)) / (2 * step)
    return found


def assert_same(ours, plain, values):
    """One value and one gradient. ours: tensor -> tensor. plain: array -> float."""
    tensor = torch.tensor(values, requires_grad=True)
    loss = ours(tensor)
    loss.backward()
    assert loss.item() == pytest.approx(plain(values), rel=1e-10, abs=1e-12)
    for index, slope in numeric_gradient(plain, values).items():
        assert tensor.grad.flatten()[index].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.fixture
def depths():
    """Predictions and truths of 3 images, some pixels unknown."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 9, size=(3, 14, 17))
    truth[rng.random(truth.shape) < 0.3] = 0
    return rng.uniform(0.1, 10, size=truth.shape), truth


@pytest.mark.parametrize("share", [0.0, 0.85, 1.0])
def test_the_scale_invariant_loss(depths, share):
    depth, truth = depths
    target = torch.tensor(truth)
    assert_same(
        lambda d: scale_invariant_loss(log_residual(d, target, EPSILON), target > 0, share),
        lambda d: plain_scale_invariant(d, truth, share),
        depth,
    )


def test_the_gradient_loss_compares_rows_and_columns_of_each_image_alone(depths):
    depth, truth = depths
    target = torch.tensor(truth)
    assert_same(lambda d: gradient_loss(log_residual(d, target, EPSILON), target > 0), lambda d: plain_gradient(d, truth), depth)
    for image in range(3):  # where the batch axis is sliced, a single image costs nothing
        alone = target[image : image + 1]
        assert gradient_loss(log_residual(torch.tensor(depth[image : image + 1]), alone, EPSILON), alone > 0) > 0


def test_the_gradient_loss_between_images_compares_those_two_apart_and_is_0_for_two():
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.5, 9, size=(7, 4, 5))
    truth[rng.random(truth.shape) < 0.3] = 0
    depth, target = rng.uniform(0.1, 10, size=truth.shape), torch.tensor(truth)
    assert_same(
        lambda d: gradient_loss(log_residual(d, target, EPSILON), target > 0, "images"),
        lambda d: plain_gradient_between_images(d, truth),
        depth,
    )
    two = log_residual(torch.tensor(depth[:2]), target[:2], EPSILON)
    assert gradient_loss(two, target[:2] > 0, "images") == 0


@pytest.mark.parametrize("uncertain", [False, True])
def test_the_angular_loss(uncertain):
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(2, 3, 5, 6))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    known = rng.random((2, 5, 6)) < 0.7
    outputs = rng.normal(size=(2, 4, 5, 6)) * 2
    target, mask = torch.tensor(truth), torch.tensor(known)
    assert_same(
        lambda o: angular_loss(o[:, :3], target, mask, o[:, 3] if uncertain else None),
        lambda o: plain_angle(o[:, :3], truth, known, o[:, 3] if uncertain else None),
        outputs,
    )


def test_a_batch_without_truth_and_a_perfect_one_have_finite_gradients(depths):
    depth, truth = depths
    for prediction, target in ((depth, np.zeros_like(truth)), (np.where(truth > 0, truth, 1), truth)):
        tensor, goal = torch.tensor(prediction, requires_grad=True), torch.tensor(target)
        residual = log_residual(tensor, goal, EPSILON)
        loss = scale_invariant_loss(residual, goal > 0, 0.85) + gradient_loss(residual, goal > 0)
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-6) and torch.isfinite(tensor.grad).all()
    normals = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = angular_loss(normals, normals.detach().clone(), torch.zeros(1, 4, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(normals.grad).all()
