"""Rules of a protocol that depend on the encoder: whose token is read, which layers, and on which tasks it is published."""

from __future__ import annotations

import pytest

from tips_bench.cards import FeatureCard, ImageCard, ProtocolCard, load_card
from tips_bench.encoders.load import load_encoder
from tips_bench.evaluation.patch_sizes import for_patches
from tips_bench.evaluation.spec import resolve
from tips_bench.features.extract import Extractor
from tips_bench.features.layers import layer_indices


class Named:
    """An encoder of which only the name and the size matter."""

    def __init__(self, name: str, depth: int = 12) -> None:
        self.spec = load_encoder("tips-tiny-random", device="cpu").spec
        self.spec = type(self.spec)(**(vars(self.spec) | {"name": name, "depth": depth}))


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("dinov2-b14", True),
        ("dinov2-l14-reg", True),
        ("timm:vit_base_patch16_224.dino", True),
        ("hf:facebook/dinov2-with-registers-base", True),
        ("dinov2_vitb14", True),
        ("dinov3-b16", False),
        ("clip-b16", False),
        ("tipsv2-b14", False),
    ],
)
def test_a_token_is_read_of_the_encoders_that_a_protocol_names(name: str, read: bool) -> None:
    features = load_card("protocol", "dpt-probe3d").features
    extractor = Extractor(Named(name), ImageCard(short_side=None), features)  # type: ignore[arg-type]
    assert (extractor.features.global_token is not None) == read
    assert extractor.dim == extractor.encoder.spec.embed_dim * 4 * (2 if read else 1)


def test_without_names_the_token_is_read_of_every_encoder() -> None:
    for token in (0, None):
        extractor = Extractor(Named("clip-b16"), ImageCard(short_side=None), FeatureCard(layers="quarters", global_token=token))  # type: ignore[arg-type]
        assert extractor.features.global_token == token


def test_quarters_down_are_the_layers_of_probe3d() -> None:
    published = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23), 27: (5, 12, 17, 26), 40: (9, 19, 29, 39)}
    assert {depth: layer_indices("quarters-down", Named("x", depth)) for depth in published} == published  # type: ignore[arg-type]


def test_two_encoders_of_other_patches_are_on_one_board() -> None:
    small, large = (resolve("ade20k", model, "linear-dinov3") for model in ("dinov2-b14", "dinov3-b16"))
    assert small.protocol_hash == large.protocol_hash and small.deviations == large.deviations == []
    assert (small.applied.image.short_side, large.applied.image.short_side) == (448, 512)
    assert small.applied.patch_size == 14 and large.applied == large.protocol


def test_a_size_of_two_sides_is_scaled_and_a_ratio_is_not() -> None:
    protocol: ProtocolCard = load_card("protocol", "linear-dinov3-kitti", ["patch_size=16"])
    augment = for_patches(protocol, 8).probe["augment"]
    assert augment["crop"] == [176, 352] and augment["gamma"] == [0.9, 1.1] and augment["rotate"] == 2.5


def test_a_protocol_says_on_which_tasks_it_is_an_extension() -> None:
    linear: ProtocolCard = load_card("protocol", "linear-dinov2")
    assert {task: linear.extends_to(task) for task in ("ade20k", "voc2012", "cityscapes", "mine")} == {
        "ade20k": False,
        "voc2012": False,
        "cityscapes": True,
        "mine": True,
    }
    assert not load_card("protocol", "convex").extends_to("cityscapes")
