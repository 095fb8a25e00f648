"""The decoder, the upsampling and the losses of `dpt-probe3d` against what mbanani/probe3d computes with the same weights.

tests/parity/data/probe3d.npz, of commits 1fff822 and a1f1464: numbers of DepthHead and SurfaceNormalHead (evals/models/probes.py), of
interpolate in train_depth.py and train_snorm.py, of DepthLoss and angular_loss (evals/utils/losses.py), and of evaluate_depth and
evaluate_surface_norm (evals/utils/metrics.py), on a CPU in float32.

Axes: B batch, D feature, H W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tips_bench.cards import load_card
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.metrics import depth, normals
from tips_bench.metrics.depth import DepthRule
from tips_bench.probes.network_head import HeadSpec, NetworkHead
from tips_bench.probes.pixel_targets import DepthTarget, NormalsTarget
from tips_bench.probes.trained.dpt import DptProbe
from tips_bench.probes.trained.pixel_losses import gradient_loss, log_residual, scale_invariant_loss

FILE = Path(__file__).parent / "data" / "probe3d.npz"
PROTOCOLS = {"1fff822": "dpt-probe3d", "a1f1464": "dpt-probe3d-a1f1464"}
TARGETS = {"depth": DepthTarget(DepthRule(max_depth=10.0)), "normals": NormalsTarget()}
METERS = ("delta1", "delta2", "delta3", "RMSE")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(FILE) as data:
        return {name: torch.from_numpy(data[name]) for name in data.files}


def weights(golden: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Probe3D's state under the names of ours."""
    found = {}
    for name, tensor in golden.items():
        parts = name.removeprefix(f"{kind}/head.").split(".")
        if not name.startswith(f"{kind}/head."):
            continue
        place, last = parts[0].split("_")[-1], parts[-1]
        if parts[0].startswith("conv"):
            found[f"projections.{place}.{last}"] = tensor
        elif parts[0].startswith("ref"):
            units = "skip_units" if parts[1] == "resConfUnit1" else "main_units"
            found[f"{units}.{place}.conv{int(parts[3]) // 2 + 1}.{last}"] = tensor
        else:
            found[f"out_conv{int(parts[1]) // 2 + 1}.{last}"] = tensor
    return found


def probe_of(commit: str, kind: str) -> DptProbe:
    """The probe as the protocol has it, with the narrow decoder of the golden file."""
    options: dict[str, Any] = load_card("protocol", PROTOCOLS[commit]).probe
    return DptProbe(options | {"channels": 8}, "here", TARGETS[kind])


def head_of(golden: dict[str, Tensor], commit: str, kind: str) -> tuple[DptProbe, NetworkHead]:
    probe, dim = probe_of(commit, kind), golden["features_4BDhw"].shape[2]
    options = probe.options
    values: dict[str, Any] = {"depths": (options.min_depth, 10.0), "floor": options.floor} if kind == "depth" else {}
    outputs = options.bins if kind == "depth" else 4
    shared: dict[str, Any] = {"decoder": "probe3d", "channels": 8, "kernel": options.kernel, "aligned": options.aligned}
    spec = HeadSpec(values=kind, embed_dim=dim, token=False, outputs=outputs, **shared, **values)
    network: nn.Module = spec.build()
    network.load_state_dict(weights(golden, kind))
    return probe, NetworkHead(spec, network)


def upsampled(maps_BChw: Tensor, size: tuple[int, int], kind: Any) -> Tensor:
    grid = (maps_BChw.shape[-2], maps_BChw.shape[-1])
    return Upsampling.of(grid, (0, 0, 0, 0), Windows(size, size, (0,), (0,)), size, "cpu", kind)(maps_BChw)


@pytest.fixture
def plain_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own: oneDNN's round otherwise on each kind of processor, which at the kink of a ReLU turns a gradient on or off."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("kind", ["depth", "normals"])
@pytest.mark.parametrize("commit", PROTOCOLS)
def test_predictions_losses_and_gradients_are_those_of_the_commit(golden: dict[str, Tensor], commit: str, kind: str) -> None:
    probe, head = head_of(golden, commit, kind)
    features = golden["features_4BDhw"].clone().requires_grad_()
    stacked_BhwD = features.permute(1, 3, 4, 0, 2).flatten(-2)
    objective = probe._objective(head)
    values = golden["depth_BHW"][:, None] if kind == "depth" else golden["normals_B3HW"]
    known = (values[:, 0] > 0) & (values[:, 0] <= 10) if kind == "depth" else golden["mask_BHW"]
    found = upsampled(objective.forward(stacked_BhwD), tuple(values.shape[-2:]), objective.kind)
    torch.testing.assert_close(found[:2], golden[f"{commit}/{kind}/prediction"], rtol=TOLERANCE, atol=TOLERANCE)
    loss = objective.loss(found, values, known)
    torch.testing.assert_close(loss.detach().double(), golden[f"{commit}/{kind}/loss"], rtol=TOLERANCE, atol=0)
    loss.backward()
    assert features.grad is not None
    scale = golden[f"{commit}/{kind}/gradient_4BDhw"].abs().max()
    assert (features.grad - golden[f"{commit}/{kind}/gradient_4BDhw"]).abs().max() < TOLERANCE * scale
    gradient = head.network.projections[0].weight.grad
    assert (gradient - golden[f"{commit}/{kind}/weight_gradient"]).abs().max() < TOLERANCE * gradient.abs().max()


@pytest.mark.parametrize("commit", PROTOCOLS)
def test_each_part_of_the_depth_loss_is_that_of_the_commit(golden: dict[str, Tensor], commit: str) -> None:
    probe, head = head_of(golden, commit, "depth")
    truth_BHW = golden["depth_BHW"].where(golden["depth_BHW"] <= 10, torch.zeros(()))
    with torch.no_grad():
        maps = head(golden["features_4BDhw"].permute(1, 3, 4, 0, 2).flatten(-2))
    residual_BHW = log_residual(upsampled(maps, tuple(truth_BHW.shape[-2:]), head.interpolation)[:, 0], truth_BHW, 0.001)
    known = truth_BHW > 0
    found = scale_invariant_loss(residual_BHW, known, 0.85), gradient_loss(residual_BHW, known, probe.options.gradient_between)
    torch.testing.assert_close(torch.stack(found).double(), golden[f"{commit}/depth/parts"], rtol=TOLERANCE, atol=0)


def test_the_metrics_of_depth_are_those_of_each_image(golden: dict[str, Tensor]) -> None:
    rule = DepthRule(max_depth=10.0)
    for image in range(3):
        found = depth.summary(depth.count(golden["metrics/prediction"][image].numpy(), golden["metrics/truth"][image].numpy(), rule))
        plain, aligned = golden["metrics/plain"][:, image].numpy(), golden["metrics/aligned"][:, image].numpy()
        scale = np.array([100, 100, 100, 1])
        assert np.allclose([float(found[name]) for name in METERS], plain * scale, rtol=1e-4)
        assert np.allclose([float(found[f"aligned_{name}"]) for name in METERS], aligned * scale, rtol=1e-4)


def test_the_metrics_of_normals_are_those_of_each_image(golden: dict[str, Tensor]) -> None:
    for image in range(3):
        truth, predicted = (golden[f"metrics/{name}"][image].permute(1, 2, 0).numpy() for name in ("normals", "predicted_normals"))
        known = np.where(golden["metrics/mask"][image].numpy()[..., None], truth, 0)
        found = normals.summary(normals.count(predicted, known))
        wanted = golden["metrics/angles"][:, image].numpy() * np.array([100, 100, 100, 1])
        assert np.allclose([float(found[name]) for name in ("acc_11.25", "acc_22.5", "acc_30", "RMSE")], wanted, rtol=1e-4)
