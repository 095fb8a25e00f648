"""Images at the encoder's own resolution, where a protocol asks for it."""

from __future__ import annotations

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


def test_pixels_after_the_last_whole_patch_are_dropped_before_an_image_is_embedded():
    image = ImageCard(short_side=60, shape="square", library="torchvision", fit="drop")
    extractor = Extractor(load_encoder("tips-tiny-random", device="cpu"), image, FeatureCard())
    pixels_B3HW = torch.rand(1, 3, 60, 60, generator=torch.Generator().manual_seed(0))
    extractor.encoder.embed_image = lambda pixels: pixels
    assert torch.equal(extractor.embed(pixels_B3HW), pixels_B3HW[..., :56, :56])


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
