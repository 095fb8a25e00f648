"""ScanNet in the layouts that its files are passed around in, each as its source describes it, and the quirks of the real files.

* Labels: scene0270_00 and scene0270_02 hold the id 50, scene0384_00 the id 149 (issue 20 of ScanNet/ScanNet, 2018). Both are ignored:
  pengsongyou/openscene 0f369bc, scripts/preprocess/preprocess_3d_scannet.py:8-10 (a table of 150 entries);
  chrischoy/SpatioTemporalSegmentation 4afee29, lib/datasets/preprocessing/scannet.py:12-16 and 52-60 (made 0, unlabelled).
* SensReader in Python: ScanNet/ScanNet 3830fce, SensReader/python/SensorData.py:78-125.
* SensReader in C++: ScanNet/ScanNet 3830fce, SensReader/c++/src/sensorData.h:1380-1466 (names, _info.txt), 1342-1358 (16-bit PGM).
* OpenScene's 2D set: pengsongyou/openscene 0f369bc, scripts/preprocess/README.md:57-78, preprocess_2d_scannet.py:81-128;
  read so, too, by YunzeMan/Lexicon3D a58be22, lexicon3d/fusion_scannet_dinov2.py:55-72 and 130.
* scannet_frames_25k: ScanNet/ScanNet 3830fce, BenchmarkScripts/convert2panoptic.py:44-45, 89 and 155; xuxw98/Online3D 441538f,
  data/scannet-sv/generate_18cls_gt_data.py:446-447 and 601-608.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.scans import OPTIONS, to_cpp, to_frames_25k, to_openscene
from tips_bench.data.images import read_pgm16
from tips_bench.data.ply import read_vertices, write_vertices
from tips_bench.data.scannet import scannet
from tips_bench.errors import UserError
from tips_bench.rooms.writing.writers import write_rooms

ID = "scene0000_00"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scans") / "scannet"
    write_rooms("scannet", root, **OPTIONS)
    return root


@pytest.fixture
def root(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "scannet"))


def relabel(root: Path, scan: str, id: int) -> np.ndarray:
    """Give the first ten points of a scan an id; returns which points those are."""
    path = root / f"scans/{scan}/{scan}_vh_clean_2.labels.ply"
    vertices = read_vertices(path).copy()
    vertices["label"][:10] = id
    write_vertices(vertices, path)
    return np.arange(len(vertices)) < 10


@pytest.mark.parametrize("id", [50, 149])
def test_the_ids_50_and_149_of_three_training_scans_are_ignored(root: Path, id: int) -> None:
    before_N = scannet(root, "train", frame_step=1).load(0).labels_N
    changed_N = relabel(root, ID, id)
    labels_N = scannet(root, "train", frame_step=1).load(0).labels_N
    assert (labels_N[changed_N] == 255).all()
    np.testing.assert_array_equal(labels_N[~changed_N], before_N[~changed_N])


@pytest.mark.parametrize("id", [41, 148, 1163])
def test_other_ids_above_40_are_those_of_another_file_and_refused(root: Path, id: int) -> None:
    relabel(root, ID, id)
    with pytest.raises(UserError, match=f"a label of {id}, and ids of NYU40 end at 40"):
        scannet(root, "train", frame_step=1).load(0)


def _same_frames(root: Path, exported: Path) -> None:
    ours, theirs = (scannet(place, "train", frame_step=1).frames(0) for place in (root, exported))
    assert ours.numbers == theirs.numbers == [0, 1, 2]
    np.testing.assert_allclose(ours.poses_F44, theirs.poses_F44)
    for camera in ("color", "depth"):
        assert getattr(ours, camera).size == getattr(theirs, camera).size
        np.testing.assert_allclose(getattr(ours, camera).intrinsics_33, getattr(theirs, camera).intrinsics_33)
    for index in range(3):
        np.testing.assert_array_equal(ours.load(index).image_HW3, theirs.load(index).image_HW3)
        np.testing.assert_array_equal(ours.load(index).depth_HW, theirs.load(index).depth_HW)


@pytest.mark.parametrize("inside", ["", "sensor_data"])
def test_frames_of_the_cpp_reader_are_the_same(root: Path, exported: Path, inside: str) -> None:
    for folder in (root / "scans").iterdir():
        to_cpp(folder)
        if inside:
            (folder / inside).mkdir()
            for path in [*folder.glob("frame-*"), folder / "_info.txt"]:
                path.rename(folder / inside / path.name)
    _same_frames(root, exported)
    reader = scannet(root, "train", frame_step=1)
    assert reader.layout == "frames exported by ScanNet's SensReader in C++ (frame-000000.color.jpg, _info.txt) (3 scans)"
    assert reader.remarks == ()


@pytest.mark.parametrize("inside", ["", "tasks"])
def test_scannet_frames_25k_are_read_and_said_in_the_record(root: Path, exported: Path, inside: str) -> None:
    to_frames_25k(root, inside)
    _same_frames(root, exported)
    reader = scannet(root, "train", frame_step=1)
    assert reader.layout == "scannet_frames_25k (3 scans)" and "every 100th frame only" in reader.remarks[0]


def test_frames_of_openscenes_2d_set_have_one_camera_for_all(root: Path, exported: Path) -> None:
    to_openscene(root)
    reader = scannet(root, "train", frame_step=1)
    frames, before = reader.frames(0), scannet(exported, "train", frame_step=1).frames(0)
    np.testing.assert_array_equal(frames.load(1).depth_HW, before.load(1).depth_HW)
    assert frames.color.size == frames.depth.size == before.depth.size
    np.testing.assert_allclose(frames.color.intrinsics_33, frames.depth.intrinsics_33)
    assert "OpenScene" in reader.layout and "one camera for all scans" in reader.remarks[0]


def test_the_layout_of_each_scan_is_counted(root: Path) -> None:
    to_cpp(root / "scans" / ID)
    assert scannet(root, "train", frame_step=1).layout.count("scans)") == 2


def test_the_release_is_asked_for_where_there_are_no_frames(root: Path) -> None:
    shutil.rmtree(root / "scans" / ID / "color")
    with pytest.raises(UserError, match=rf"{ID}\.sens: it is missing"):
        scannet(root, "train", frame_step=1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text.replace("m_depthShift", "m_shift"), "does not state the cameras and the unit of depth"),
        (lambda text: text.replace("m_depthShift = 1000", "m_depthShift = 0"), "depth has a unit"),
        (lambda text: text.replace("m_calibrationColorIntrinsic = ", "m_calibrationColorIntrinsic = 1 "), "17 numbers"),
        (lambda text: text.replace("m_calibrationColorIntrinsic = ", "m_calibrationColorIntrinsic = x "), "not a matrix of numbers"),
    ],
)
def test_an_info_file_that_is_none_is_named(root: Path, spoil: Callable[[str], str], words: str) -> None:
    to_cpp(root / "scans" / ID)
    info = root / "scans" / ID / "_info.txt"
    info.write_text(spoil(info.read_text()))
    with pytest.raises(UserError, match=words):
        scannet(root, "train", frame_step=1).frames(0)


@pytest.mark.parametrize("data", [b"", b"P5 2 1 255\nab", b"P5\n2 1\n65535\nabc", b"P2\n2 1\n65535\n1 2", b"P5 999999 999999 65535\n"])
def test_a_pgm_file_that_is_none_of_16_bits_or_cut_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "frame-000000.depth.pgm"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"frame-000000\.depth\.pgm: "):
        read_pgm16(path)
