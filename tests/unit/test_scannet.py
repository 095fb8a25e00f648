"""ScanNet scans on disk: the same from .sens and from exported frames, and every fault named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.scans import picture, plain_sens, write_both, write_cloud, write_frames
from tips_bench.data.images import decode_image
from tips_bench.data.ply import read_vertices, vertex_count, write_vertices
from tips_bench.data.scannet import scannet
from tips_bench.data.sens import RECORD, open_sens
from tips_bench.errors import UserError

# BenchmarkScripts/3d_evaluation/evaluate_semantic_label.py of ScanNet's repository
VALID_CLASS_IDS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_both(tmp_path_factory.mktemp("scans"))


def test_exported_frames_and_sens_give_the_same_scan(roots: tuple[Path, Path]) -> None:
    exported, packed = (scannet(root, "train", frame_step=1) for root in roots)
    assert exported.ids == packed.ids == ["scene0000_00", "scene0001_00", "scene0002_00"]
    assert exported.groups == ["scene0000", "scene0001", "scene0002"]
    for index in range(3):
        ours, theirs = exported.load(index), packed.load(index)
        for name in ("points_N3", "colors_N3", "labels_N"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        one, other = exported.frames(index), packed.frames(index)
        assert len(one) == len(other) == 3 and one.skipped == other.skipped == 0
        np.testing.assert_array_equal(one.poses_F44, other.poses_F44)
        for camera in ("color", "depth"):
            assert getattr(one, camera).size == getattr(other, camera).size
            np.testing.assert_array_equal(getattr(one, camera).intrinsics_33, getattr(other, camera).intrinsics_33)
        for frame in range(3):
            np.testing.assert_array_equal(one.load(frame).image_HW3, other.load(frame).image_HW3)
            np.testing.assert_array_equal(one.load(frame).depth_HW, other.load(frame).depth_HW)


def test_colour_and_depth_have_their_own_resolution_and_field_of_view(roots: tuple[Path, Path]) -> None:
    frames = scannet(roots[0], "val", frame_step=1).frames(0)
    assert frames.color.size == (56, 56) and frames.depth.size == (28, 28)
    color, depth = frames.color.intrinsics_33, frames.depth.intrinsics_33
    assert color[0, 0] / 56 == pytest.approx(1.05 * depth[0, 0] / 28)
    np.testing.assert_allclose(color[:2, 2], 27.5, atol=1e-5)


def test_a_sens_file_is_read_as_it_is_field_by_field(roots: tuple[Path, Path]) -> None:
    path = next(roots[1].rglob("*.sens"))
    matrices, frames = plain_sens(path)
    file = open_sens(path)
    np.testing.assert_array_equal(file.color_44, matrices[0])
    np.testing.assert_array_equal(file.depth_44, matrices[2])
    assert len(file) == len(frames) == 3
    for frame, (pose_44, jpeg, depth_HW) in enumerate(frames):
        np.testing.assert_array_equal(file.poses_F44[frame], pose_44)
        assert file.color_bytes(frame) == jpeg
        np.testing.assert_array_equal(file.color(frame), decode_image(jpeg, "test"))
        np.testing.assert_array_equal(file.depth(frame), depth_HW)


def plain_labels(path: Path) -> np.ndarray:
    """The 16-bit labels of a file whose vertices are three floats, four bytes and a label."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    assert b"property uchar alpha\nproperty ushort label\n" in head
    return np.frombuffer(body, np.uint8).reshape(-1, 18)[:, 16:].copy().view("<u2")[:, 0]


def test_points_and_labels_are_those_that_open3d_reads(roots: tuple[Path, Path]) -> None:
    reader = scannet(roots[0], "val", frame_step=1)
    scan = reader.load(0)
    cloud = o3d.t.io.read_point_cloud(str(roots[0] / f"scans/{scan.id}/{scan.id}_vh_clean_2.labels.ply"))
    np.testing.assert_array_equal(scan.points_N3, cloud.point.positions.numpy())
    np.testing.assert_array_equal(scan.colors_N3, cloud.point.colors.numpy()[:, :3])
    stored_N = plain_labels(roots[0] / f"scans/{scan.id}/{scan.id}_vh_clean_2.labels.ply")  # Open3D leaves 16-bit labels out
    assert reader.points(0) == len(scan.labels_N) == len(stored_N)
    expected = {id: index for index, id in enumerate(VALID_CLASS_IDS)}
    np.testing.assert_array_equal(scan.labels_N, [expected.get(int(id), 255) for id in stored_N])
    assert len(set(stored_N[scan.labels_N == 255])) > 3, "ids of NYU40 that the benchmark leaves out are ignored"


def test_the_classes_are_the_benchmarks_in_its_order(roots: tuple[Path, Path]) -> None:
    reader = scannet(roots[0], "val", frame_step=1)
    assert len(reader.classes) == len(reader.palette) == len(set(reader.palette)) == 20
    assert reader.classes[:3] == ["wall", "floor", "cabinet"] and reader.classes[-1] == "otherfurniture"


def test_a_written_ply_is_what_open3d_reads(tmp_path: Path) -> None:
    vertices = np.zeros(7, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("label", "u1")])
    rng = np.random.default_rng(0)
    for name in vertices.dtype.names or ():
        vertices[name] = rng.integers(0, 200, 7)
    write_vertices(vertices, tmp_path / "a.ply")
    cloud = o3d.t.io.read_point_cloud(str(tmp_path / "a.ply"))
    np.testing.assert_array_equal(cloud.point.positions.numpy(), np.stack([vertices[axis] for axis in "xyz"], 1))
    np.testing.assert_array_equal(cloud.point.label.numpy()[:, 0], vertices["label"])
    np.testing.assert_array_equal(read_vertices(tmp_path / "a.ply"), vertices)
    assert vertex_count(tmp_path / "a.ply") == 7


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan of five frames whose numbers are multiples of 20; the root."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "scans/scene0000_00"
    color_33 = np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
    depth_33 = np.array([[25.0, 0, 15.5], [0, 25, 11.5], [0, 0, 1]])
    frames = {20 * n: (picture(n, 48, 64), np.full((24, 32), 2000, np.uint16), np.eye(4)) for n in range(5)}
    frames[7] = frames[20]
    write_frames(folder, color_33, depth_33, frames)
    write_cloud(folder, rng.uniform((-1, -1, 1), (1, 1, 3), (30, 3)), np.resize(VALID_CLASS_IDS, 30))
    (tmp_path / "scannetv2_val.txt").write_text("scene0000_00\n")
    return tmp_path


def test_every_so_many_frames_are_taken_by_their_number(scan: Path) -> None:
    assert [scannet(scan, "val").frames(0).numbers, scannet(scan, "val", frame_step=40).frames(0).numbers] == [
        [0, 20, 40, 60, 80],
        [0, 40, 80],
    ]


@pytest.mark.parametrize("lost", [-np.inf, np.nan, 0.0])
def test_frames_without_a_pose_are_left_out_and_counted(scan: Path, lost: float) -> None:
    np.savetxt(scan / "scans/scene0000_00/pose/40.txt", np.full((4, 4), lost))
    frames = scannet(scan, "val").frames(0)
    assert (frames.numbers, frames.skipped, len(frames.poses_F44)) == ([0, 20, 60, 80], 1, 4)


def test_lost_frames_of_a_sens_file_are_left_out_and_counted(roots: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(roots[1], tmp_path / "set")
    path = next((tmp_path / "set/scans/scene0000_00").glob("*.sens"))
    data, file = bytearray(path.read_bytes()), open_sens(path)
    start = int(file.offsets_F[1]) - RECORD.itemsize
    data[start : start + 64] = np.full(16, -np.inf, "<f4").tobytes()
    path.write_bytes(data)
    frames = scannet(tmp_path / "set", "train", frame_step=1).frames(0)
    assert (frames.numbers, frames.skipped) == ([0, 2], 1)


def test_the_fingerprint_tells_data_apart(scan: Path) -> None:
    first = scannet(scan, "val").fingerprint
    assert scannet(scan, "val").fingerprint == first != scannet(scan, "val", frame_step=40).fingerprint
    path = scan / "scans/scene0000_00/color/20.jpg"
    path.write_bytes(path.read_bytes() + b"\0")
    assert scannet(scan, "val").fingerprint != first


def _drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def _other_size(folder: Path) -> None:
    shutil.copy(folder / "color/0.jpg", folder / "color/20.jpg.old")
    from tips_bench.rooms.writing.layouts import jpeg

    (folder / "color/20.jpg").write_bytes(jpeg(picture(1, 40, 64)))


def _unlabeled(folder: Path) -> None:
    shutil.copy(folder / "scene0000_00_vh_clean_2.ply", folder / "scene0000_00_vh_clean_2.labels.ply")


def _fewer_labels(folder: Path) -> None:
    path = folder / "scene0000_00_vh_clean_2.labels.ply"
    write_vertices(read_vertices(path)[:-1], path)


def _cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9]) and None


COLOR = "intrinsic/intrinsic_color.txt"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_drop("pose/40.txt"), "pose/40.txt: cannot read"),
        (_write("pose/40.txt", "1 0 0"), "3 numbers, and a matrix has 4 x 4"),
        (_write("pose/40.txt", "one two"), "not a matrix of numbers"),
        (_write(COLOR, "1170 0 647.75 0 0 1170 483.75 0 0 0 1 0 0 0 0 1"), "images of 48x64 pixels. They are of another resolution"),
        (_write("intrinsic/intrinsic_depth.txt", "50 0 31.5 0 0 50 23.5 0 0 0 1 0 0 0 0 1"), "the depth intrinsics"),
        (_unlabeled, "labels.ply: its vertices have no label"),
        (_fewer_labels, "29 labels for 30 points"),
        (_drop("scene0000_00_vh_clean_2.labels.ply"), "labels.ply: it is missing"),
        (_drop("depth/20.png"), "depth/20.png: cannot read"),
        (_cut("depth/20.png"), "the depth map is truncated"),
        (_cut("scene0000_00_vh_clean_2.ply"), "the file is truncated: 29 of 30 vertices"),
        (_other_size, "the scan's other frames have (48, 64)"),
    ],
)  # fmt: skip
def test_a_fault_is_one_sentence_that_names_the_file(scan: Path, spoil: Callable[[Path], None], words: str) -> None:
    spoil(scan / "scans/scene0000_00")
    with pytest.raises(UserError) as error:
        reader = scannet(scan, "val")
        reader.load(0)
        frames = reader.frames(0)
        for index in range(len(frames)):
            frames.load(index)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"), [("", "empty"), ("scene0000_00 scene0000_00", "a scan twice"), ("../x", "not the id of a scan"), (None, "cannot")]
)  # fmt: skip
def test_a_list_of_scans_that_is_none_is_refused(scan: Path, text: str | None, words: str) -> None:
    (scan / "scannetv2_val.txt").unlink() if text is None else (scan / "scannetv2_val.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        scannet(scan, "val")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_cut_or_changed_sens_file_is_refused_or_read_but_nothing_else(
    roots: tuple[Path, Path], tmp_path: Path, data: st.DataObject
) -> None:
    whole = next(roots[1].rglob("*.sens")).read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path / "cut.sens"
    path.write_bytes(whole[:cut])
    with pytest.raises(UserError):
        open_sens(path)
    changed = bytearray(whole)
    for _ in range(4):
        changed[data.draw(st.integers(0, 400))] = data.draw(st.integers(0, 255))
    path.write_bytes(changed)
    try:
        file = open_sens(path)
        file.color(0)
        file.depth(0)
    except UserError as error:
        assert "\n" not in str(error)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_bytes_that_are_no_ply_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.ply"
    for start in (b"", b"ply\nformat binary_little_endian 1.0\nelement vertex 5\n"):
        path.write_bytes(start + data)
        with pytest.raises(UserError):
            read_vertices(path)


@pytest.mark.parametrize(
    ("count", "properties", "message"),
    [
        ("99999999999999", "property float x\n", "the file is truncated: 1 of 99999999999999 vertices"),
        ("1" + "0" * 5000, "property float x\n", "does not begin with its vertices"),
        ("-1", "property float x\n", "does not begin with its vertices"),
        ("1", "", "vertices without a property"),
        ("1", "property list uchar int x\n", "which is not understood"),
        ("1", "property float x\nproperty float x\n", "contradictory properties"),
    ],
)
def test_a_header_that_lies_is_refused_before_memory_is_taken(tmp_path: Path, count: str, properties: str, message: str) -> None:
    path = tmp_path / "x.ply"
    path.write_bytes(f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n{properties}end_header\n".encode() + bytes(4))
    with pytest.raises(UserError, match=message):
        read_vertices(path)


def test_faces_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "x.ply"
    faces = "element face 99999999\nproperty list uint float y\n"
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\n{faces}end_header\n"
    path.write_bytes(header.encode() + np.float32(2.5).tobytes() + b"\xff\xff\xff\x3f")
    assert read_vertices(path)["x"].tolist() == [2.5]
