"""tips-bench reproduce: a number made again, and what is said where it is not the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import tips_bench
from tips_bench.cli.app import app
from tips_bench.evaluation.run import evaluate

OPTIONS = ["image.short_side=56", "probe.patches_per_image=16"]


@pytest.fixture
def record(shapes: Path) -> Path:
    """Of a changed card, few images, a seed and random weights: all that a second evaluation has to take from the record."""
    options = {"overrides": OPTIONS, "limit": 6, "seed": 3, "weights": "random:7", "batch_size": 3, "workers": 0}
    return evaluate("shapes", "tips-tiny-random", out=shapes / "out", **options).file


def reproduce(record: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["reproduce", str(record), "--workers", "0", "--device", "cpu", *options])


def changed(record: Path, **values: object) -> Path:
    record.write_text(json.dumps(json.loads(record.read_text()) | values))
    return record


def test_the_same_machine_makes_the_same_number(record: Path) -> None:
    done = reproduce(record)
    assert done.exit_code == 0 and "equal: All" in done.stdout and "not as it was" not in done.stdout, done.output
    new = json.loads(next(Path("reproduced").rglob("*.json")).read_text())
    old = json.loads(record.read_text())
    for name in ("metrics", "cards", "seed", "weights", "deviations", "protocol_hash"):
        assert new[name] == old[name]
    assert record.name == next(Path("reproduced").rglob("*.json")).name


def test_other_digits_are_held_to_the_tolerance_sample_by_sample(record: Path) -> None:
    metrics = json.loads(record.read_text())["metrics"]
    metrics["mIoU"]["value"] += 1e-9
    done = reproduce(changed(record, metrics=metrics, versions={"torch": "1.0"}), "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["verdict"] == "agrees"
    assert {"what": "torch", "then": "1.0"}.items() <= next(one for one in found["differences"] if one["what"] == "torch").items()


def test_without_counts_the_interval_decides(record: Path) -> None:
    metrics = json.loads(record.read_text())["metrics"]
    metrics["mIoU"] |= {"value": 99.0, "ci95": [98.0, 100.0]}
    next(record.parent.glob("*.npz")).unlink()
    done = reproduce(changed(record, metrics=metrics))
    assert done.exit_code == 1 and "differs: mIoU 99" in done.stdout and "outside the record's 95 % interval" in done.stdout


@pytest.mark.parametrize(("part", "said"), [("weights_sha256", "other weights"), ("fingerprint", "other data")])
def test_other_weights_and_other_data_are_never_a_pass(record: Path, part: str, said: str) -> None:
    dataset = json.loads(record.read_text())["dataset"]
    values = {part: "0" * 64} if part == "weights_sha256" else {"dataset": dataset | {part: "0" * 64}}
    done = reproduce(changed(record, **values))
    assert done.exit_code == 1 and f"{said}: The" in done.stdout


@pytest.mark.parametrize(
    ("weights", "options", "said"),
    [("mine.pth", [], "Give it: --weights FILE"), ("random:7", ["--weights", "mine.pth"], "the record was made with random:7")],
)
def test_weights_that_do_not_fit_the_record_are_one_sentence(record: Path, weights: str, options: list[str], said: str) -> None:
    done = reproduce(changed(record, weights=weights), *options)
    assert done.exit_code == 2 and said in done.stderr and not Path("reproduced").exists()


def test_a_card_that_is_not_known_is_one_sentence(record: Path) -> None:
    cards = json.loads(record.read_text())["cards"]
    done = reproduce(changed(record, cards=cards | {"protocol": cards["protocol"] | {"colour": "blue"}}))
    assert done.exit_code == 2 and "colour" in done.stderr and len(done.stderr.splitlines()) == 1


class Tiny(torch.nn.Module):
    """Patches of 14 pixels, each as its mean color."""

    def forward(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels_B3HW, 14)


def test_a_model_that_was_an_object_is_given_again_in_python(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tiny, "__module__", "__main__")  # as in a notebook
    old = tips_bench.run("shapes", Tiny(), out=shapes / "out", overrides=OPTIONS, limit=4, workers=0)
    done = reproduce(old.file)
    assert done.exit_code == 2 and "an object in Python, 'Tiny'" in done.stderr and "tips_bench.reproduce(record, encoder=" in done.stderr
    found = tips_bench.reproduce(old.file, encoder=Tiny(), out=shapes / "again", workers=0)
    assert found.agrees and found.verdict == "equal"
    with pytest.raises(tips_bench.UserError, match="holds its card"):
        named = tips_bench.run("shapes", "pixels", out=shapes / "out", overrides=OPTIONS, limit=4, workers=0)
        tips_bench.reproduce(named, encoder=Tiny(), out=shapes / "again")
