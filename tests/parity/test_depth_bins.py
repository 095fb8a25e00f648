"""Heads of depth bins: their depth, loss and gradients are those of plain torch in float64, their crops those of mmcv."""

import cv2
import mmcv
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tests.helpers.contexts import fitting
from tests.helpers.walls import Walls
from tips_bench.cards import FeatureCard, ImageCard, WindowCard, load_card
from tips_bench.data.crops.depth import DepthAugmentCard, DepthCrops, augment, rotate
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.metrics.depth import DepthRule
from tips_bench.probes.depth_bins import Bins, BinsHead
from tips_bench.probes.linear_head import LinearHead
from tips_bench.probes.pixel_targets import DepthTarget, NormalsTarget
from tips_bench.probes.trained.head_sweep import HeadSweep
from tips_bench.probes.trained.linear_depth import LinearBinsProbe

AUGMENT = {"rotate": 2.5, "rotate_share": 0.5, "flip": 0.5, "crop": [42, 42], "color_share": 0.5}
AUGMENT |= {"gamma": [0.9, 1.1], "brightness": [0.75, 1.25], "color": [0.9, 1.1]}
OPTIONS = {
    "type": "linear-bins",
    "iterations": 6,
    "batch_size": 2,
    "lr": [1e-3],
    "weight_decay": [0.01],
    "betas": [0.9, 0.999],
    "momentum": [0.85, 0.95],
    "clip": 35.0,
    "schedule": "cosine-throughout",
    "warmup": 2,
    "warmup_ratio": 1e-3,
    "batch_norm": False,
    "dropout": 0.0,
    "checkpoint_every": 2,
    "bins": 16,
    "min_depth": 0.001,
    "max_depth": 10.0,
    "floor": 0.1,
    "factor": 4,
    "initial": "torch",
    "epsilon": 0.001,
    "scale_weight": 0.15,
    "gradient_weight": 0.5,
    "loss_warmup": 3,
    "augment": AUGMENT,
}
TARGET = DepthTarget(DepthRule(max_depth=10.0))


def plain_depth(features_BDhw, weight_CD, bias_C, bins, enlarge=True):
    """As the published heads do it: enlarge the features, then convolve, then weigh the bins."""
    if enlarge:
        features_BDhw = F.interpolate(features_BDhw, scale_factor=bins.factor, mode="bilinear")
    logits_BCHW = F.conv2d(features_BDhw, weight_CD[..., None, None], bias_C)
    weights_BCHW = torch.relu(logits_BCHW) + bins.floor
    centers_C = torch.linspace(*bins.depths, len(bias_C), dtype=weights_BCHW.dtype)
    return torch.einsum("bchw,c->bhw", weights_BCHW / weights_BCHW.sum(1, keepdim=True), centers_C)


@pytest.mark.parametrize("factor", [1, 4])
def test_depth_at_patch_resolution_is_that_of_enlarged_features(factor):
    torch.manual_seed(0)
    features_BDhw, weight_CD, bias_C = torch.randn(2, 5, 3, 4), torch.randn(7, 5), torch.randn(7)
    bins = Bins((0.001, 10.0), 0.1, factor)
    head = BinsHead(LinearHead(weight_CD, bias_C), bins)
    found_N1hw = head(features_BDhw.permute(0, 2, 3, 1))
    expected = plain_depth(features_BDhw.double(), weight_CD.double(), bias_C.double(), bins)
    assert found_N1hw.shape == (2, 1, 3 * factor, 4 * factor)
    torch.testing.assert_close(found_N1hw[:, 0].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factor", [1, 3])
def test_the_gradient_of_the_depth_is_right(factor):
    torch.manual_seed(1)
    logits = torch.randn(2, 2, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Bins((0.5, 8.0), 0.1, factor).depth, logits)


def plain_loss(depth_BHW, truth_BHW, warm):
    """DINOv2's losses/sigloss.py, and its gradientloss.py with rows and columns where the paper means them, one pixel at a time."""
    known = truth_BHW > 0
    residual = torch.log(depth_BHW + 1e-3) - torch.log(truth_BHW + 1e-3)
    values = residual[known]
    scale = 0.15 * values.mean() ** 2
    loss = torch.sqrt(scale) if warm else torch.sqrt(values.var() + scale)
    total = 0.0
    for step in (1, 2, 4, 6):
        part, mask = residual[:, ::step, ::step], known[:, ::step, ::step]
        height, width = part.shape[1:]
        for image in range(len(part)):
            for y in range(height):
                for x in range(width):
                    for other_y, other_x in ((y + 2, x), (y, x + 2)):
                        if other_y < height and other_x < width and mask[image, y, x] and mask[image, other_y, other_x]:
                            total = total + (part[image, y, x] - part[image, other_y, other_x]).abs() / mask.sum()
    return loss + 0.5 * total


@pytest.mark.parametrize("iteration", [0, 3])
def test_the_loss_and_its_gradient_are_those_of_a_plain_version(iteration):
    torch.manual_seed(2)
    probe = LinearBinsProbe(OPTIONS, "here", TARGET)
    logits = torch.randn(2, 2, 16, 2, 2).requires_grad_()
    truth = torch.rand(2, 22, 20) * 5
    truth[0, :7] = 0
    padding = (4, 3, 4, 3)
    losses_S = probe.loss(logits, truth, padding, iteration)
    weights = torch.tensor([1.0, 0.3])
    (gradient,) = torch.autograd.grad((losses_S * weights).sum(), logits)
    wide = logits.detach().double().requires_grad_()
    expected = []
    for head in range(2):
        enlarged = F.interpolate(wide[:, head], scale_factor=4, mode="bilinear")
        shares = torch.relu(enlarged) + 0.1
        depth = torch.einsum("bchw,c->bhw", shares / shares.sum(1, keepdim=True), torch.linspace(0.001, 10.0, 16, dtype=torch.float64))
        padded = F.interpolate(depth[:, None], (28, 28), mode="bilinear")[:, 0]
        expected.append(plain_loss(padded[:, 3:-3, 4:-4], truth.double(), warm=iteration < 3))
    expected_S = torch.stack(expected)
    (wanted,) = torch.autograd.grad((expected_S * weights).sum(), wide)
    torch.testing.assert_close(losses_S.double(), expected_S, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-3, atol=1e-6)


def plain_groups(depth_BHW, truth_BHW, warm):
    """The mean over groups of two images, a GPU each, of DINOv2's losses/sigloss.py; its gradientloss.py is 0 for two images."""
    losses = []
    for first in range(0, len(depth_BHW), 2):
        depth, truth = depth_BHW[first : first + 2], truth_BHW[first : first + 2]
        residual = torch.log(depth[truth > 0] + 1e-3) - torch.log(truth[truth > 0] + 1e-3)
        scale = 0.15 * residual.mean() ** 2
        losses.append(torch.sqrt(scale) if warm else torch.sqrt(residual.var() + scale))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("iteration", [0, 3])
def test_losses_over_two_images_at_a_time_and_their_gradient_are_those_of_a_plain_version(iteration):
    torch.manual_seed(4)
    probe = LinearBinsProbe(OPTIONS | {"batch_size": 6, "loss_images": 2, "gradient_between": "images"}, "here", TARGET)
    logits, truth = torch.randn(6, 2, 16, 2, 2).requires_grad_(), torch.rand(6, 22, 20) * 5
    truth[0, :17], truth[3, :, :9] = 0, 0  # groups of different numbers of pixels
    losses_S = probe.loss(logits, truth, (0, 0, 0, 0), iteration)
    (gradient,) = torch.autograd.grad(losses_S.sum(), logits)
    wide = logits.detach().double().requires_grad_()
    expected = []
    for head in range(2):
        shares = torch.relu(F.interpolate(wide[:, head], scale_factor=4, mode="bilinear")) + 0.1
        depth = torch.einsum("bchw,c->bhw", shares / shares.sum(1, keepdim=True), torch.linspace(0.001, 10.0, 16, dtype=torch.float64))
        expected.append(plain_groups(F.interpolate(depth[:, None], (22, 20), mode="bilinear")[:, 0], truth.double(), iteration < 3))
    torch.testing.assert_close(losses_S.double(), torch.stack(expected), rtol=1e-5, atol=1e-6)
    (wanted,) = torch.autograd.grad(torch.stack(expected).sum(), wide)
    assert (gradient.double() - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_the_losses_of_dinov2s_cards_are_taken_over_two_images_at_a_time():
    for name in ("linear-dinov2-nyu", "linear-dinov2-kitti-4", "linear-dinov3-kitti"):
        options = LinearBinsProbe(load_card("protocol", name).probe, "here", TARGET).options
        assert (options.loss_images, options.batch_size, options.gradient_between) == (2, 16, "images")
    with pytest.raises(UserError, match="no multiple of loss_images"):
        LinearBinsProbe(OPTIONS | {"loss_images": 3}, "here", TARGET)


def test_the_torch_start_is_that_of_a_convolution():
    sweep, convolution = HeadSweep(1, 900, 50, batch_norm=False, dropout=0.0, seed=0, initial="torch"), nn.Conv2d(900, 50, 1)
    for ours, theirs in ((sweep.weight[0], convolution.weight), (sweep.bias[0], convolution.bias)):
        ours, theirs = ours.detach(), theirs.detach()
        assert float(ours.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=0.1)
        assert float(ours.mean()) == pytest.approx(0, abs=0.01)
        assert float(ours.std()) == pytest.approx(1 / 30 / 3**0.5, rel=0.2)


@given(st.floats(-2.5, 2.5), st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_a_rotation_is_mmcvs(degrees, seed):
    rng = np.random.default_rng(seed)
    image, depth = rng.integers(0, 256, (30, 41, 3), dtype=np.uint8), rng.random((30, 41), dtype=np.float32)
    assert np.array_equal(rotate(image, degrees, cv2.INTER_LINEAR), mmcv.imrotate(image, degrees))
    assert np.array_equal(rotate(depth, degrees, cv2.INTER_NEAREST), mmcv.imrotate(depth, degrees, interpolation="nearest"))


def test_crops_are_a_function_of_the_number_and_keep_image_and_depth_together():
    card = DepthAugmentCard(**AUGMENT)
    crops = DepthCrops(Walls("depth", unknown=0.0), card, list(range(12)), 0)
    first, again = crops.crop(17), DepthCrops(Walls("depth", unknown=0.0), card, list(range(12)), 0).crop(17)
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert {crops.crop(number)[1].tobytes() for number in range(12)} != {crops.crop(number)[1].tobytes() for number in range(12, 24)}
    plain = card.model_copy(update={"color_share": 0.0, "rotate_share": 0.0})
    coded = np.arange(60 * 50).reshape(60, 50)
    for seed in range(6):
        image, depth = augment(
            np.repeat(coded[..., None] % 251, 3, -1).astype(np.uint8), coded.astype(np.float32), plain, np.random.default_rng(seed)
        )
        assert image.shape == (42, 42, 3) and np.array_equal(image[..., 0], depth % 251)
        step = depth[0, 1] - depth[0, 0]
        assert abs(step) == 1 and np.array_equal(depth, depth[0, 0] + 50 * np.arange(42)[:, None] + step * np.arange(42))


def test_colours_change_as_the_toolbox_does():
    card = DepthAugmentCard(**AUGMENT | {"color_share": 1.0, "rotate_share": 0.0, "flip": 0.0, "crop": [4, 4]})
    image = np.full((4, 4, 3), 100, np.uint8)
    found, _ = augment(image, np.ones((4, 4), np.float32), card, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    rng.random(), rng.uniform(-2.5, 2.5), rng.random(), rng.integers(0, 1), rng.integers(0, 1), rng.random()
    gamma, brightness, color = rng.uniform(0.9, 1.1), rng.uniform(0.75, 1.25), rng.uniform(0.9, 1.1, size=3)
    assert found[0, 0] == pytest.approx(np.clip(100.0**gamma * brightness * color, 0, 255), rel=1e-6)


def test_a_box_cuts_the_frame_off_and_a_small_image_is_a_user_error():
    crops = DepthCrops(Walls("depth"), DepthAugmentCard(**AUGMENT | {"box": [3, 45, 5, 47]}), [0, 3], 0)
    assert crops.crop(0)[1].shape == (42, 42)
    with pytest.raises(UserError, match="smaller than the crop of 60x42"):
        DepthCrops(Walls("depth"), DepthAugmentCard(**AUGMENT | {"crop": [60, 42]}), [0], 0).crop(0)


def context(folder):
    extractor = Extractor(
        load_encoder("tips-tiny-random", device="cpu"), ImageCard(short_side=None), FeatureCard(norm=False, global_token=0), 2, workers=0
    )
    return fitting(extractor, Walls("depth"), folder, window=WindowCard(flip=True))


def test_a_grid_is_one_pass_and_its_heads_are_those_trained_alone(tmp_path):
    grid = OPTIONS | {"lr": [1e-4, 1e-2], "clip": 0.05}
    found = context(tmp_path / "grid")
    together = LinearBinsProbe(grid, "here", TARGET).fit(*found)
    assert together.choice.metric == "RMSE" and together.choice.index == int(np.argmin(together.choice.scores))
    assert found.extractor.meter.image_forwards == 6 * 2 + 2 * together.choice.held_out
    for lr, score in zip(grid["lr"], together.choice.scores, strict=True):
        head = LinearBinsProbe(grid | {"lr": [lr, lr]}, "here", TARGET).fit(*context(tmp_path / f"{lr}"))
        assert head.choice.scores == pytest.approx([score, score], rel=1e-5)


def test_a_saved_head_gives_the_same_depth(tmp_path):
    fit = LinearBinsProbe(OPTIONS, "here", TARGET).fit(*context(tmp_path / "work"))
    fit.head.save(tmp_path / "head.npz")
    loaded, features = LinearBinsProbe(OPTIONS, "here", TARGET).load(tmp_path / "head.npz"), torch.randn(1, 3, 4, 384)
    assert torch.equal(loaded(features), fit.head(features))
    (tmp_path / "head.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match="broken"):
        BinsHead.load(tmp_path / "head.npz")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"max_depth": 0.0005}, "not below"), ({"bins": 1}, "probe.bins"), ({"augment": AUGMENT | {"gamma": [2, 1]}}, "least, greatest")],
)
def test_wrong_options_are_one_sentence(options, words):
    with pytest.raises(UserError, match=words):
        LinearBinsProbe(OPTIONS | options, "here", TARGET)


def test_bins_of_depth_are_not_for_normals():
    with pytest.raises(UserError, match="predicts depth"):
        LinearBinsProbe(OPTIONS, "here", NormalsTarget())
