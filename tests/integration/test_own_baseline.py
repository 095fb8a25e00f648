"""The project checks itself: tips-nano as it is now against the records in leaderboards/baseline, as docs/ci.md tells others to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tips_bench.evaluation.run import evaluate
from tips_bench.results.record import load_record
from tips_bench.results.regression import check

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "leaderboards" / "baseline"
MODEL = ROOT / "model_zoo" / "tips-nano"


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data root of all tests here: the rooms are drawn once."""
    return tmp_path_factory.mktemp("rooms")


def status(task: str, rooms: Path, out: Path, **options: object) -> str:
    """What `check` says of a new record of a task against its baseline.

    A processor that rounds otherwise may draw rooms of other bytes, of which no pair is compared: then the score is held to the
    baseline's interval.
    """
    record = evaluate(task, "tips-nano", data_root=rooms, out=out, **options)
    old = load_record(next((BASELINE / task).rglob("*.json")))
    if record.dataset.fingerprint == old.dataset.fingerprint and record.dataset.train_fingerprint == old.dataset.train_fingerprint:
        (outcome,) = check(out, BASELINE / task).outcomes
        return outcome.status
    interval = old.metrics[old.primary].ci95
    assert interval is not None
    return "regression" if record.metrics[old.primary].value < interval[0] else "within tolerance"


@pytest.mark.parametrize("task", [pytest.param("rooms-seg", marks=pytest.mark.nightly), "rooms-retrieval"])
def test_the_shipped_model_is_what_its_baseline_says(task: str, rooms: Path, tmp_path: Path) -> None:
    assert status(task, rooms, tmp_path) == "within tolerance"


@pytest.mark.nightly
def test_another_seed_and_batch_size_raise_no_alarm(rooms: Path, tmp_path: Path) -> None:
    assert status("rooms-seg", rooms, tmp_path, seed=1, batch_size=3) == "within tolerance"


def test_noise_in_its_weights_is_found(rooms: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    tensors = load_file(MODEL / "model.safetensors")
    noisy = {name: np.asarray(value + generator.normal(0, value.std(), value.shape), value.dtype) for name, value in tensors.items()}
    folder = tmp_path / "noisy"
    folder.mkdir()
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "preprocessor_config.json", "tokenizer.model"):
        (folder / name).write_bytes((MODEL / name).read_bytes())
    assert status("rooms-retrieval", rooms, tmp_path / "out", weights=str(folder)) == "regression"
