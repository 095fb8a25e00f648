"""open_clip encoders against its own forward pass, and checkpoints that do not fit."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from tips_bench import load_encoder
from tips_bench.encoders.load import resolve_model_card
from tips_bench.encoders.open_clip import run
from tips_bench.errors import UserError

SHAPE = {"patch_size": 16, "width": 48, "layers": 3, "heads": 4, "mlp_ratio": 2.0, "output_dim": 32}
PE = "open_clip:PE-Core-T-16-384/meta"


@pytest.fixture(scope="module")
def visual() -> torch.nn.Module:
    torch.manual_seed(0)
    tower = open_clip.transformer.VisionTransformer(64, **SHAPE)
    return tower.eval()


@pytest.mark.parametrize("norm", [True, False])
@torch.inference_mode()
def test_features_are_those_of_open_clips_own_tower(visual: torch.nn.Module, norm: bool) -> None:
    pixels = torch.rand(2, 3, 64, 64)
    theirs = visual.forward_intermediates(pixels, indices=[0, 2], normalize_intermediates=norm, output_fmt="NCHW")
    found = run(visual, pixels, (0, 2), norm)
    for patches, maps in zip(found.patches, theirs["image_intermediates"], strict=True):
        assert torch.allclose(patches.permute(0, 3, 1, 2), maps, atol=1e-5)
    assert torch.allclose(found.globals_BKD[:, 0] @ visual.proj, theirs["image_features"], atol=1e-5)


@torch.inference_mode()
def test_another_grid_is_what_open_clip_loads_into_a_tower_of_that_size(visual: torch.nn.Module) -> None:
    larger = open_clip.transformer.VisionTransformer(
        image_size=96, patch_size=16, width=48, layers=3, heads=4, mlp_ratio=2.0, output_dim=32
    )
    holder = torch.nn.Module()
    holder.visual = larger.eval()
    state = {f"visual.{key}": value for key, value in visual.state_dict().items()}
    open_clip.model.resize_pos_embed(state, holder)
    holder.load_state_dict(state)
    pixels = torch.rand(1, 3, 96, 96)
    theirs = larger.forward_intermediates(pixels, indices=[2], normalize_intermediates=True)["image_intermediates"][0]
    assert torch.allclose(run(visual, pixels, (2,), True).patches[0].permute(0, 3, 1, 2), theirs, atol=1e-4)


@torch.inference_mode()
def test_a_checkpoint_gives_the_images_and_texts_of_open_clips_model(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = open_clip.create_model("PE-Core-T-16-384", pretrained=None, load_weights=False).eval()
    path = tmp_path / "open_clip_model.safetensors"
    save_file({key: value.contiguous().clone() for key, value in model.state_dict().items()}, path)
    encoder = load_encoder(PE, weights=path, device="cpu")
    texts = ["a cat", "two dogs on a sofa"]
    assert torch.allclose(encoder.encode_text(texts), model.encode_text(open_clip.get_tokenizer("PE-Core-T-16-384")(texts)), atol=1e-5)
    pixels = torch.rand(1, 3, 384, 384)
    tokens_BND = model.visual.trunk.forward_features((pixels - 0.5) / 0.5)
    found = encoder.encode_image(pixels)
    assert torch.allclose(found.patches[0].flatten(1, 2), tokens_BND[:, 1:], atol=1e-4)
    assert torch.allclose(found.globals_BKD, tokens_BND[:, :1], atol=1e-4)


def test_checkpoints_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    save_file({"visual.trunk.cls_token": torch.zeros(1, 1, 192)}, path)
    with pytest.raises(UserError, match=r"bad\.safetensors: the weights cannot be loaded: Error.* loading state_dict"):
        load_encoder(PE, weights=path, device="cpu")


def test_names_that_open_clip_does_not_know_are_one_sentence() -> None:
    with pytest.raises(UserError, match=r"no open_clip architecture named 'ViT-B-17'\. Did you mean 'ViT-B-16'"):
        load_encoder("open_clip:ViT-B-17/openai")
    with pytest.raises(UserError, match=r"'nope' is not a checkpoint of ViT-B-16\. Use ARCH/TAG with one of openai, "):
        load_encoder("open_clip:ViT-B-16/nope")
    with pytest.raises(UserError, match="ModifiedResNet, has no plain grid of patches"):
        load_encoder("open_clip:RN50/openai", weights="random")


@torch.inference_mode()
def test_images_and_texts_of_a_clip_model_are_as_near_as_open_clip_says(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    vision = {"layers": 2, "width": 48, "head_width": 12, "patch_size": 16, "image_size": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
    model = open_clip.CLIP(32, vision, text).eval()
    monkeypatch.setattr("tips_bench.encoders.open_clip.build", lambda name, device="cpu": model)
    shape = {"patch_size": 16, "embed_dim": 48, "depth": 2, "resolution": 64, "global_tokens": 1, "parameters": None}
    card = resolve_model_card("clip-b16").model_copy(update=shape)
    encoder = load_encoder(card, weights="random", device="cpu")
    texts = ["a cat", "two dogs on a sofa", "a photo of the large red book."]
    tokens = open_clip.get_tokenizer("ViT-B-16")(texts)
    assert torch.allclose(encoder.encode_text(texts), model.encode_text(tokens), atol=1e-5)
    pixels = torch.rand(3, 3, 64, 64)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.mean, card.std))
    images, embedded, scale = model((pixels - mean) / std, tokens)[:3]
    ours = F.normalize(encoder.embed_image(pixels)[:, 0], dim=-1) @ F.normalize(encoder.encode_text(texts), dim=-1).T
    assert torch.allclose(scale * ours, scale * images @ embedded.T, atol=1e-4)
    assert encoder.has_values and encoder.values_dim == 32
