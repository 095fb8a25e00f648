"""Inference at several scales and mirrored is the mean over views, computed here with torch's own interpolation."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.helpers.walls import Walls
from tips_bench.cards import FeatureCard, ImageCard, WindowCard
from tips_bench.data.base import SegmentationSample
from tips_bench.encoders.load import load_encoder
from tips_bench.features.extract import Extractor
from tips_bench.features.inference import Inference
from tips_bench.features.memory import FeatureMemory
from tips_bench.probes.linear_head import LinearHead
from tips_bench.probes.pixel_targets import NormalsTarget

VIEWS = WindowCard(scales=[1.0, 1.5], flip=True)


class Labeled(Walls):
    """Walls with label maps in place of depth."""

    def load(self, index):
        sample = super().load(index)
        labels_HW = (np.arange(sample.depth_HW.size) % 3).reshape(sample.depth_HW.shape).astype(np.uint8)
        return SegmentationSample(sample.id, sample.group, sample.image_HW3, labels_HW)


def extractor(batch_size=3):
    return Extractor(
        load_encoder("tips-tiny-random", device="cpu"), ImageCard(short_side=56, patch_multiple=True), FeatureCard(), batch_size
    )


def head(channels):
    torch.manual_seed(0)
    return LinearHead(torch.randn(channels, 192) / 5, torch.randn(channels))


def maps(found, image_HW3, weights, unmirror):
    """[V,T,H,W] of every view, with torch's own upsampling."""
    seen = []
    for scale in (1.0, 1.5):
        pixels_3HW = found.pixels(image_HW3, scale)
        for mirrored in (False, True):
            features_1hwD = found.encode((pixels_3HW.flip(-1) if mirrored else pixels_3HW)[None]).features_BhwD
            inner = F.interpolate(weights(features_1hwD), tuple(pixels_3HW.shape[-2:]), mode="bilinear")
            outer = F.interpolate(inner, image_HW3.shape[:2], mode="bilinear")[0]
            seen.append(unmirror(outer) if mirrored else outer)
    return torch.stack(seen)


def test_values_are_the_mean_over_views_and_a_normal_turns_with_its_mirror_image():
    reader, weights, target = Walls("normals", images=4), head(3), NormalsTarget()

    def unmirror(values_THW):
        return values_THW.flip(-1) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]

    inference, plain = Inference(extractor(), VIEWS), extractor()
    indices = []
    for found in inference.values(reader, [0, 1, 2, 3], [weights], target.unmirror):
        expected = maps(plain, found.sample.image_HW3, weights, unmirror).mean(0)
        torch.testing.assert_close(found.values_STHW[0], expected, rtol=1e-4, atol=1e-4)
        indices.append(found.index)
    assert sorted(indices) == [0, 1, 2, 3] and inference.extractor.meter.image_forwards == 4 * 4


def test_classes_are_those_of_the_mean_probability():
    reader, weights, plain = Labeled("depth", images=3), head(5), extractor()
    for found in Inference(extractor(), VIEWS).predict(reader, [0, 1, 2], [weights]):
        shares = maps(plain, found.sample.image_HW3, weights, lambda values: values.flip(-1)).softmax(1).mean(0)
        top = shares.topk(2, dim=0).values
        clear = (top[0] - top[1] > 1e-4).numpy()
        assert np.array_equal(found.predicted_SHW[0][clear], shares.argmax(0).numpy()[clear]) and clear.mean() > 0.9


def test_a_cache_keeps_every_view(tmp_path):
    reader, weights, runs = Walls("depth", images=4), head(1), []
    for expected in (16, 0):
        memory = FeatureMemory(tmp_path, torch.float32)
        inference = Inference(replace(extractor(), memory=memory), VIEWS)
        found = {each.index: each.values_STHW for each in inference.values(reader, [0, 1, 2, 3], [weights])}
        assert inference.extractor.meter.image_forwards == expected
        memory.close()
        runs.append(found)
    for index in range(4):
        torch.testing.assert_close(runs[0][index], runs[1][index])


def test_windows_and_views_go_together():
    reader, weights = Walls("depth", images=2), head(2)
    card = WindowCard(mode="slide", window=42, stride=28, scales=[1.0, 2.0], flip=True)
    whole = {found.index: found.values_STHW for found in Inference(extractor(), VIEWS).values(reader, [0, 1], [weights])}
    for found in Inference(extractor(), card).values(reader, [0, 1], [weights]):
        assert found.values_STHW.shape == whole[found.index].shape and torch.isfinite(found.values_STHW).all()


@pytest.mark.slow
def test_windows_are_held_for_a_few_images_at_a_time(monkeypatch):
    """All windows at all scales of a batch of 32 images of ADE20K are a hundred gigabytes of features of a ViT-B."""
    reader, weights = Walls("depth", images=6), head(2)
    card = WindowCard(mode="slide", window=42, stride=28, scales=[1.0, 2.0], flip=True)
    many, held = Inference(extractor(batch_size=8), card), []
    viewed = Inference._viewed
    monkeypatch.setattr(Inference, "_viewed", lambda self, samples, pixels: held.append(len(samples)) or viewed(self, samples, pixels))
    found = {each.index: each.values_STHW for each in many.values(reader, list(range(6)), [weights])}
    assert max(held) < 6 and sum(held) == 6
    for each in Inference(extractor(batch_size=1), card).values(reader, list(range(6)), [weights]):
        torch.testing.assert_close(found[each.index], each.values_STHW)
    assert Inference(extractor(batch_size=8), WindowCard())._images_together((56, 56)) >= 8


@pytest.mark.parametrize("scales", [[], [0.0], [-1.0]])
def test_scales_are_positive(scales):
    with pytest.raises(ValueError, match="scales"):
        WindowCard(scales=scales)


def test_one_view_is_the_card_without_views():
    assert dataclasses.is_dataclass(Inference) and WindowCard().scales == [1.0] and not WindowCard().flip


def test_a_scaled_short_side_is_cut_to_whole_pixels_as_mmcv_does() -> None:
    """640 x 1.32 = 844.8: mmcv 1.x's MultiScaleFlipAug takes 844."""
    card = ImageCard(short_side=640)
    found = Extractor(load_encoder("tips-tiny-random", device="cpu"), card, FeatureCard(), 1)
    assert [found.inner_size(640, 640, scale) for scale in (1.0, 1.32, 1.73, 2.28, 3.0)] == [(n, n) for n in (640, 844, 1107, 1459, 1920)]
