"""Which blocks a protocol card's layers are, by index or by name."""

from types import SimpleNamespace

import pytest
import torch

from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.features.layers import layer_indices


def encoder(depth):
    return SimpleNamespace(spec=SimpleNamespace(depth=depth, name="some"))


@pytest.mark.parametrize(
    ("depth", "blocks"),
    # DINOv2 hub/depthers.py: out_index of vits14 and vitb14, vitl14, vitg14
    [(12, (2, 5, 8, 11)), (24, (4, 11, 17, 23)), (40, (9, 19, 29, 39)), (4, (0, 1, 2, 3)), (27, (6, 13, 19, 26))],
)
def test_even4_is_the_published_list_of_each_depth_and_ends_with_the_last_block(depth, blocks):
    assert layer_indices("even4", encoder(depth)) == blocks
    assert layer_indices("last4", encoder(depth)) == tuple(range(depth - 4, depth))


def test_four_of_fewer_blocks_is_a_user_error():
    with pytest.raises(UserError, match="has 1 block"):
        Extractor(load_encoder("pixels"), ImageCard(short_side=None), FeatureCard(layers="even4"))


def test_layers_are_concatenated_each_with_its_own_global_token():
    tiny = load_encoder("tips-tiny-random", device="cpu")
    extractor = Extractor(tiny, ImageCard(short_side=None), FeatureCard(layers="last4", norm=False, global_token=1))
    pixels_B3HW = torch.rand(2, 3, 42, 28, generator=torch.Generator().manual_seed(0))
    found = extractor.encode(pixels_B3HW).features_BhwD
    assert found.shape == (2, 3, 2, extractor.dim) == (2, 3, 2, 8 * 192)
    seen = tiny.encode_image(pixels_B3HW, layers=(0, 1, 2, 3), norm=False)
    for layer, part in enumerate(found.split(2 * 192, dim=-1)):
        assert torch.equal(part[..., :192], seen.patches[layer])
        assert torch.equal(part[:, 2, 1, 192:], seen.layer_globals[layer][:, 1])
