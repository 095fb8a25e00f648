"""The depth losses of `linear-dinov2-nyu` and `-kitti` and DINOv2's padding against what facebookresearch/dinov2 computes.

tests/parity/data/dinov2.npz, of commit b8931f7: SigLoss and GradientLoss (dinov2/eval/depth/models/losses), weighed as the released
configurations do it, over three groups of two images, and CenterPadding (dinov2/hub/utils.py).

Axes: B batch, H W pixels, h w token grid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tips_bench.cards import FeatureCard, ImageCard, load_card
from tips_bench.encoders.base import pad_to_patches
from tips_bench.encoders.load import load_encoder
from tips_bench.features.extract import Extractor
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.metrics.depth import DepthRule
from tips_bench.probes.pixel_targets import DepthTarget
from tips_bench.probes.trained.linear_depth import LinearBinsProbe
from tips_bench.probes.trained.pixel_losses import gradient_loss, log_residual

FILE = Path(__file__).parent / "data" / "dinov2.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(FILE) as data:
        return {name: torch.from_numpy(data[name]) for name in data.files}


@pytest.mark.parametrize("name", ["linear-dinov2-nyu", "linear-dinov2-kitti"])
@pytest.mark.parametrize(("part", "iteration"), [("warm", 0), ("after", 100)])
def test_the_losses_and_their_gradient_are_those_of_two_images_a_gpu(
    golden: dict[str, torch.Tensor], name: str, part: str, iteration: int
) -> None:
    options: dict[str, Any] = load_card("protocol", name).probe
    probe = LinearBinsProbe(options, "here", DepthTarget(DepthRule(max_depth=10.0)))
    depth_BHW = golden["depth"].clone().requires_grad_()
    together = probe.options.loss_images
    assert together == 2
    groups = zip(depth_BHW[:, None].split(together), golden["truth"].split(together), strict=True)
    loss = torch.stack([probe._losses(depth, truth, iteration) for depth, truth in groups]).mean()
    loss.backward()
    assert loss.item() == pytest.approx(golden[f"loss_{part}"].item(), rel=1e-5)
    wanted = golden[f"gradient_{part}"]
    assert depth_BHW.grad is not None and (depth_BHW.grad - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_the_gradient_loss_of_six_images_is_that_of_the_released_code(golden: dict[str, torch.Tensor]) -> None:
    residual_BHW = log_residual(golden["depth"], golden["truth"], 0.001)
    found = gradient_loss(residual_BHW, golden["truth"] > 0, "images")
    assert found.item() == pytest.approx(golden["gradientloss_of_6"].item(), rel=1e-5)


def test_images_are_padded_as_center_padding_does_it(golden: dict[str, torch.Tensor]) -> None:
    padded, _ = pad_to_patches(golden["image"][None], 14, "center")
    assert torch.equal(padded[0], golden["padded"])


def test_a_map_of_the_padded_image_is_stretched_to_the_image(golden: dict[str, torch.Tensor]) -> None:
    image, size = load_card("protocol", "linear-dinov2-nyu").image, (45, 61)
    extractor = Extractor(load_encoder("tips-tiny-random", device="cpu"), image, FeatureCard())
    assert image.fit == "stretch" and extractor.encode(golden["image"][None]).padding == extractor.padding(*size) == (0, 0, 0, 0)
    assert extractor.encode(golden["image"][None]).features_BhwD.shape[1:3] == (4, 5) == extractor.grid(*size)
    found = Upsampling.of((4, 5), extractor.padding(*size), Windows(size, size, (0,), (0,)), size)(golden["grid"])
    assert (found - golden["stretched"]).abs().max() < 1e-5
    cut = Extractor(extractor.encoder, ImageCard(short_side=None), FeatureCard()).padding(*size)
    assert cut == (4, 5, 5, 6)
