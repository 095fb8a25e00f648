"""Evaluations with an upsampler between the encoder and the head."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.integration.test_runs import SMALL, stable
from tips_bench.cli.app import app
from tips_bench.evaluation.cached_features import load_features
from tips_bench.evaluation.run import evaluate
from tips_bench.results.record import load_record

FINER = [*SMALL, "features.upsampler.name=bilinear", "features.upsampler.factor=2"]


def test_the_record_says_the_upsampler_and_the_backbone_runs_once_for_both(shapes: Path) -> None:
    plain = evaluate("shapes", "tips-tiny-random", out=shapes / "out", overrides=SMALL, cache=True)
    finer = evaluate("shapes", "tips-tiny-random", out=shapes / "out", overrides=FINER, cache=True)
    assert plain.cost.image_forwards == 22 and finer.cost.image_forwards == 0
    assert finer.cards["protocol"]["features"]["upsampler"]["name"] == "bilinear" and len(finer.probe["upsampler_sha256"]) == 64
    assert "upsampler" not in plain.cards["protocol"]["features"] and "upsampler_sha256" not in plain.probe
    assert finer.protocol_hash != plain.protocol_hash and finer.path != plain.path
    assert not finer.comparable and any("features.upsampler" in str(one) for one in finer.deviations)
    sizes = [{name: found.shape for name, found in load_features(record).items()} for record in (plain, finer)]
    assert sizes[0] == sizes[1], "what is cached are the encoder's own features"


@pytest.mark.parametrize("protocol", ["linear-dinov2"])
def test_trained_heads_and_windows_take_a_finer_grid(shapes: Path, protocol: str) -> None:
    from tests.integration.test_runs import LINEAR

    more = ["features.upsampler.name=bilinear", "features.upsampler.factor=2"]
    first = evaluate("shapes", "pixels", protocol, out=shapes / "a", overrides=[*LINEAR, *more])
    again = evaluate("shapes", "pixels", protocol, out=shapes / "b", overrides=[*LINEAR, *more], batch_size=1)
    assert first.metrics["mIoU"].n == 8 and stable(first) == stable(again)


def test_a_function_of_the_users_own_is_an_upsampler(shapes: Path) -> None:
    (shapes / "finer.py").write_text(
        "import torch.nn.functional as F\ndef up(image, features, size):\n    return F.interpolate(features, size, mode='nearest')\n"
    )
    settings = [*SMALL, "features.upsampler.name=finer:up", "features.upsampler.factor=2"]
    arguments = ["run", "--task", "shapes", "--model", "pixels", "--out", "out", *(part for one in settings for part in ("--set", one))]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    record = load_record(next((shapes / "out").rglob("convex-*.json")))
    assert (
        record.cards["protocol"]["features"]["upsampler"] | {"name": "finer:up", "factor": 2}
        == record.cards["protocol"]["features"]["upsampler"]
    )
