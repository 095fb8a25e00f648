"""timm encoders against timm's own forward pass, and checkpoints that do not fit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tips_bench import load_encoder
from tips_bench.errors import UserError

NAMES = ["vit_tiny_patch16_224.augreg_in21k", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3", "vit_base_patch16_siglip_224"]
NAMES += ["vit_pe_core_tiny_patch16_384", "vit_pe_spatial_tiny_patch16_512", "deit3_small_patch16_224", "vit_base_patch14_reg1_tipsv2"]


def normalized(encoder, pixels):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.spec.mean, encoder.spec.std))
    return (pixels - mean) / std


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_features_are_those_of_timm_at_its_own_size_and_another(name: str) -> None:
    encoder = load_encoder(f"timm:{name}", weights="random", device="cpu")
    for grid in ((2, 3), (encoder.spec.resolution // encoder.spec.patch_size,) * 2 if "tiny" in name else (3, 4)):
        pixels = torch.rand(1, 3, *(side * encoder.spec.patch_size for side in grid))
        found = encoder.encode_image(pixels)
        tokens_BND = encoder.model.forward_features(normalized(encoder, pixels))
        prefix = encoder.model.num_prefix_tokens
        assert torch.allclose(found.patches[0].flatten(1, 2), tokens_BND[:, prefix:], atol=1e-5)
        if prefix:
            assert torch.allclose(found.globals_BKD, tokens_BND[:, :prefix], atol=1e-5)
        else:
            assert torch.allclose(found.globals_BKD[:, 0], encoder.model.forward_head(tokens_BND, pre_logits=True), atol=1e-5)


@torch.inference_mode()
def test_an_intermediate_layer_is_the_output_of_that_many_blocks() -> None:
    encoder = load_encoder("timm:vit_tiny_patch16_224", weights="random", device="cpu")
    pixels = torch.rand(1, 3, 224, 224)
    model, wanted = encoder.model, []
    tokens_BND = model.norm_pre(model._pos_embed(model.patch_embed(normalized(encoder, pixels))))
    for block in model.blocks:
        tokens_BND = block(tokens_BND)
        wanted.append(tokens_BND[:, 1:])
    for norm in (True, False):
        found = encoder.encode_image(pixels, layers=(2, 7), norm=norm).patches
        for patches, layer in zip(found, (2, 7), strict=True):
            expected = model.norm(wanted[layer]) if norm else wanted[layer]
            assert torch.allclose(patches.flatten(1, 2), expected, atol=1e-5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A checkpoint with a classifier, as timm's hub repositories hold it."""
    torch.manual_seed(5)
    state = timm.create_model("vit_tiny_patch16_224.augreg_in21k_ft_in1k", pretrained=False).state_dict()
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(state, path)
    return path, state


NAME = "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@torch.inference_mode()
def test_a_checkpoint_with_its_classifier_gives_the_features_of_that_model(checkpoint: tuple[Path, dict[str, torch.Tensor]]) -> None:
    encoder = load_encoder(NAME, weights=checkpoint[0], device="cpu")
    model = timm.create_model("vit_tiny_patch16_224.augreg_in21k_ft_in1k", pretrained=False).eval()
    model.load_state_dict(checkpoint[1])
    pixels = torch.rand(1, 3, 224, 224)
    found = encoder.encode_image(pixels).patches[0]
    assert torch.allclose(found.flatten(1, 2), model.forward_features(normalized(encoder, pixels))[:, 1:], atol=1e-5)


def test_a_checkpoint_in_shards_gives_the_same_features(checkpoint: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    path, state = checkpoint
    names = {key: f"{'ab'[index % 2]}.safetensors" for index, key in enumerate(state)}
    for name in set(names.values()):
        save_file({key: state[key] for key in state if names[key] == name}, tmp_path / name)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    pixels = torch.rand(1, 3, 32, 32)
    wanted = load_encoder(NAME, weights=path, device="cpu").encode_image(pixels).patches[0]
    for place in (tmp_path, tmp_path / "model.safetensors.index.json"):
        assert torch.equal(load_encoder(NAME, weights=place, device="cpu").encode_image(pixels).patches[0], wanted)


def test_checkpoints_that_do_not_fit_are_one_sentence(checkpoint: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    path, state = tmp_path / "bad.safetensors", checkpoint[1]
    cases = {
        r"tensors are missing, the first is 'blocks\.0": {k: v for k, v in state.items() if not k.startswith("blocks.0.attn")},
        r"1 tensors are not part of the model, the first is 'extra'": state | {"extra": torch.zeros(1)},
        r"blocks\.0\.mlp\.fc1\.bias holds values that are NaN": state | {"blocks.0.mlp.fc1.bias": torch.full((768,), float("nan"))},
        r"has shape \[7\], expected \[768\]": state | {"blocks.0.mlp.fc1.bias": torch.zeros(7)},
    }
    for message, bad in cases.items():
        save_file(bad, path)
        with pytest.raises(UserError, match=message):
            load_encoder(NAME, weights=path, device="cpu")
    with pytest.raises(UserError, match=r"tensors are not part|has shape"):
        load_encoder("timm:vit_small_patch16_224", weights=checkpoint[0], device="cpu")


def test_a_pickle_a_text_and_a_truncated_file_are_refused(checkpoint: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x": Hostile()}, tmp_path / "hostile.pth")
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "short.safetensors").write_bytes(checkpoint[0].read_bytes()[:5000])
    for name in ("hostile.pth", "text.pth", "short.safetensors"):
        with pytest.raises(UserError, match=name):
            load_encoder(NAME, weights=tmp_path / name, device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "swin_tiny_patch4_window7_224", "hiera_tiny_224"])
def test_networks_without_a_constant_grid_are_refused_in_one_sentence(name: str) -> None:
    other = "Use a plain vision transformer" if name.startswith("hiera") else f"Name one of its stages by its stride, as timm:{name}@16"
    with pytest.raises(UserError, match=f"no grid of patches that is the same in every block.*{other}"):
        load_encoder(f"timm:{name}", weights="random")


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"])
@torch.inference_mode()
def test_a_stage_of_a_network_is_what_timms_features_only_gives(name: str, stride: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"strict_img_size": False} if name.startswith("swin") else {}
    whole = timm.create_model(name, pretrained=False, **options).eval()
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    peer = timm.create_model(name, pretrained=False, features_only=True, **options).eval()
    state = whole.state_dict()
    peer.load_state_dict({key: state[re.sub(r"^(layers|stages|stem)_(\d)\.", r"\1.\2.", key)] for key in peer.state_dict()})
    encoder = load_encoder(f"timm:{name}@{stride}", weights=tmp_path / "weights.safetensors", device="cpu")
    assert (encoder.spec.name, encoder.spec.patch_size, encoder.spec.depth) == (f"timm:{name}@{stride}", stride, 1)
    pixels = torch.rand(1, 3, 64, 128)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.spec.mean, encoder.spec.std))
    wanted = peer((pixels - mean) / std)[peer.feature_info.reduction().index(stride)]
    wanted = wanted.permute(0, 3, 1, 2) if wanted.shape[1:3] == (64 // stride, 128 // stride) else wanted
    found = encoder.encode_image(pixels)
    assert torch.allclose(found.patches[0].permute(0, 3, 1, 2), wanted, atol=1e-5)
    assert found.globals_BKD.shape == (1, 0, encoder.spec.embed_dim)
    assert encoder.encode_image(torch.rand(1, 3, 50, 70)).patches[0].shape[1:3] == (-(-50 // stride), -(-70 // stride))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18@7", r"there is no stage with the stride 7\. It has 2, 4, 8, 16, 32"),
        ("resnet18@", "the stride '' is not a whole number"),
        ("vit_tiny_patch16_224@16", "vision_transformer networks are not read by stages"),
    ],
)
def test_a_stride_that_a_network_does_not_have_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_encoder(f"timm:{name}", weights="random")


def test_an_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(UserError, match=r"lvd: timm has no such model\. Did you mean .*vit_base_patch14_dinov2\.lvd142m"):
        load_encoder("timm:vit_base_patch14_dinov2.lvd")
