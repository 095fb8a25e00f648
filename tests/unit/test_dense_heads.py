"""Heads that are networks: what they read of the features, how they are saved, and how their maps are enlarged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.features.layers import layer_indices
from tips_bench.probes.network_head import HeadSpec, NetworkHead, check_layers, expected_depth
from tips_bench.probes.probe3d_decoder import Probe3dDecoder
from tips_bench.probes.trained.schedules import lr_factor

COMMON = {"embed_dim": 16, "channels": 8}
SPECS = {
    "tips-depth": HeadSpec(decoder="tips", values="depth", token=True, outputs=12, depths=(0.001, 10.0), floor=0.001, relu=True, **COMMON),
    "tips-normals": HeadSpec(decoder="tips", values="normals", token=False, outputs=3, unit=True, **COMMON),
    "probe3d-depth": HeadSpec(decoder="probe3d", values="depth", token=True, outputs=12, depths=(0.001, 1.0), floor=0.1, **COMMON),
    "probe3d-normals": HeadSpec(decoder="probe3d", values="normals", token=True, outputs=4, **COMMON),
    "classes": HeadSpec(decoder="tips", values="classes", token=True, outputs=5, **COMMON),
}


def head(name):
    torch.manual_seed(0)
    return NetworkHead(SPECS[name], SPECS[name].build().eval())


def features(spec, batch=2, grid=(3, 4)):
    """Concatenated layers whose global tokens stand beside every patch."""
    parts = []
    for layer in range(4):
        parts.append(torch.randn(batch, *grid, spec.embed_dim, generator=torch.Generator().manual_seed(layer)))
        if spec.token:
            token = torch.randn(batch, 1, 1, spec.embed_dim, generator=torch.Generator().manual_seed(10 + layer))
            parts.append(token.expand(batch, *grid, -1))
    return torch.cat(parts, -1), parts


@pytest.mark.parametrize("name", SPECS)
def test_a_saved_head_gives_the_same_values(tmp_path, name):
    found, (features_NhwD, _) = head(name), features(SPECS[name])
    found.save(tmp_path / "head.npz")
    again = NetworkHead.load(tmp_path / "head.npz")
    assert again.spec == found.spec and torch.equal(again(features_NhwD), found(features_NhwD))
    scale = 8 if SPECS[name].decoder == "tips" else 16
    cells = (4 if scale == 8 else 3, 4)  # an odd grid counts as one larger for DPT
    values = {"depth": 1, "normals": 3, "classes": 5}[SPECS[name].values]
    assert found(features_NhwD).shape == (2, values, cells[0] * scale, cells[1] * scale)


def test_the_layers_are_read_in_order_each_with_its_token():
    spec = SPECS["tips-depth"]
    found, (features_NhwD, parts) = head("tips-depth"), features(spec)
    layers = [(parts[2 * i + 1][:, 0, 0], parts[2 * i]) for i in range(4)]
    with torch.no_grad():
        assert torch.allclose(found.outputs(features_NhwD), found.network(layers), atol=1e-6)


def test_probe3ds_head_is_the_published_one():
    """Its forward pass written out as probe3d's class DPT has it, on the same weights."""
    torch.manual_seed(1)
    network = Probe3dDecoder(10, 3, channels=6, kernel=3).double()
    layers = [torch.randn(2, 3, 4, 10, dtype=torch.float64) for _ in range(4)]

    def unit(module, x):
        inner = F.relu(F.conv2d(x, module.conv1.weight, module.conv1.bias, padding=1))
        return F.relu(F.conv2d(inner, module.conv2.weight, module.conv2.bias, padding=1)) + x

    maps = [F.conv2d(x.permute(0, 3, 1, 2), p.weight, p.bias) for x, p in zip(layers, network.projections, strict=True)]
    maps = [x.repeat_interleave(2, -1).repeat_interleave(2, -2) for x in maps]
    out = unit(network.main_units[3], maps[3])
    for i in (2, 1, 0):
        out = unit(network.main_units[i], unit(network.skip_units[i], maps[i]) + out)
    out = out.repeat_interleave(4, -1).repeat_interleave(4, -2)
    out = F.relu(F.conv2d(out, network.out_conv1.weight, network.out_conv1.bias, padding=1))
    out = F.conv2d(out, network.out_conv2.weight, network.out_conv2.bias, padding=1).repeat_interleave(2, -1).repeat_interleave(2, -2)
    spec = HeadSpec(decoder="probe3d", values="classes", token=False, outputs=3, embed_dim=10, channels=6)
    found = NetworkHead(spec, network).read(network(layers))
    assert torch.allclose(found, out, atol=1e-12) and out.shape == (2, 3, 48, 64)


def test_depth_is_the_weighted_mean_of_the_bins():
    outputs = torch.randn(1, 9, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = np.maximum(outputs[0].numpy(), 0) + 0.1
    wanted = (weights * np.linspace(0.001, 10, 9)[:, None, None]).sum(0) / weights.sum(0)
    assert np.abs(expected_depth(outputs, (0.001, 10), 0.1)[0, 0].numpy() - wanted).max() < 1e-6
    assert torch.allclose(expected_depth(torch.zeros(1, 9, 1, 1), (1.0, 3.0), 0.1), torch.tensor(2.0))


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize("outer", [(42, 56), (30, 71)])
def test_maps_of_any_grid_are_enlarged_as_torch_does_it(kind, outer):
    maps = torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(0))
    windows = Windows((42, 56), (42, 56), (0,), (0,))
    found = Upsampling.of((16, 24), (0, 0, 0, 0), windows, outer, kind=kind)(maps)
    wanted = F.interpolate(maps[None], (42, 56), mode=kind, align_corners=False)
    wanted = wanted if outer == (42, 56) else F.interpolate(wanted, outer, mode=kind, align_corners=False)
    assert (found - wanted[0]).abs().max() < 1e-5


def test_quarters_are_the_layers_of_the_released_heads():
    class Depth:
        def __init__(self, depth):
            self.spec = type("Spec", (), {"depth": depth, "name": "x"})

    published = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23), 27: (6, 13, 20, 26), 40: (9, 19, 29, 39)}
    assert {depth: layer_indices("quarters", Depth(depth)) for depth in published} == published


def test_the_schedule_is_probe3ds():
    def published(step, total, warmup, least=0.01):
        if step <= warmup:
            return (1 - least) * (step / warmup) + least
        return (1 - least) * np.cos(0.5 * (step - warmup) / (total - warmup) * np.pi) + least

    for step in range(100):
        assert lr_factor("quarter-cosine", step, 100, 15, 0.01) == pytest.approx(published(step, 100, 15), abs=1e-12)


def test_a_broken_file_and_another_number_of_layers_are_user_errors(tmp_path):
    (tmp_path / "head.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(UserError, match="broken"):
        NetworkHead.load(tmp_path / "head.npz")
    with pytest.raises(UserError, match="has 1 layers, but the head needs 4"):
        check_layers(Extractor(load_encoder("tips-tiny-random", device="cpu"), ImageCard(short_side=None), FeatureCard()))
