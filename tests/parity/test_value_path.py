"""The value path of every source of encoders with text, against the formulas written out from the weights, in float64.

MaskCLIP: the last block's values go through its output projection; residual, feed-forward, final norm and visual projection follow.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from tests.contract.test_encoders import make_folder
from tips_bench import load_encoder
from tips_bench.cards import ModelCard, WeightsCard
from tips_bench.encoders.base import spec_from_card
from tips_bench.encoders.open_clip import OpenClipEncoder
from tips_bench.errors import UserError

DATA = Path(__file__).parents[1] / "golden" / "data"
CARD = {"title": "x", "mean": [0, 0, 0], "std": [1, 1, 1], "license": "x", "citation": "x", "homepage": "x"}


def shaken(module: nn.Module) -> nn.Module:
    """Other than initial values everywhere, so that no parameter goes unnoticed."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return module.eval()


def input_of(block: nn.Module, run) -> torch.Tensor:
    """[B,N,D] float64: what `run` calls a block with."""
    seen = []
    hook = block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    run()
    hook.remove()
    return seen[0].double()


def stub(visual: nn.Module, depth: int, patch: int, dim: int, tokens: int = 1) -> OpenClipEncoder:
    """The encoder around an image tower of a test, without a text tower."""
    card = ModelCard(
        name="stub",
        source="open_clip",
        patch_size=patch,
        embed_dim=dim,
        depth=depth,
        resolution=64,
        global_tokens=tokens,
        has_text=True,
        **CARD,
    )
    encoder = OpenClipEncoder.__new__(OpenClipEncoder)
    encoder.spec, encoder.device, encoder.dtype = spec_from_card(card, "none"), torch.device("cpu"), torch.float32
    encoder.model, encoder.has_values = SimpleNamespace(visual=visual), True
    return encoder


@pytest.mark.parametrize("case", ["native", "wide", "small"])
@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_tips_gives_the_official_values_through_the_encoder(ffn: str, case: str) -> None:
    vision = {"embed_dim": 48, "depth": 3, "num_heads": 3, "mlp_dim": {"mlp": 192, "swiglu": 128}[ffn], "ffn": ffn, "position_grid": [4, 4]}
    shape = {"patch_size": 14, "embed_dim": 48, "depth": 3, "resolution": 56, "global_tokens": 2}
    weights = WeightsCard(path=str(DATA / f"torch_vision_{ffn}_weights.npz"))
    card = ModelCard(name="golden", source="tips", architecture={"vision": vision}, weights=weights, **shape, **CARD)
    encoder = load_encoder(card, device="cpu")
    with np.load(DATA / f"torch_vision_{ffn}_io.npz", allow_pickle=False) as wanted:
        found = encoder.encode_image(torch.from_numpy(wanted[f"{case}/pixels"]), values=True).patches[0]
        assert np.abs(found.numpy() - wanted[f"{case}/value_patches"]).max() <= 1e-5
    assert encoder.values_dim == 48


@torch.inference_mode()
def test_open_clips_own_tower() -> None:
    visual = shaken(open_clip.transformer.VisionTransformer(64, patch_size=16, width=48, layers=3, heads=4, mlp_ratio=2.0, output_dim=32))
    encoder, pixels = stub(visual, 3, 16, 48), torch.rand(2, 3, 64, 64)
    block = visual.transformer.resblocks[-1]
    x_BND = input_of(block, lambda: visual(pixels))
    double = {key: value.double() for key, value in block.state_dict().items()}
    normed = F.layer_norm(x_BND, (48,), double["ln_1.weight"], double["ln_1.bias"])
    values = normed @ double["attn.in_proj_weight"][96:].T + double["attn.in_proj_bias"][96:]
    x_BND = x_BND + values @ double["attn.out_proj.weight"].T + double["attn.out_proj.bias"]
    normed = F.layer_norm(x_BND, (48,), double["ln_2.weight"], double["ln_2.bias"])
    hidden = F.gelu(normed @ double["mlp.c_fc.weight"].T + double["mlp.c_fc.bias"])
    x_BND = x_BND + hidden @ double["mlp.c_proj.weight"].T + double["mlp.c_proj.bias"]
    wanted = F.layer_norm(x_BND, (48,), visual.ln_post.weight.double(), visual.ln_post.bias.double())[:, 1:] @ visual.proj.double()
    found = encoder.encode_image(pixels, layers=(0, -1), values=True)
    assert torch.allclose(found.patches[1].flatten(1, 2).double(), wanted, atol=1e-5)
    assert torch.equal(found.patches[0], encoder.encode_image(pixels, layers=(0,)).patches[0])
    assert encoder.values_dim == 32


class Wrapped(nn.Module):
    """As open_clip holds a timm model: a trunk, then a head."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head


@torch.inference_mode()
def test_a_timm_trunk_that_reads_its_class_token() -> None:
    shape = {"patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 32, "global_pool": "token"}
    trunk = timm.models.eva.Eva(img_size=64, use_rot_pos_emb=True, dynamic_img_size=True, use_fc_norm=False, **shape)
    visual = shaken(Wrapped(trunk, nn.Linear(32, 24)))
    pixels = torch.rand(2, 3, 64, 96)
    block = trunk.blocks[-1]
    x_BND = input_of(block, lambda: trunk.forward_features(pixels))
    block = block.double()
    values = F.linear(block.norm1(x_BND), block.attn.qkv.weight[96:], block.attn.v_bias)
    x_BND = x_BND + block.attn.proj(values)
    x_BND = x_BND + block.mlp(block.norm2(x_BND))
    wanted = visual.head.double()(trunk.head.double()(trunk.norm.double()(x_BND[:, 1:])))
    visual.float()
    found = stub(visual, 2, 16, 48).encode_image(pixels, values=True).patches[0]
    assert found.shape == (2, 4, 6, 24)
    assert torch.allclose(found.flatten(1, 2).double(), wanted, atol=1e-5)


@torch.inference_mode()
def test_a_timm_trunk_that_pools_by_attention_lets_each_patch_be_pooled_alone() -> None:
    shape = {"patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 0, "global_pool": "map", "class_token": False}
    trunk = timm.models.vision_transformer.VisionTransformer(img_size=64, dynamic_img_size=True, **shape)
    visual = shaken(Wrapped(trunk, nn.Identity()))
    pixels = torch.rand(2, 3, 64, 96)
    tokens_BPD, pool = trunk.forward_features(pixels).double(), trunk.attn_pool.double()
    x_BPD = pool.proj(F.linear(tokens_BPD, pool.kv.weight[48:], pool.kv.bias[48:]))
    wanted = trunk.fc_norm.double()(x_BPD + pool.mlp(pool.norm(x_BPD)))
    visual.float()
    encoder = stub(visual, 2, 16, 48, tokens=1)
    assert torch.allclose(encoder.encode_image(pixels, values=True).patches[0].flatten(1, 2).double(), wanted, atol=1e-5)
    # an image of one patch is pooled from that patch alone, so its embedding is its value
    one = torch.rand(1, 3, 16, 16)
    assert torch.allclose(encoder.encode_image(one, values=True).patches[0][:, 0, 0], visual.head(trunk(one)), atol=1e-5)


@torch.inference_mode()
def test_clip_of_transformers(tmp_path: Path) -> None:
    encoder = load_encoder(make_folder("clip", tmp_path), device="cpu")
    shaken(encoder.model)
    pixels = torch.rand(2, 3, 56, 70)
    vision = encoder.vision
    layer = vision.encoder.layers[-1]
    x_BND = input_of(layer, lambda: encoder.encode_image(pixels))
    double = layer.double()
    x_BND = x_BND + double.self_attn.out_proj(double.self_attn.v_proj(double.layer_norm1(x_BND)))
    x_BND = x_BND + double.mlp(double.layer_norm2(x_BND))
    wanted = encoder.model.visual_projection.double()(vision.post_layernorm.double()(x_BND[:, 1:]))
    encoder.model.float()
    found = encoder.encode_image(pixels, values=True).patches[0]
    assert found.shape == (2, 4, 5, encoder.model.config.projection_dim) and encoder.values_dim == found.shape[-1]
    assert torch.allclose(found.flatten(1, 2).double(), wanted, atol=1e-5)


@torch.inference_mode()
def test_siglip_of_transformers_pools_each_patch_alone(tmp_path: Path) -> None:
    encoder = load_encoder(make_folder("siglip", tmp_path), device="cpu")
    shaken(encoder.model)
    pixels = torch.rand(2, 3, 56, 70)
    tokens_BPD = encoder.encode_image(pixels).patches[0].flatten(1, 2).double()
    head = encoder.vision.head.double()
    weight, bias = head.attention.in_proj_weight[96:], head.attention.in_proj_bias[96:]
    x_BPD = head.attention.out_proj(F.linear(tokens_BPD, weight, bias))
    wanted = x_BPD + head.mlp(head.layernorm(x_BPD))
    encoder.model.float()
    assert torch.allclose(encoder.encode_image(pixels, values=True).patches[0].flatten(1, 2).double(), wanted, atol=1e-5)
    one = torch.rand(1, 3, 14, 14)
    assert torch.allclose(encoder.encode_image(one, values=True).patches[0][:, 0, 0], encoder.embed_image(one)[:, 0], atol=1e-5)


def test_towers_without_text_have_no_value_path(tmp_path: Path) -> None:
    for family in ("clip_vision_model", "dinov2"):
        encoder = load_encoder(make_folder(family, tmp_path / family), device="cpu")
        assert not encoder.has_values
        with pytest.raises(UserError, match="no text-aligned value path"):
            encoder.encode_image(torch.rand(1, 3, 14, 14), values=True)
