"""Images at the encoder's own resolution, where a protocol asks for it."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize(
    "values", [{"short_side": 224, "native": True}, {"short_side": None, "native": True, "crop": 8, "shape": "center-crop"}]
)
def test_a_side_of_its_own_contradicts_it(values):
    with pytest.raises(UserError, match="native uses the encoder's resolution"):
        parse(ImageCard, values, where="protocol x")
