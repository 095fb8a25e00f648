"""The parts of `linear-dinov3`, `-nyu` and `-kitti` against what facebookresearch/dinov3 computes on the same images and arrays.

tests/parity/data/dinov3.npz, of commit 6876159: numbers of WarmupOneCycleLR as its two training loops step it (eval/*/schedulers.py,
eval/segmentation/train.py:117-136, eval/depth/train.py:76-120), SigLoss and MultiSegmentationLoss (eval/*/loss.py), the transforms of
segmentation (eval/segmentation/transforms.py) for twelve random states, rotation and colors of depth (eval/depth/transforms.py), the linear
head, FeaturesToDepth, calculate_depth_metrics and the sliding make_inference.

Axes: B batch, H W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tips_bench.cards import ProtocolCard, WindowCard, load_card
from tips_bench.data.crops.depth import DepthAugmentCard, rotate
from tips_bench.data.crops.segmentation import AugmentCard
from tips_bench.data.crops.segmentation_pillow import augment
from tips_bench.data.images import resize, resize_shape
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.metrics.depth import DepthRule, count, summary
from tips_bench.probes.depth_bins import Bins
from tips_bench.probes.pixel_targets import DepthTarget
from tips_bench.probes.trained.cross_entropy import upsampled_cross_entropy
from tips_bench.probes.trained.head_sweep import HeadSweep
from tips_bench.probes.trained.linear_depth import LinearBinsProbe
from tips_bench.probes.trained.linear_segmentation import LinearProbe
from tips_bench.probes.trained.pixel_losses import log_residual, scale_invariant_loss
from tips_bench.probes.trained.schedules import lr_factor, momentum_after_warmup

FILE = Path(__file__).parent / "data" / "dinov3.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(FILE) as data:
        return {name: data[name] for name in data.files}


def card(name: str) -> ProtocolCard:
    found: ProtocolCard = load_card("protocol", name)
    return found


def test_the_rates_of_segmentation_are_those_of_its_training_loop(golden: dict[str, np.ndarray]) -> None:
    options = LinearProbe(card("linear-dinov3").probe, "here").options
    assert (options.warmup, options.lag, options.momentum) == (1500, 1, None)
    wanted = golden["segmentation_rates"][:, 0]
    at = [max(0, iteration - options.lag) for iteration in range(len(wanted))]
    found = [lr_factor(options.schedule, iteration, 400, 15, options.warmup_ratio, options.end) for iteration in at]
    assert np.abs(found - wanted).max() < 1e-12


@pytest.mark.parametrize("name", ["linear-dinov3-nyu", "linear-dinov3-kitti"])
def test_the_rates_and_first_betas_of_depth_are_those_of_its_training_loop(golden: dict[str, np.ndarray], name: str) -> None:
    options = LinearBinsProbe(card(name).probe, "here", DepthTarget(DepthRule(max_depth=10.0))).options
    assert (options.warmup, options.iterations, options.lag, options.betas[1]) == (12800, 38400, 0, 0.99) and options.momentum
    wanted = golden["depth_rates"]
    found = [lr_factor(options.schedule, iteration, 384, 128, options.warmup_ratio, options.end) for iteration in range(384)]
    assert np.abs(found - wanted[:, 0]).max() < 1e-12
    betas = [momentum_after_warmup(iteration, 384, 128, *options.momentum) for iteration in range(384)]
    assert np.abs(betas - wanted[:, 1]).max() < 1e-12


@pytest.mark.parametrize(("name", "iteration"), [("warm", 0), ("after", 100)])
def test_the_loss_of_depth_and_its_gradient_are_those_of_groups_of_two_images(
    golden: dict[str, np.ndarray], name: str, iteration: int
) -> None:
    options: dict[str, Any] = card("linear-dinov3-nyu").probe
    probe = LinearBinsProbe(options, "here", DepthTarget(DepthRule(max_depth=10.0)))
    depth_BHW = torch.from_numpy(golden["depth"]).requires_grad_()
    truth_BHW = torch.from_numpy(golden["truth"])
    parts = zip(depth_BHW[:, None].split(2), truth_BHW.split(2), strict=True)
    loss = torch.stack([probe._losses(depth, truth, iteration) for depth, truth in parts]).mean()
    (gradient,) = torch.autograd.grad(loss, depth_BHW)
    assert probe.options.loss_images == 2
    assert loss.item() == pytest.approx(float(golden[f"sigloss_{name}"]), rel=1e-6)
    wanted = torch.from_numpy(golden[f"sigloss_{name}_gradient"])
    assert (gradient - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_groups_are_another_loss_than_the_batch(golden: dict[str, np.ndarray]) -> None:
    truth_BHW = torch.from_numpy(golden["truth"])
    residual_BHW = log_residual(torch.from_numpy(golden["depth"]), truth_BHW, 0.001)
    whole = scale_invariant_loss(residual_BHW, truth_BHW > 0, 0.85, correction=1)
    assert abs(whole.item() - float(golden["sigloss_after"])) > 1e-4


def test_the_loss_of_segmentation_counts_ignored_pixels(golden: dict[str, np.ndarray]) -> None:
    logits, labels = torch.from_numpy(golden["logits"]), torch.from_numpy(golden["labels"])
    upsampling = Upsampling.of((9, 11), (0, 0, 0, 0), Windows((9, 11), (9, 11), (0,), (0,)), (9, 11))
    assert upsampled_cross_entropy(logits[:, None], labels, upsampling).item() == pytest.approx(float(golden["cross_entropy"]), rel=1e-6)


def test_twelve_crops_are_the_same_to_the_last_bit(golden: dict[str, np.ndarray]) -> None:
    options = LinearProbe(card("linear-dinov3").probe, "here").options.augment
    assert options.library == "pillow"
    small = AugmentCard.model_validate(options.model_dump() | {"crop_size": 40, "short_side": 40})
    labels_HW = np.where(golden["stored_labels"] == 0, 255, golden["stored_labels"].astype(int) - 1).astype(np.uint8)
    for seed in range(12):
        pixels, labels = augment(golden["image"], labels_HW, small, np.random.RandomState(seed))
        height, width = labels.shape
        assert np.array_equal(golden["crop_labels"][seed], F.pad(labels, (0, 40 - width, 0, 40 - height), value=255).numpy())
        assert np.abs(golden["crops"][seed][:, :height, :width] - pixels.numpy()).max() < 2e-3  # normalized and back
    assert sum((golden["crop_labels"][seed][-1] == 255).all() for seed in range(12)) > 0  # some were padded


def test_an_image_is_resized_for_scoring_as_there(golden: dict[str, np.ndarray]) -> None:
    image_HW3 = golden["image"]
    assert card("linear-dinov3").image.library == "pillow"
    shape = resize_shape(*image_HW3.shape[:2], 33, library="pillow")
    assert np.array_equal(resize(image_HW3, shape, "bilinear", "pillow").transpose(2, 0, 1), golden["resized"])


def test_colors_of_depth_are_those_of_the_card(golden: dict[str, np.ndarray]) -> None:
    augment_card = DepthAugmentCard.model_validate(card("linear-dinov3-nyu").probe["augment"])
    random = np.random.RandomState(5)
    random.rand()
    gamma, brightness = random.uniform(*augment_card.gamma), random.uniform(*augment_card.brightness)
    factors = random.uniform(*augment_card.color, size=3)
    found = np.clip(golden["image"].astype(np.float32) ** gamma * brightness * factors, 0, 255) / 255
    assert np.abs(found.transpose(2, 0, 1) - golden["colored"]).max() < 1e-5


def test_a_turned_image_differs_by_rounding_and_its_depth_not_at_all(golden: dict[str, np.ndarray]) -> None:
    inside = (slice(3, -3), slice(3, -3))
    image = rotate(golden["image"], -float(golden["angle"]), cv2.INTER_LINEAR).transpose(2, 0, 1) / 255
    assert np.abs(image - golden["rotated"])[(slice(None), *inside)].max() * 255 < 0.5 + 1e-3
    depth = rotate(golden["plain_depth"], -float(golden["angle"]), cv2.INTER_NEAREST)
    assert np.array_equal(depth[inside], golden["rotated_depth"][inside])


def test_sizes_follow_the_patches() -> None:
    from tips_bench.evaluation.patch_sizes import for_patches

    applied = for_patches(card("linear-dinov3"), 14)
    augment_card = applied.probe["augment"]
    assert (applied.image.short_side, applied.inference.window, applied.inference.stride) == (448, 448, 298)
    assert (augment_card["crop_size"], augment_card["short_side"], augment_card["ratio"]) == (448, 448, [0.5, 2.0])
    assert for_patches(card("linear-dinov3"), 16) == card("linear-dinov3")
    assert for_patches(card("linear-dinov2"), 16) == card("linear-dinov2")


def test_a_trained_head_gives_the_logits_of_its_head_in_evaluation(golden: dict[str, np.ndarray]) -> None:
    sweep = HeadSweep(1, 10, 6, batch_norm=True, dropout=0.1, dropout_first=True, seed=0)
    names = {"weight.0": "conv.weight", "bias.0": "conv.bias", "scale.0": "batchnorm_layer.weight", "shift.0": "batchnorm_layer.bias"}
    names |= {"running_mean": "batchnorm_layer.running_mean", "running_var": "batchnorm_layer.running_var"}
    sweep.load_state_dict({ours: torch.from_numpy(golden[f"head/{theirs}"]).squeeze() for ours, theirs in names.items()})
    logits = sweep.head(0)(torch.from_numpy(golden["head_features"]).permute(0, 2, 3, 1))
    found = Upsampling.of((4, 5), (0, 0, 0, 0), Windows((33, 41), (33, 41), (0,), (0,)), (33, 41))(logits)
    assert np.abs(found.numpy() - golden["head_logits"]).max() < 1e-5


def test_outputs_become_the_depth_of_its_bins(golden: dict[str, np.ndarray]) -> None:
    options = LinearBinsProbe(card("linear-dinov3-nyu").probe, "here", DepthTarget(DepthRule(max_depth=10.0))).options
    bins = Bins((options.min_depth, options.max_depth), options.floor, options.factor)
    found = bins.depth(torch.from_numpy(golden["bin_outputs"])[:, None])
    assert np.abs(found[:, 0].numpy() - golden["bin_depth"]).max() < 1e-5


def test_the_metrics_of_depth_are_those_of_its_evaluation(golden: dict[str, np.ndarray]) -> None:
    names = ("delta1", "delta2", "delta3", "AbsRel", "RMSE", "log10", "RMSE_log", "SILog", "SqRel")
    sums = count(golden["metric_prediction"], golden["metric_truth"], DepthRule(max_depth=10.0))
    found = summary(sums)
    scale = np.array([100, 100, 100, 1, 1, 1, 1, 1, 1])
    assert np.allclose([float(found[name]) for name in names], golden["metric_values"][:9] * scale, rtol=1e-5)


def test_windows_give_the_logits_of_its_sliding_inference(golden: dict[str, np.ndarray]) -> None:
    image, weight = torch.from_numpy(golden["slide_image"]), torch.from_numpy(golden["slide_weight"])
    windows = Windows.of((64, 83), WindowCard(mode="slide", window=32, stride=21))
    tokens = F.avg_pool2d(windows.cut(image), 8)
    logits = windows.mosaic(torch.einsum("cd,ndhw->nchw", weight, tokens))
    found = Upsampling.of((4, 4), (0, 0, 0, 0), windows, (50, 70))(logits)
    assert np.abs(found.numpy() - golden["slide_logits"]).max() < 1e-5
