"""What every encoder promises, whatever it came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tips_bench import load_encoder
from tips_bench.cards import ModelCard, WeightsCard, load_card
from tips_bench.encoders.base import Encoder
from tips_bench.errors import UserError

SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96, "image_size": 56, "patch_size": 14}
TEXT = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 99}
TEXT |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 16}
NAMES = ["tips-tiny-random", "pixels", "timm:vit_tiny_patch16_224", "timm:vit_small_patch16_dinov3", "timm:vit_pe_core_tiny_patch16_384"]
NAMES += ["open_clip:PE-Core-T-16-384/meta", "tests.contract.test_encoders:from_function", "dinotxt"]
FAMILIES = ["dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "vit_mae", "clip", "clip_vision_model", "siglip", "siglip_vision_model"]


def from_function():
    weight = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return lambda pixels: F.conv2d(pixels, weight.to(pixels.dtype), stride=16)


def make_folder(family: str, folder: Path) -> Path:
    """A small model of transformers with random weights, saved as a repository is."""
    import transformers

    options = dict(SMALL)
    if family in ("clip", "siglip"):
        options = {"vision_config": SMALL, "text_config": TEXT}
    elif family.startswith("dinov2"):
        options = {key: value for key, value in SMALL.items() if key != "intermediate_size"} | {"mlp_ratio": 2}
    elif family == "dinov3_vit":
        options["num_register_tokens"] = 4
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[family](**options)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}))
    return folder


def small_dinotxt() -> ModelCard:
    """dino.txt on a small backbone, with random weights."""
    card = load_card("model", "dinotxt-dinov2-l14")
    text = {"embed_dim": 48, "depth": 1, "num_heads": 4}
    architecture = {"backbone": "timm:vit_tiny_patch16_224", "head": {"depth": 2, "num_heads": 3}, "text": text}
    own = {"architecture": architecture, "patch_size": 16, "embed_dim": 192, "depth": 14, "global_tokens": 1}
    return card.model_copy(update=own | {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "weights": WeightsCard(seed=0)})


@pytest.fixture(scope="module", params=NAMES + [f"transformers:{family}" for family in FAMILIES])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    source, _, family = request.param.partition(":")
    if source == "transformers":
        return load_encoder(make_folder(family, tmp_path_factory.mktemp(family)), device="cpu")
    weights = "random" if source in ("timm", "open_clip") else None
    return load_encoder(small_dinotxt() if source == "dinotxt" else request.param, weights=weights, device="cpu")


@pytest.fixture(scope="module")
def pixels(encoder: Encoder) -> torch.Tensor:
    patch = encoder.spec.patch_size
    return torch.rand(2, 3, 3 * patch, 5 * patch, generator=torch.Generator().manual_seed(1))


def test_pixels_that_are_not_in_0_1_are_refused(encoder: Encoder, pixels: torch.Tensor) -> None:
    encoder._has_seen_pixels = False
    encoder.encode_image(torch.zeros_like(pixels))  # black says nothing of the range
    for wrong, said in ((pixels * 255, r"to 25\d, expected \[0, 1\]"), ((pixels - 0.45) / 0.22, "expected")):
        with pytest.raises(UserError, match=said):
            encoder.encode_image(wrong)
    encoder.encode_image(pixels * 1.1 - 0.05)


def test_features_have_the_shapes_that_the_spec_states(encoder: Encoder, pixels: torch.Tensor) -> None:
    found = encoder.encode_image(pixels, layers=tuple(range(encoder.spec.depth)))
    assert found.globals_BKD.shape == (2, encoder.spec.global_tokens, encoder.spec.embed_dim)
    assert [tuple(patches.shape) for patches in found.patches] == [(2, 3, 5, encoder.spec.embed_dim)] * encoder.spec.depth
    assert found.padding == (0, 0, 0, 0)
    assert not found.patches[0].requires_grad


def test_global_tokens_come_for_each_layer_normed_like_its_patches(encoder: Encoder, pixels: torch.Tensor) -> None:
    normed, plain = (encoder.encode_image(pixels, layers=(0, -1), norm=norm) for norm in (True, False))
    for found in (normed, plain):
        assert [tuple(own.shape) for own in found.layer_globals] == [(2, encoder.spec.global_tokens, encoder.spec.embed_dim)] * 2
    assert torch.allclose(normed.layer_globals[1], normed.globals_BKD, atol=1e-5)
    assert torch.equal(normed.globals_BKD, plain.globals_BKD)
    if encoder.spec.global_tokens and not torch.allclose(normed.patches[1], plain.patches[1], atol=1e-3):
        pooled = torch.equal(normed.layer_globals[0], normed.globals_BKD)
        assert pooled or not torch.allclose(normed.layer_globals[1], plain.layer_globals[1], atol=1e-3)


def test_layers_come_in_the_order_asked_for_and_negative_ones_count_from_the_end(encoder: Encoder, pixels: torch.Tensor) -> None:
    last, first = encoder.spec.depth - 1, 0
    forth = encoder.encode_image(pixels, layers=(first, -1)).patches
    back = encoder.encode_image(pixels, layers=(last, -encoder.spec.depth)).patches
    assert torch.equal(forth[0], back[1]) and torch.equal(forth[1], back[0])


def test_an_image_has_the_features_it_has_alone(encoder: Encoder, pixels: torch.Tensor) -> None:
    both, alone = encoder.encode_image(pixels), encoder.encode_image(pixels[1:])
    assert torch.allclose(both.patches[0][1:], alone.patches[0], atol=1e-4)
    assert torch.allclose(both.globals_BKD[1:], alone.globals_BKD, atol=1e-4)


def test_odd_sides_are_padded_around_the_image_and_the_padding_is_told(encoder: Encoder, pixels: torch.Tensor) -> None:
    found = encoder.encode_image(pixels[..., :-3, :-4])
    assert found.patches[0].shape[1:3] == (3, 5)
    assert found.padding == (2, 1, 2, 2)
    mean = torch.tensor(encoder.spec.mean).view(3, 1, 1)
    padded = F.pad(pixels[..., :-3, :-4] - mean, (2, 2, 1, 2)) + mean
    assert torch.allclose(found.patches[0], encoder.encode_image(padded).patches[0], atol=1e-4)


def test_an_image_of_one_pixel_has_one_patch(encoder: Encoder) -> None:
    assert encoder.encode_image(torch.rand(1, 3, 1, 1)).patches[0].shape[1:3] == (1, 1)


def test_the_grid_keeps_rows_and_columns_apart(encoder: Encoder, pixels: torch.Tensor) -> None:
    patch = encoder.spec.patch_size
    changed = pixels.clone()
    changed[..., 2 * patch :, 4 * patch :] = 1 - changed[..., 2 * patch :, 4 * patch :]
    first = [encoder.encode_image(image, layers=(0,), norm=False).patches[0] for image in (pixels, changed)]
    moved_hw = (first[0] - first[1]).norm(dim=-1)[0]
    assert moved_hw.flatten().argmax() == 2 * 5 + 4


def test_the_same_pixels_give_the_same_features_twice(encoder: Encoder, pixels: torch.Tensor) -> None:
    assert torch.equal(encoder.encode_image(pixels).patches[0], encoder.encode_image(pixels).patches[0])


def test_wrong_layers_wrong_pixels_and_missing_abilities_are_user_errors(encoder: Encoder, pixels: torch.Tensor) -> None:
    depth = encoder.spec.depth
    for layers in ((depth,), (-depth - 1,), ()):
        with pytest.raises(UserError, match=f"has {depth} blocks"):
            encoder.encode_image(pixels, layers=layers)
    for wrong in (pixels[0], pixels[:, :1], (pixels * 255).to(torch.uint8)):
        with pytest.raises(UserError, match="not floating point"):
            encoder.encode_image(wrong)
    if not encoder.has_values:
        with pytest.raises(UserError, match="no text-aligned value path"):
            encoder.encode_image(pixels, values=True)
    if not encoder.spec.has_text:
        with pytest.raises(UserError, match="has no text tower"):
            encoder.encode_text(["a cat"])


def test_a_value_path_has_the_grid_of_the_patches_and_the_width_of_what_meets_text(encoder: Encoder, pixels: torch.Tensor) -> None:
    if not encoder.has_values:
        return
    both, alone = (encoder.encode_image(seen, values=True).patches[0] for seen in (pixels, pixels[1:]))
    assert both.shape == (2, 3, 5, encoder.values_dim)
    assert torch.allclose(both[1:], alone, atol=1e-4)
    if encoder.spec.has_text:
        assert encoder.embed_image(pixels).shape[-1] == encoder.values_dim
    with pytest.raises(UserError, match="needs norm=True"):
        encoder.encode_image(pixels, values=True, norm=False)


def test_pixels_that_are_not_finite_are_found_out(encoder: Encoder, pixels: torch.Tensor) -> None:
    with pytest.raises(UserError, match="not finite"):
        encoder.encode_image(pixels * float("nan"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[:4])
def test_bf16_is_close_to_fp32_and_stated(name: str) -> None:
    weights = "random" if ":" in name else None
    full, half = (load_encoder(name, weights=weights, device="cpu", dtype=dtype) for dtype in ("fp32", "bf16"))
    pixels = torch.rand(1, 3, 3 * full.spec.patch_size, 4 * full.spec.patch_size, generator=torch.Generator().manual_seed(2))
    found, wanted = half.encode_image(pixels).patches[0], full.encode_image(pixels).patches[0]
    assert found.dtype == half.dtype == torch.bfloat16
    assert F.cosine_similarity(found.float(), wanted, dim=-1).min() > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tips-tiny-random", "timm:vit_tiny_patch16_224", "open_clip:PE-Core-T-16-384/meta"])
def test_random_weights_follow_their_seed_and_leave_the_global_state_alone(name: str) -> None:
    pixels = torch.rand(1, 3, 48, 48)
    before = torch.random.get_rng_state()
    first, again, other = (load_encoder(name, weights=seed, device="cpu") for seed in ("random", "random:0", "random:1"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.encode_image(pixels).patches[0], again.encode_image(pixels).patches[0])
    assert not torch.allclose(first.encode_image(pixels).patches[0], other.encode_image(pixels).patches[0])
    assert [each.spec.weights_sha256 for each in (first, again, other)] == ["random:0", "random:0", "random:1"]
