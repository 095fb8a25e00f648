"""Operations of an encoder, against sums by hand, and the peak of a device."""

from __future__ import annotations

import pytest
import torch

from tips_bench.encoders import flops
from tips_bench.encoders.flops import dense_peak, image_flops
from tips_bench.encoders.load import load_encoder
from tips_bench.models.configs import vision_config


def vit_flops(tokens: int, patches: int, pixels: int, dim: int, depth: int, hidden: int) -> int:
    """Patch embedding, and in each block the maps of attention (4 D^2), those of the MLP, and the two products of attention."""
    block = 2 * tokens * dim * (4 * dim + 2 * hidden) + 4 * tokens * tokens * dim
    return 2 * patches * 3 * pixels * dim + depth * block


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_our_tower_takes_the_operations_of_its_formula_packed_for_a_cpu_or_not(dtype: str) -> None:
    config = vision_config("tips-s14")
    encoder = load_encoder("tips-s14", "random", device="cpu", dtype=dtype)
    patch = config.patch_size
    patches = 4 * 6
    tokens = patches + config.num_global_tokens
    wanted = vit_flops(tokens, patches, patch**2, config.embed_dim, config.depth, config.mlp_dim)
    assert image_flops(encoder, 4 * patch, 6 * patch) == wanted


def test_a_tower_of_timm_takes_the_operations_of_its_formula() -> None:
    encoder = load_encoder("timm:vit_tiny_patch16_224.augreg_in21k", "random", device="cpu")
    assert image_flops(encoder, 224, 224) == vit_flops(197, 196, 256, 192, 12, 768)


def test_the_peak_of_a_known_gpu_is_its_data_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA H100 NVL": 835e12, "NVIDIA A100-SXM4-80GB": 312e12}
    for name, wanted in names.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert dense_peak(torch.device("cuda"), torch.bfloat16).flops_per_s == wanted


def test_the_peak_of_any_other_device_is_measured_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(flops.SIDES, "cpu", 256)
    peak = dense_peak(torch.device("cpu"), torch.float32)
    assert peak.flops_per_s > 1e8 and peak.source.startswith("measured")
