"""Whole runs on rooms in the layouts of NYU, KITTI and NAVI: every task reads, fits and scores what its card says."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tips_bench.data.nyu import nyu_labelled
from tips_bench.data.nyu_normals import nyu_normals
from tips_bench.evaluation.run import evaluate
from tips_bench.rooms.writing.writers import write_rooms

SMALL = ["image.short_side=112"]
ROOTS = {"nyu": "nyu", "nyu-labelled": "nyu", "kitti": "kitti", "navi": "navi"}
SETS = ["nyu-depth", "nyu-labelled", "kitti-depth", "navi-depth", "navi-normals", "nyu-normals", "nyu-normals-labelled", "nyu-depth-geonet"]
METERS = ("delta1", "AbsRel", "RMSE", "RMSE_pooled", "SILog", "aligned_RMSE")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with all the sets; NYU's folders and its .mat lie side by side."""
    root = tmp_path_factory.mktemp("sets") / "data"
    for layout, folder in ROOTS.items():
        made = root.with_name(layout)
        write_rooms(layout, made, seed=5, train=2, val=2, size=160, frames_per_scene=1, workers=1)
        shutil.copytree(made, root / folder, dirs_exist_ok=True)
    write_geonet(root / "nyu")
    return root


def write_geonet(root: Path) -> None:
    """The training images of the labeled set as GeoNet has its frames."""
    normals, depths = nyu_normals(root, "train"), nyu_labelled(root, "train")
    (root / "nyu_geonet").mkdir()
    for index in range(len(normals)):
        sample, mean = normals.load(index), 2 * np.array([122.175, 116.169, 103.508])
        arrays = {"img": sample.image_HW3 - mean, "norm": -sample.normals_HW3, "depth": depths.depth(index)}
        savemat(root / f"nyu_geonet/room_{index:04d}-r-1.mat", arrays)


@pytest.mark.parametrize("task", SETS)
def test_a_set_is_fitted_and_scored(task, data, tmp_path):
    family = "normals" if "normals" in task else "depth"
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
