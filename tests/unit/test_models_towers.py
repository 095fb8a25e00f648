"""What the towers promise beside their numbers: shapes, sizes, independence of the batch, and the packed form."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tips_bench.errors import UserError
from tips_bench.models.configs import TextConfig, VisionConfig, published_names, text_config, vision_config
from tips_bench.models.cpu import attend_in_pieces
from tips_bench.models.files.checkpoints import load_text, load_vision
from tips_bench.models.layers import Attention, LayerScale
from tips_bench.models.text import TextTower, sinusoidal_positions, trim
from tips_bench.models.vision import VisionTower, interpolate_positions

MLP = VisionConfig(name="tiny", embed_dim=48, depth=3, num_heads=3, mlp_dim=192, position_grid=(4, 4))
CONFIGS = {"mlp": MLP, "swiglu": replace(MLP, ffn="swiglu", mlp_dim=128), "tanh": replace(MLP, gelu="tanh")}
TEXT = TextConfig(name="tiny", embed_dim=48, depth=2, num_heads=3, mlp_dim=96, vocab_size=50)


def pixels(batch: int, height: int = 42, width: int = 56) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# google-deepmind/tips, README.md (v1), and TIPSv2 (arXiv 2604.12012), appendix (v2), in millions. They count the Flax towers, which have
# no LayerScale and no mask token; both are g's "1.1B".
PUBLISHED_MILLIONS = {
    "tips-s14": (21.6, 33.6),
    "tips-b14": (85.7, 109.6),
    "tips-l14": (303.2, 183.9),
    "tips-so400m14": (412.4, 448.3),
    "tips-g14": (1100, 389.1),
    "tipsv2-b14": (86.3, 109.6),
    "tipsv2-l14": (304.0, 183.9),
    "tipsv2-so400m14": (413.3, 448.3),
    "tipsv2-g14": (1100, 389.1),
}


@pytest.mark.parametrize("name", published_names())
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        vision, text = VisionTower(vision_config(name)), TextTower(text_config(name))
    scales = sum(count(module) for module in vision.modules() if isinstance(module, LayerScale))
    wanted_vision, wanted_text = PUBLISHED_MILLIONS[name]
    rounding = 50 if wanted_vision == 1100 else 0.05
    assert (count(vision) - scales - vision.mask_token.numel()) / 1e6 == pytest.approx(wanted_vision, abs=rounding)
    assert count(text) / 1e6 == pytest.approx(wanted_text, abs=0.05)


def test_parameters_of_g_are_those_of_its_hugging_face_repository() -> None:
    with torch.device("meta"):
        towers = VisionTower(vision_config("tipsv2-g14")), TextTower(text_config("tipsv2-g14"))
    # The model card of google/tipsv1-g14, whose position grid is 32x32 like that of v2.
    assert sum(map(count, towers)) == 1_525_085_696


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("ffn", CONFIGS)
def test_features_are_bitwise_the_same_in_any_batch(ffn: str, packed: bool) -> None:
    tower = load_vision(None, CONFIGS[ffn], seed=0)
    assert not packed or tower.pack()
    images = pixels(16)
    with torch.inference_mode():
        whole = tower(images, layers=(0, 2), values=True)
        for size in (1, 2, 5, 16):
            for start in range(0, 16, size):
                part = tower(images[start : start + size], layers=(0, 2), values=True)
                rows = slice(start, start + size)
                assert torch.equal(part.globals_BKD, whole.globals_BKD[rows])
                assert all(torch.equal(a, b[rows]) for a, b in zip(part.patches, whole.patches, strict=True))
                assert part.value_patches_BhwD is not None and whole.value_patches_BhwD is not None
                assert torch.equal(part.value_patches_BhwD, whole.value_patches_BhwD[rows])


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_features_of_a_base_size_block_are_bitwise_the_same_in_any_batch(packed: bool) -> None:
    tower = load_vision(None, replace(vision_config("tipsv2-b14"), depth=1), seed=0)
    assert not packed or tower.pack()
    images = pixels(16, 140, 140)
    with torch.inference_mode():
        whole = tower(images).patches[0]
        for size in (1, 2, 5):
            assert torch.equal(tower(images[:size]).patches[0], whole[:size])


@pytest.mark.parametrize("ffn", CONFIGS)
def test_packed_features_are_the_plain_ones(ffn: str) -> None:
    tower, images = load_vision(None, CONFIGS[ffn], seed=0), pixels(2)
    with torch.inference_mode():
        plain = tower(images, layers=(0, 1, 2), values=True)
        assert tower.pack()
        packed = tower(images, layers=(0, 1, 2), values=True)
    for a, b in zip([plain.globals_BKD, *plain.patches], [packed.globals_BKD, *packed.patches], strict=True):
        assert (a - b).abs().max() <= 1e-5


@pytest.mark.parametrize("ffn", CONFIGS)
def test_bfloat16_features_point_where_float32_ones_do(ffn: str) -> None:
    images = pixels(2)
    with torch.inference_mode():
        wanted = load_vision(None, CONFIGS[ffn], seed=0)(images).patches[0]
        tower = load_vision(None, CONFIGS[ffn], seed=0, dtype=torch.bfloat16)
        tower.pack()
        found = tower(images).patches[0].float()
    assert torch.cosine_similarity(found, wanted, dim=-1).min() >= 0.999


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 4), st.integers(1, 20_000))
def test_attention_in_pieces_is_attention_whatever_the_size_of_a_piece(batch: int, tokens: int, heads: int, piece_bytes: int) -> None:
    qkv_BNC3 = torch.randn(batch, tokens, 3 * heads * 8, generator=torch.Generator().manual_seed(tokens))
    wanted = Attention(8 * heads, heads).attend(qkv_BNC3.clone())
    torch.testing.assert_close(attend_in_pieces(qkv_BNC3, heads, piece_bytes), wanted, atol=1e-5, rtol=1e-4)


def test_packed_weights_are_forgotten_when_the_tower_changes() -> None:
    tower, images = load_vision(None, MLP, seed=0), pixels(1)
    other = load_vision(None, MLP, seed=1)
    with torch.inference_mode():
        assert tower.pack()
        tower.load_state_dict(other.state_dict())
        assert torch.equal(tower(images).patches[0], other(images).patches[0])
        assert tower.pack()
        tower.train()
        assert tower._packed is None
        assert tower.pack()
        copy = pickle.loads(pickle.dumps(tower))
        assert torch.equal(copy(images).patches[0], other(images).patches[0])


def test_a_forward_pass_with_gradients_ignores_packed_weights() -> None:
    tower = load_vision(None, MLP, seed=0)
    assert tower.pack()
    tower.requires_grad_(True)
    tower(pixels(1)).globals_BKD.sum().backward()
    assert all(parameter.grad is not None for name, parameter in tower.named_parameters() if name != "mask_token")


def test_several_masks_of_each_image_are_as_many_views_of_it() -> None:
    tower, images = load_vision(None, MLP, seed=0), pixels(2)
    nn.init.ones_(tower.mask_token)
    masks_VP = torch.rand(6, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    with torch.inference_mode():
        together = tower(images, mask_BP=masks_VP).patches[0]
        apart = torch.cat([tower(images, mask_BP=mask_BP).patches[0] for mask_BP in masks_VP.split(2)])
    torch.testing.assert_close(together, apart)
    assert not torch.allclose(together[:2], together[2:4])


def test_interpolated_positions_follow_a_change_in_place() -> None:
    tower, images = load_vision(None, MLP, seed=0), pixels(1)
    with torch.no_grad():
        before = tower(images).patches[0]
        tower.pos_embed.mul_(2.0)
        assert not torch.equal(tower(images).patches[0], before)


def test_positions_are_remembered_in_inference_mode_alone() -> None:
    """FSDP writes a parameter anew without counting a version, as here."""
    tower, images = load_vision(None, MLP, seed=0), pixels(1)
    with torch.no_grad():
        before = tower(images).patches[0]
        with torch.autograd._unsafe_preserve_version_counter(tower.pos_embed):
            tower.pos_embed.mul_(2.0)
        assert not torch.equal(tower(images).patches[0], before) and not tower._positions
    with torch.inference_mode():
        tower(images)
    assert len(tower._positions) == 1


def test_the_value_path_is_a_block_in_which_tokens_see_only_themselves() -> None:
    tower, images = load_vision(None, replace(MLP, depth=1), seed=0), pixels(2, 14, 14)
    block = tower.blocks[0]
    with torch.inference_mode():
        found = tower(images, values=True).value_patches_BhwD
        x_BND = tower._embed(images, (1, 1), None)
        alone_BND = torch.cat([block(x_BND[:, n : n + 1]) for n in range(x_BND.shape[1])], dim=1)
    assert found is not None
    torch.testing.assert_close(found[:, 0, 0], tower.norm(alone_BND)[:, 2], atol=1e-6, rtol=0)


def test_random_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = load_vision(None, MLP, seed=7)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = load_vision(None, MLP, seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.pos_embed, load_vision(None, MLP, seed=8).pos_embed)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.integers(-3, 2), min_size=1, max_size=4))
def test_every_layer_asked_for_comes_back_as_a_grid(rows: int, columns: int, layers: list[int]) -> None:
    tower = load_vision(None, MLP, seed=0)
    with torch.inference_mode():
        seen = tower(pixels(2, 14 * rows, 14 * columns), layers=layers)
        each = [tower(pixels(2, 14 * rows, 14 * columns), layers=(layer,)).patches[0] for layer in layers]
    assert [tuple(patch.shape) for patch in seen.patches] == [(2, rows, columns, 48)] * len(layers)
    assert seen.globals_BKD.shape == (2, 2, 48)
    assert all(torch.equal(a, b) for a, b in zip(seen.patches, each, strict=True))


def test_positions_at_their_own_grid_stay_as_they_are() -> None:
    table_1PD = torch.rand(1, 12, 5)
    torch.testing.assert_close(interpolate_positions(table_1PD, (3, 4), (3, 4)), table_1PD)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"pixels_B3HW": torch.rand(1, 3, 15, 14)}, "not a whole number of patches of 14"),
        ({"pixels_B3HW": torch.rand(1, 4, 14, 14)}, "shape (1, 4, 14, 14)"),
        ({"pixels_B3HW": torch.rand(3, 14, 14)}, "shape (3, 14, 14)"),
        ({"pixels_B3HW": torch.rand(1, 3, 0, 14)}, "0 x 14 pixels"),
        ({"pixels_B3HW": torch.rand(1, 3, 14, 14), "layers": (3,)}, "no block 3, the tower has 3. Use 0-2"),
        ({"pixels_B3HW": torch.rand(1, 3, 14, 14), "mask_BP": torch.ones(1, 2, dtype=torch.bool)}, "shape (1, 1)"),
        ({"pixels_B3HW": torch.rand(1, 3, 14, 14), "mask_BP": torch.ones(1, 1)}, "torch.float32"),
        ({"pixels_B3HW": torch.rand(2, 3, 14, 14), "mask_BP": torch.ones(3, 1, dtype=torch.bool)}, "shape (2, 1)"),
    ],
)
def test_input_that_does_not_fit_an_image_tower_is_a_user_error(arguments: dict, part: str) -> None:
    tower = load_vision(None, MLP, seed=0)
    with pytest.raises(UserError) as caught:
        tower(**arguments)
    assert part in str(caught.value) and "'tiny'" in str(caught.value)


def test_padding_changes_no_embedding() -> None:
    tower = load_text(None, TEXT, seed=0)
    ids = torch.randint(1, 50, (3, 6), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        short = tower(ids, torch.zeros_like(ids))
        long = nn.functional.pad(ids, (0, 58), value=3), nn.functional.pad(torch.zeros_like(ids), (0, 58), value=1)
        padded = tower(*long)
        rounded_up = [tower.encode(*trim(*long, multiple=multiple)) for multiple in (4, 6, 200)]
    for embeddings in (padded, *rounded_up):
        torch.testing.assert_close(embeddings, short, atol=1e-6, rtol=0)


def test_a_text_without_tokens_embeds_to_zero_beside_others_and_alone() -> None:
    tower = load_text(None, TEXT, seed=0)
    ids, paddings = torch.tensor([[4, 5], [0, 0]]), torch.tensor([[0, 0], [1, 1]])
    with torch.inference_mode():
        both, alone = tower(ids, paddings), tower(ids[1:], paddings[1:])
    assert torch.equal(both[1], torch.zeros(48)) and torch.equal(alone[0], torch.zeros(48))
    assert torch.isfinite(both).all() and both[0].abs().max() > 0


def test_ids_and_paddings_of_two_shapes_are_a_user_error() -> None:
    with pytest.raises(UserError, match="shape"):
        load_text(None, TEXT, seed=0)(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 4))


def test_ids_outside_the_vocabulary_are_a_user_error() -> None:
    with pytest.raises(UserError, match="vocabulary of 50"):
        load_text(None, TEXT, seed=0)(torch.tensor([[50]]), torch.zeros(1, 1))


def test_positions_of_an_odd_width_end_in_zero() -> None:
    assert torch.equal(sinusoidal_positions(3, 5)[:, 4], torch.zeros(3))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"num_heads": 5}, "5 heads do not divide the width 48"),
        ({"ffn": "swiglo"}, "Did you mean 'swiglu'?"),
        ({"gelu": "erv"}, "Did you mean 'erf'?"),
        ({"position_grid": (0, 4)}, "is not a grid"),
        ({"depth": 0}, "not a positive whole number"),
        ({"mlp_dim": 96.5}, "not a positive whole number"),
        ({"position_grid": (4, 4.0)}, "is not a grid"),
        ({"layer_norm_eps": 0}, "not a positive number"),
    ],
)
def test_a_config_that_cannot_be_built_is_a_user_error(change: dict, part: str) -> None:
    with pytest.raises(UserError) as caught:
        replace(MLP, **change)
    assert part in str(caught.value)


def test_an_unknown_architecture_suggests_near_ones() -> None:
    with pytest.raises(UserError, match="'tipsv2-b14'"):
        vision_config("tipsv2-b41")
