"""Rooms written as the real sets are found on disks run to a record: ScanNet with its stray labels, KITTI as its archives unpack."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.helpers.scans import OPTIONS, to_cpp, to_frames_25k, to_openscene, write_task
from tips_bench.cli.app import app
from tips_bench.data.ply import read_vertices, write_vertices
from tips_bench.evaluation.run import evaluate
from tips_bench.rooms.writing.writers import write_rooms

POINTS = ["image.short_side=56", "probe.points_per_scan=400"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rooms as ScanNet, with points of the ids 50 and 149 in two training scans (issue 20 of ScanNet/ScanNet)."""
    root = tmp_path_factory.mktemp("scans") / "scannet"
    write_rooms("scannet", root, **OPTIONS)
    for scan, id in (("scene0000_00", 50), ("scene0001_00", 149)):
        path = root / f"scans/{scan}/{scan}_vh_clean_2.labels.ply"
        vertices = read_vertices(path).copy()
        vertices["label"][:20] = id
        write_vertices(vertices, path)
    return root


@pytest.mark.parametrize("layout", ["python", "cpp", "openscene", "frames_25k"])
def test_scannet_with_the_labels_50_and_149_runs_to_a_record(
    scans: Path, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(scans, tmp_path / "data/scannet"))
    if layout == "cpp":
        for folder in (root / "scans").iterdir():
            to_cpp(folder)
    elif layout != "python":
        (to_openscene if layout == "openscene" else to_frames_25k)(root)
    write_task(tmp_path, "scannet", "mine")
    monkeypatch.chdir(tmp_path)
    record = evaluate("mine", "pixels", "convex-points", data_root=tmp_path / "data", out=tmp_path / "out", overrides=POINTS)
    assert (record.dataset.n, record.dataset.train_n) == (2, 3) and 0 <= record.metrics["mIoU_visible"].value <= 100
    said = " ".join(map(str, record.deviations))
    assert ("OpenScene" in said, "every 100th frame" in said) == (layout == "openscene", layout == "frames_25k")


def test_kitti_as_its_archives_unpack_is_checked_and_runs_to_a_record(tmp_path: Path) -> None:
    """The raw drives, train/ and val/ of data_depth_annotated.zip, and BTS's lists, all in data/kitti, as the card says."""
    root = tmp_path / "data/kitti"
    write_rooms("kitti", root, seed=5, train=2, val=2, size=160, frames_per_scene=1, workers=1)
    for date in list((root / "input").iterdir()):
        date.rename(root / date.name)
    for drive in sorted((root / "gt_depth").iterdir()):
        place = root / ("val" if "_drive_5" in drive.name else "train")
        place.mkdir(exist_ok=True)
        drive.rename(place / drive.name)
    for folder in ("input", "gt_depth"):
        (root / folder).rmdir()
    for split in ("train", "test"):
        (root / f"kitti_eigen_{split}.txt").rename(root / f"eigen_{split}_files_with_gt.txt")
    record = evaluate(
        "kitti-depth", "pixels", "convex-depth", data_root=tmp_path / "data", out=tmp_path / "out", overrides=["image.short_side=112"]
    )
    assert (record.dataset.n, record.dataset.train_n) == (2, 2) and 0 < record.metrics["RMSE"].value < 80
    done = CliRunner().invoke(app, ["data", "check", "kitti-depth", "--data-root", str(tmp_path / "data"), "--json"])
    train, test = json.loads(done.stdout)
    assert train["layout"] == "eigen_train_files_with_gt.txt, images in ./, depth in train/"
    assert test["layout"] == "eigen_test_files_with_gt.txt, images in ./, depth in val/"
    assert done.exit_code == 1 and [report["faults"] for report in (train, test)] == [
        ["2 samples, expected 23158"],
        ["2 samples, expected 652"],
    ]
    shown = CliRunner().invoke(app, ["data", "check", "kitti-depth", "--data-root", str(tmp_path / "data")])
    assert "depth in train/" in shown.stdout and "layout" in shown.stdout
