"""Queries, keys and values of the last block in place of the patch features that a block gives."""

import pytest
import torch

from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.features.memory import FeatureMemory

IMAGE = ImageCard(short_side=None)
DINO, DINOV3 = "timm:vit_small_patch16_224.dino", "timm:vit_small_patch16_dinov3.lvd1689m"


def hooked(encoder, pixels_B3HW):
    """What the last block's own linear map gave for the patches: queries, keys, values."""
    caught = []
    attention = encoder.model.blocks[-1].attn
    hook = attention.qkv.register_forward_hook(lambda module, given, found: caught.append(found))
    encoder.encode_image(pixels_B3HW)
    hook.remove()
    return [part[:, encoder.spec.global_tokens :] for part in caught[0].chunk(3, -1)]


@pytest.mark.parametrize("name", [DINO, DINOV3])
def test_a_facet_is_what_the_last_blocks_own_linear_map_gives(name):
    encoder = load_encoder(name, "random")
    pixels_B3HW = torch.rand(2, 3, 32, 48)
    caught = hooked(encoder, pixels_B3HW)
    for place, facet in enumerate(("query", "key", "value")):
        found_BhwD = Extractor(encoder, IMAGE, FeatureCard(facet=facet)).encode(pixels_B3HW).features_BhwD
        assert found_BhwD.shape == (2, 2, 3, 384)
        assert torch.allclose(found_BhwD.flatten(1, 2), caught[place], atol=1e-5)


def test_packed_towers_give_the_keys_of_plain_ones():
    encoder = load_encoder("tips-nano", "random")
    extractor = Extractor(encoder, IMAGE, FeatureCard(facet="key"))
    pixels_B3HW = torch.rand(1, 3, 28, 28)
    packed = extractor.encode(pixels_B3HW).features_BhwD
    encoder.tower.unpack()
    assert torch.allclose(extractor.encode(pixels_B3HW).features_BhwD, packed, atol=1e-4)


def test_keys_come_from_the_memory_as_they_were_and_cost_no_second_pass(tmp_path):
    encoder = load_encoder("tips-nano", "random")
    memory = FeatureMemory(tmp_path, torch.float32)
    extractor = Extractor(encoder, IMAGE, FeatureCard(facet="key"), memory=memory)
    pixels_B3HW = torch.rand(2, 3, 28, 42)
    first, again = (extractor.encode(pixels_B3HW).features_BhwD for _ in range(2))
    memory.close()
    assert torch.equal(first, again)
    assert extractor.meter.image_forwards == 2


def test_an_encoder_without_such_a_block_is_a_user_error():
    with pytest.raises(UserError, match="no block before the last"):
        Extractor(load_encoder("pixels"), IMAGE, FeatureCard(facet="key"))


def test_keys_of_whole_layers_or_beside_a_token_are_refused():
    for wrong in ({"layers": [-1, -2]}, {"global_token": 0}, {"norm": False}, {"values": True}):
        with pytest.raises(ValueError, match="facet key needs"):
            FeatureCard(facet="key", **wrong)
