"""Whole runs on rooms in the layouts of NYU, KITTI and NAVI: every task reads, fits and scores what its card says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tips_bench.evaluation.run import evaluate
from tips_bench.rooms.writing.writers import write_rooms

SMALL = ["image.short_side=112"]
ROOTS = {"nyu": "nyu", "nyu-labelled": "nyu", "kitti": "kitti", "navi": "navi"}
METERS = ("delta1", "AbsRel", "RMSE", "RMSE_pooled", "SILog", "aligned_RMSE")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with all the sets; NYU's folders and its .mat lie side by side."""
    root = tmp_path_factory.mktemp("sets") / "data"
    for layout, folder in ROOTS.items():
        made = root.with_name(layout)
        write_rooms(layout, made, seed=5, train=2, val=2, size=160, frames_per_scene=1, workers=1)
        shutil.copytree(made, root / folder, dirs_exist_ok=True)
    return root


@pytest.mark.parametrize("task", ["nyu-depth", "nyu-labelled", "kitti-depth", "navi-depth", "nyu-normals-labelled", "navi-normals"])
def test_a_set_is_fitted_and_scored(task, data, tmp_path):
    family = "normals" if task.endswith("normals") else "depth"
    every = ["task.data.options.every=1"] if task.startswith("navi") else []
    record = evaluate(task, "pixels", f"convex-{family}", data_root=data, out=tmp_path, overrides=[*SMALL, *every], pictures=1)
    assert (record.dataset.n, record.dataset.train_n, record.family) == (2, 2, family)
    assert record.primary == "RMSE" and record.metrics["RMSE"].unit == ("deg" if family == "normals" else "m")
    low, high = (0, 180) if family == "normals" else (0, 10 if "kitti" not in task else 80)
    assert low < record.metrics["RMSE"].value < high
    names = METERS if family == "depth" else ("mean", "median", "acc_11.25", "median_pooled")
    assert all(record.metrics[name].value >= 0 for name in names) and len(record.pictures) == 2


def test_normals_that_follow_from_depth_are_said_in_the_record_and_do_not_compare(data, tmp_path):
    overrides = [*SMALL, "task.data.options.source=depth"]
    record = evaluate("nyu-normals-labelled", "pixels", "convex-normals", data_root=data, out=tmp_path, overrides=overrides)
    assert not record.comparable and any("follow from the filled depth" in str(said) for said in record.deviations)
    own = evaluate("nyu-normals-labelled", "pixels", "convex-normals", data_root=data, out=tmp_path, overrides=SMALL)
    assert not any("follow from the filled depth" in str(said) for said in own.deviations)
