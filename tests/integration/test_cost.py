"""What a record says of the cost of its run: the share of the device's peak, and that the encoder was compiled."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integration.test_runs import SMALL
from tips_bench.encoders import flops
from tips_bench.encoders.flops import Peak, image_flops
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.evaluation import cost
from tips_bench.evaluation.run import evaluate
from tips_bench.features.meter import Meter
from tips_bench.models.devices import check_compiler
from tips_bench.results.reproduce import command

MODEL = "tips-tiny-random"


def spent(seconds: float, sizes: dict[tuple[int, int], int]) -> Meter:
    meter = Meter(sizes=Counter(sizes))
    meter._host_s = seconds
    return meter


def test_the_share_of_peak_is_operations_a_second_over_those_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder(MODEL, device="cpu")
    monkeypatch.setattr(cost, "listed_peak", lambda device, dtype: Peak(1e9, "a data sheet"))
    one = image_flops(encoder, 56, 28)
    assert cost.share_of_peak(encoder, spent(2.0, {(56, 28): 6})) == pytest.approx(6 * one / 2e9)
    assert cost.share_of_peak(encoder, spent(2.0, {(56, 28): 6, (56, 56): 2})) == pytest.approx(10 * one / 2e9)
    assert cost.share_of_peak(encoder, spent(0.0, {})) is None


def test_a_peak_that_is_not_listed_is_measured_only_after_long_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(flops.SIDES, "cpu", 256)
    encoder = load_encoder(MODEL, device="cpu")
    assert cost.share_of_peak(encoder, spent(cost.WORTH_S / 2, {(28, 28): 5})) is None
    assert (cost.share_of_peak(encoder, spent(cost.WORTH_S, {(28, 28): 5})) or 0) > 0


def test_a_compiled_run_says_so_and_shares_no_features_with_others(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def compile_(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    options = {"out": shapes / "results", "overrides": SMALL, "device": "cpu"}
    plain, other = evaluate("shapes", MODEL, **options), evaluate("shapes", MODEL, compile=True, **options)
    assert compiled == ["_encode"]
    assert (plain.cost.compiled, other.cost.compiled) == (False, True)
    assert plain.features_id != other.features_id and plain.path != other.path
    assert "--compile" in command(other).split() and "--compile" not in command(plain).split()


def test_a_python_object_is_not_compiled(shapes: Path) -> None:
    encoder = load_encoder(MODEL, device="cpu")
    with pytest.raises(UserError, match="Python object"):
        evaluate("shapes", encoder, compile=True, device="cpu", out=shapes / "results")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_missing_compiler_is_said_before_the_work(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"no compiler for the {device.upper()}"):
        check_compiler(torch.device(device))


@pytest.mark.nightly
def test_compiled_features_are_the_plain_ones_but_for_rounding() -> None:
    plain, compiled = load_encoder(MODEL, device="cpu"), load_encoder(MODEL, device="cpu", compiled=True)
    for height, width in ((28, 42), (42, 28), (56, 56)):
        pixels_B3HW = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        found, wanted = compiled.encode_image(pixels_B3HW).patches[0], plain.encode_image(pixels_B3HW).patches[0]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert image_flops(compiled, 56, 56) == image_flops(plain, 56, 56)
