"""A look at every depth map and every map of normals finds what is wrong: units, zeros, axes, cameras."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.helpers.dense_sets import CAMERA, plane, write_pair
from tips_bench.cards import load_card
from tips_bench.data.checks.pixel_values import check_depth, check_normals
from tips_bench.data.checks.task import check_task
from tips_bench.data.kitti import kitti_depth
from tips_bench.data.nyu_normals import nyu_normals
from tips_bench.data.value_folders import depth_folder, normals_folder
from tips_bench.rooms.writing.writers import write_rooms

TILT = (0.48, 0.36, -0.8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four depth maps in millimetres with their cameras, and their normals."""
    for number, distance in enumerate((1.0, 1.5, 2.0, 2.5)):
        depth_HW = np.rint(1000 * plane(TILT, distance)).astype(np.uint16)
        write_pair(tmp_path, f"{number}", "depth", depth_HW, seed=number)
        write_pair(tmp_path, f"{number}", "normals", stored(TILT), seed=number)
        put_camera(tmp_path, f"{number}", 24, 36, 40.0)
    return tmp_path


def stored(normal: tuple[float, float, float], shape: tuple[int, int] = (24, 36)) -> np.ndarray:
    return np.tile(np.rint((np.array(normal) + 1) * 127.5).astype(np.uint8), (*shape, 1))


def put_camera(root: Path, id: str, height: int, width: int, focal: float, scale: float = 1.0) -> None:
    path = root / f"cameras/val/{id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [[focal, 0, scale * CAMERA.cx], [0, focal, scale * CAMERA.cy], [0, 0, 1]]
    path.write_text(json.dumps({"size": [height, width], "intrinsics": rows}))


def test_a_good_set_of_depth_is_measured(root):
    report = check_depth(depth_folder(root, "val"), expected=4)
    assert report.ok and report.samples == 4 and report.sizes == {"24x36": 4}
    depths = np.stack([depth_folder(root, "val").load(index).depth_HW for index in range(4)])
    assert report.facts["depth"].startswith(f"{depths.min():.4g} to {depths.max():.4g} m")
    assert report.facts["known"].startswith("100.0 % of pixels") and report.facts["cameras"] == "1, focal lengths 40.0 pixels"
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


@pytest.mark.parametrize(
    "scale, said",
    [(1, "millimetres read as metres (then 2."), (1e6, "metres read as millimetres (then 2."), (1e-9, "outside 0.05 to 200 m")],
)
def test_depth_in_another_unit_is_noticed_and_the_unit_guessed(root, scale, said):
    (fault,) = check_depth(depth_folder(root, "val", scale=scale)).faults
    assert said in fault and fault.startswith("a median depth of")


def test_the_reach_of_a_sets_own_sensor_is_narrower(tmp_path):
    write_rooms("kitti", tmp_path / "k", seed=1, train=1, val=1, size=64, workers=1)
    reader = kitti_depth(tmp_path / "k", "train")
    assert check_depth(reader).ok
    reader.scale = 256 * 256
    (fault,) = check_depth(reader).faults
    assert "outside 1.5 to 90 m" in fault


def test_zeros_truncated_files_and_cameras_of_another_resolution_are_all_listed(root):
    Image.fromarray(np.zeros((24, 36), np.uint16)).save(root / "depth/val/0.png")
    path = root / "depth/val/1.png"
    path.write_bytes(path.read_bytes()[:-9])
    put_camera(root, "2", 480, 640, 40.0)
    put_camera(root, "3", 24, 36, 80.0, scale=2)
    report = check_depth(depth_folder(root, "val"), expected=5)
    assert len(report.faults) == 5
    for fault, said in zip(
        report.faults,
        [
            "0: depth of all zeros",
            "1.png: the depth map is truncated",
            "480x640 pixels for an image of 24x36",
            "another resolution?",
            "expected 5",
        ],
        strict=True,
    ):
        assert said in fault


def test_good_normals_face_the_camera_and_outward_ones_are_a_fault(root):
    report = check_normals(normals_folder(root, "val"), expected=4)
    assert report.ok and report.facts["normals"] == "100.0 % face the camera"
    for number in range(4):
        write_pair(root, f"{number}", "normals", stored((0.48, 0.36, 0.8)))
    (fault,) = check_normals(normals_folder(root, "val")).faults
    assert "0.0 % face the camera only" in fault


def test_a_map_without_normals_is_a_fault(root):
    write_pair(root, "1", "normals", np.zeros((24, 36, 3), np.uint8))
    assert check_normals(normals_folder(root, "val")).faults == ["1: no pixel has a normal"]


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("check") / "nyu"
    write_rooms("nyu-labelled", root, seed=4, train=2, val=2, size=200, frames_per_scene=2, workers=1)
    return root


def test_normals_of_nyu_fit_their_depth_and_other_axes_are_told_which_fit(labeled):
    report = check_normals(nyu_normals(labeled, "train"))
    assert report.ok and report.facts["axes"] == "+x+y-z"
    for wrong in ("+x-y-z", "-x-y-z", "+y+x-z", "+x+y+z"):
        faults = check_normals(nyu_normals(labeled, "train", axes=wrong)).faults
        assert any("axes=+x+y-z" in fault for fault in faults), wrong


def test_normals_from_depth_are_remarked_upon(labeled):
    report = check_normals(nyu_normals(labeled, "test", source="depth"))
    assert report.ok and "do not compare with published" in report.remarks[0]


def test_the_labelled_set_of_zeros_in_millimetres_is_found_by_its_task(labeled, tmp_path):
    root = Path(shutil.copytree(labeled, tmp_path / "nyu"))
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "a") as data:
        data["rawDepths"][0] = 0
        data["rawDepths"][1:] = data["rawDepths"][1:] * 1000
    train, test = check_task(load_card("task", "nyu-labelled"), tmp_path)
    assert "0001: depth of all zeros" in train.faults and "2 samples, expected 795" in train.faults
    assert any("millimetres read as metres" in fault for fault in test.faults)


def test_a_missing_pair_is_the_fault_of_its_split(root):
    (root / "depth/val/2.png").unlink()
    card = load_card("task", "rooms-depth", ["data.root=.", "data.options.group=null"])
    (report,) = check_task(card, root, roles=("test",))
    assert "an image has no file of its values (1 of 4" in report.faults[0]
