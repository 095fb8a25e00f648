"""Images at the encoder's own resolution, where a protocol asks for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tips_bench import load_encoder
from tips_bench.cards import FeatureCard, ImageCard, load_card, parse
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor


@pytest.mark.parametrize(
    ("name", "size"), [("retrieval-tips", (224, 224)), ("retrieval-clip", (224, 224)), ("retrieval-squash", (224, 224))]
)
def test_a_protocol_takes_the_side_from_the_encoders_card(name, size):
    encoder = load_encoder("tips-tiny-random", device="cpu")
    assert encoder.spec.resolution == 224
    extractor = Extractor(encoder, load_card("protocol", name).image, FeatureCard())
    assert extractor.inner_size(300, 500) == size


def test_the_aspect_may_be_kept():
    image = ImageCard(short_side=None, native=True, shape="aspect")
    assert Extractor(load_encoder("tips-tiny-random", device="cpu"), image, FeatureCard()).inner_size(448, 896) == (224, 448)


def test_a_side_that_is_no_whole_number_of_patches_may_be_cut():
    image = ImageCard(short_side=60, shape="square", library="torchvision", fit="cut")
    extractor = Extractor(load_encoder("tips-tiny-random", device="cpu"), image, FeatureCard())
    image_HW3 = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    pixels_3HW = extractor.pixels(image_HW3)
    whole_3HW = Extractor(extractor.encoder, image.model_copy(update={"fit": "pad"}), FeatureCard()).pixels(image_HW3)
    assert extractor.inner_size(80, 90) == (56, 56) and extractor.grid(80, 90) == (4, 4)
    assert torch.equal(pixels_3HW, whole_3HW[:, :56, :56])


def test_the_preprocessing_of_the_encoder_stands_for_the_protocols():
    encoder = load_encoder("tips-tiny-random", device="cpu")
    image = load_card("protocol", "retrieval-own").image
    assert Extractor(encoder, image, FeatureCard()).image == encoder.spec.preprocessing
    assert Extractor(encoder, image, FeatureCard()).inner_size(300, 500) == (224, 224)


@pytest.mark.parametrize(
    "values", [{"short_side": 224, "native": True}, {"short_side": None, "native": True, "crop": 8, "shape": "center-crop"}]
)
def test_a_side_of_its_own_contradicts_it(values):
    with pytest.raises(UserError, match="native uses the encoder's resolution"):
        parse(ImageCard, values, where="protocol x")
