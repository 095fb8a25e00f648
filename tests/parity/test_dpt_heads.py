"""DPT heads in every published layout, against transformers' Tipsv2Dpt models and against Flax's convolutions written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    Tipsv2DptConfig,
    Tipsv2DptForDensePrediction,
    Tipsv2DptForDepthEstimation,
    Tipsv2DptForNormalEstimation,
    Tipsv2DptForSemanticSegmentation,
)

from tests.helpers.dpt_heads import random_head, random_layers, write_head
from tips_bench.models.configs import VisionConfig
from tips_bench.models.files.checkpoints import load_vision
from tips_bench.models.files.dpt_heads import KINDS, load_dpt

MODELS = {
    "segmentation": Tipsv2DptForSemanticSegmentation,
    "depth": Tipsv2DptForDepthEstimation,
    "normals": Tipsv2DptForNormalEstimation,
}
TOLERANCE = 1e-4
TOWER = VisionConfig(name="tiny", embed_dim=48, depth=4, num_heads=3, mlp_dim=192, position_grid=(4, 4))
BACKBONE = {
    "model_type": "tipsv2_vision_model",
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": 56,
    "patch_size": 14,
    "num_register_tokens": 1,
    "out_indices": [1, 2, 3, 4],
    "apply_layernorm": True,
    "reshape_hidden_states": False,
}


def peer(model, **options):
    torch.manual_seed(3)
    sizes = {"neck_hidden_sizes": [6, 12, 24, 48], "fusion_hidden_size": 16, "num_depth_bins": 20, "num_labels": 9}
    found = model(Tipsv2DptConfig(backbone_config=BACKBONE, **sizes, **options)).eval()
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif name.endswith("head.weight"):
                parameter.mul_(0.01)  # its initial weights give outputs of hundreds
    return found


def expected_depth(logits_BCHW):
    share_BCHW = logits_BCHW.relu() + 0.001
    return torch.einsum("bchw,c->bhw", share_BCHW / share_BCHW.sum(1, keepdim=True), torch.linspace(0.001, 10, logits_BCHW.shape[1]))


@pytest.mark.parametrize("size", [(56, 56), (70, 98)])  # the second grid is 5 x 7: halved and doubled it is one larger
@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_model_of_transformers_is_read_and_repeated(tmp_path, kind, activation, size):
    model = peer(MODELS[kind], depth_decoder_activation=activation)
    model.save_pretrained(tmp_path)
    relu = kind == "depth" and activation == "relu"
    head = load_dpt(tmp_path, kind, embed_dim=48, relu=relu)
    tower = load_vision(tmp_path, TOWER)
    pixels_B3HW = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        seen = tower(pixels_B3HW, layers=(0, 1, 2, 3))
        found_BCHW = head([(tokens_BKD[:, 0], patches) for tokens_BKD, patches in zip(seen.layer_globals, seen.patches, strict=True)])
        output = model(pixels_B3HW)
    wanted = {"segmentation": "logits", "depth": "predicted_depth", "normals": "normals"}[kind]
    found = expected_depth(found_BCHW) if kind == "depth" else found_BCHW
    assert getattr(output, wanted).std() > 0.01
    assert (found - getattr(output, wanted)).abs().max() < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_file_with_three_heads_the_one_asked_for_is_read(tmp_path, kind):
    model = peer(Tipsv2DptForDensePrediction)
    model.save_pretrained(tmp_path)
    head = load_dpt(tmp_path, kind, embed_dim=48)
    assert torch.equal(head.head.weight, getattr(model, f"{kind}_decoder").head.weight)
    assert torch.equal(head.dpt.convs[3].weight, getattr(model, f"{kind}_neck").convs[3].weight)


@pytest.mark.parametrize("layout", ["torch", "flax", "hub"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_holds_the_same_head(tmp_path, kind, layout):
    head, layers = random_head(kind), random_layers()
    depths = (0.001, 10.0) if kind == "depth" else None
    found = load_dpt(write_head(tmp_path / "head.bin", head, kind, layout), kind, embed_dim=32, depths=depths)
    with torch.no_grad():
        assert torch.equal(found(layers), head(layers))


def flax_transposed(map_hwI, kernel_hwIO, stride):
    """lax.conv_transpose with transpose_kernel=False: spread the input by the stride, pad by the kernel less one, correlate."""
    height, width, inputs = map_hwI.shape
    side = kernel_hwIO.shape[0]
    spread = np.zeros(((height - 1) * stride + 1, (width - 1) * stride + 1, inputs))
    spread[::stride, ::stride] = map_hwI
    padded = np.pad(spread, ((side - 1, side - 1), (side - 1, side - 1), (0, 0)))
    out = np.empty((padded.shape[0] - side + 1, padded.shape[1] - side + 1, kernel_hwIO.shape[3]))
    for row, column in np.ndindex(out.shape[:2]):
        out[row, column] = np.einsum("abi,abio->o", padded[row : row + side, column : column + side], kernel_hwIO)
    return out


@pytest.mark.parametrize(("index", "stride"), [(0, 4), (1, 2)])
def test_a_transposed_convolution_of_flax_keeps_its_meaning(tmp_path, index, stride):
    head = random_head("normals")
    path = write_head(tmp_path / "head.npz", head, "normals", "flax")
    name = f"decoder/dpt/reassemble_blocks/resize_layers_{index}"
    with np.load(path) as file:
        kernel, bias = file[f"{name}/kernel"], file[f"{name}/bias"]
    map_hwI = np.random.default_rng(0).normal(size=(3, 5, kernel.shape[2]))
    layer = load_dpt(path, "normals", embed_dim=32).dpt.reassemble.resize_layers[index].double()
    found = layer(torch.from_numpy(map_hwI).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(found - (flax_transposed(map_hwI, kernel.astype(float), stride) + bias)).max() < 1e-9
