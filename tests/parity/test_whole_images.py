"""What a whole image becomes before it meets an encoder, against torchvision's transforms, which DINOv2 and open_clip use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from tests.helpers.segmentation_sets import picture
from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.encoders.load import load_encoder
from tips_bench.features.extract import Extractor

ENCODER = load_encoder("pixels")
BICUBIC = transforms.InterpolationMode.BICUBIC


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 700), st.integers(20, 700), st.sampled_from([(256, 224), (64, 56), (57, 42), (64, None)]))
def test_pixels_are_those_of_resize_and_center_crop(height: int, width: int, sides: tuple[int, int | None]) -> None:
    short_side, crop = sides
    card = ImageCard(short_side=short_side, shape="center-crop", crop=crop, interpolation="bicubic", library="torchvision")
    image_HW3 = picture(height * 1000 + width, height, width)
    steps = [transforms.Resize(short_side, interpolation=BICUBIC), transforms.CenterCrop(crop or short_side), transforms.ToTensor()]
    theirs_3HW = transforms.Compose(steps)(Image.fromarray(image_HW3))
    extractor = Extractor(ENCODER, card, FeatureCard())
    assert extractor.inner_size(height, width) == tuple(theirs_3HW.shape[1:])
    assert torch.equal(extractor.pixels(image_HW3), theirs_3HW)


@pytest.mark.parametrize("values", [{"crop": 224}, {"shape": "center-crop", "crop": 300}])
def test_a_crop_that_no_image_has_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="crop needs shape center-crop or square, and must not be greater than short_side"):
        ImageCard(short_side=256, **values)


def test_a_card_without_a_crop_takes_the_short_side() -> None:
    extractor = Extractor(ENCODER, ImageCard(short_side=56, shape="center-crop"), FeatureCard())
    assert extractor.pixels(np.zeros((80, 100, 3), np.uint8)).shape == (3, 56, 56)
