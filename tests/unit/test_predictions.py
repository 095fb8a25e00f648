"""Predictions that are kept, confusion matrices of them, and samples with the worst first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from typer.testing import CliRunner

import tips_bench
from tests.helpers.scored_records import pair, save_record
from tips_bench.cli.app import app
from tips_bench.errors import UserError
from tips_bench.evaluation.confusion import of_sample
from tips_bench.results.per_sample import worst_first
from tips_bench.results.predictions import load_predictions, predictions_folder, save_prediction
from tips_bench.results.record import Record, load_record

RUN = ["--set", "task.data.generator_options.train=8", "--set", "task.data.generator_options.val=4", "--device", "cpu"]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return save_record(tmp_path / "record.json", pair(np.random.default_rng(0), 12, 4)[:, 0])


def test_what_was_kept_is_read_back_whatever_the_ids_are(record: Record, tmp_path: Path) -> None:
    folder, ids = predictions_folder(record.file), list(record.samples().index)
    with pytest.raises(UserError, match="--predictions"):
        load_predictions(record)
    kept = [np.arange(12, dtype=np.uint8).reshape(3, 4), np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 4, 6), np.array([True, False])]
    for id, array in zip(ids, kept, strict=False):
        save_prediction(folder, id, array)
    found = load_predictions(record)
    assert list(found) == ids and len(found) == len(ids)
    for id, array in zip(ids, kept, strict=False):
        assert found[id].dtype == array.dtype and np.array_equal(found[id], array)
    with pytest.raises(UserError, match=r"missing.*Run the task again"):
        found[ids[5]]
    with pytest.raises(KeyError):
        found["no such sample"]
    save_prediction(tmp_path / "odd", "../../a/b: c", kept[0])
    assert [path.parent for path in tmp_path.rglob("*a-b*")] == [tmp_path / "odd"]
    next(folder.glob("*.png")).write_bytes(b"no picture")
    with pytest.raises(UserError, match="broken"):
        found[ids[0]]


def test_a_confusion_matrix_is_that_of_scikit_learn_without_ignored_pixels() -> None:
    rng = np.random.default_rng(1)
    labels_HW, predicted_HW = rng.choice([0, 1, 2, 4, 255], (30, 40)).astype(np.uint8), rng.integers(0, 5, (30, 40)).astype(np.uint8)
    scored_HW = labels_HW != 255
    theirs = confusion_matrix(labels_HW[scored_HW], predicted_HW[scored_HW], labels=range(5))
    assert np.array_equal(of_sample(predicted_HW, labels_HW, 5, where="x"), theirs)
    with pytest.raises(UserError, match="pixels"):
        of_sample(predicted_HW[1:], labels_HW, 5, where="x")


def test_the_worst_samples_come_first_and_those_without_a_score_last(record: Record) -> None:
    frame = worst_first(record)
    assert frame["mIoU"].is_monotonic_increasing and set(frame.index) == set(record.samples().index)
    done = CliRunner().invoke(app, ["samples", str(record.file), "--number", "3"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[1:4]] == list(frame.index[:3])
    rows = json.loads(CliRunner().invoke(app, ["samples", str(record.file), "--metric", "mAcc", "--json"]).stdout)
    assert len(rows) == 12 and [row["mAcc"] for row in rows] == sorted(row["mAcc"] for row in rows)
    wrong = CliRunner().invoke(app, ["samples", str(record.file), "--metric", "mIuO"])
    assert wrong.exit_code == 2 and "Did you mean 'mIoU'" in wrong.stderr


def test_a_run_keeps_predictions_that_give_its_scores_and_names_pictures_by_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = ["run", "--task", "rooms-seg,rooms-depth", "--model", "pixels", "--protocol", "knn-capi,convex-depth-224", *RUN]
    done = CliRunner().invoke(app, [*run, "--predictions", "--pictures", "4", "--out", "out"])
    assert done.exit_code == 0, done.output
    by_task = {one.task: one for one in map(load_record, Path("out").rglob("*.json"))}
    seg, depth = by_task["rooms-seg"], by_task["rooms-depth"]
    matrix = tips_bench.confusion(seg).to_numpy()
    assert 100 * matrix.trace() / matrix.sum() == pytest.approx(seg.metrics["aAcc"].value)
    assert {one.shape[0] for one in tips_bench.load_predictions(depth).values()} == {1}
    assert worst_first(seg).index[0] in seg.pictured
    stem = seg.file.stem
    assert seg.pictures == [f"{stem}-sheet.png", *(f"{stem}-{place}-{id}.png" for place, id in enumerate(seg.pictured, 1))]
    said = CliRunner().invoke(app, ["samples", str(seg.file), "--confusion"], env={"COLUMNS": "80"})
    assert said.exit_code == 0 and "predicted as" in said.stdout and max(map(len, said.stdout.splitlines())) <= 80
    with pytest.raises(UserError, match="no map of classes"):
        tips_bench.confusion(depth)


def test_a_family_without_predictions_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "--task", "rooms-knn", "--model", "tips-nano", *RUN, "--predictions", "--out", str(tmp_path)])
    assert done.exit_code == 2 and "no prediction of a sample to keep" in done.stderr
