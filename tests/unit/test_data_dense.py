"""Readers of depth and normals from plain folders, and normals that follow from depth."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.helpers.dense_sets import CAMERA, plane, write_pair
from tips_bench.data.camera_geometry import Intrinsics, normals_from_depth
from tips_bench.data.value_folders import depth_folder, normals_folder
from tips_bench.errors import UserError
from tips_bench.metrics.normals import angles


def millimeters(depth_HW: np.ndarray) -> np.ndarray:
    return np.rint(1000 * depth_HW).astype(np.uint16)


NORMALS = [(0.0, 0.0, -1.0), (0.0, -0.6, -0.8), (0.48, 0.36, -0.8), (-0.8, 0.0, -0.6)]


@pytest.mark.parametrize("normal", NORMALS)
def test_the_normals_of_a_plane_are_the_planes(normal):
    found_HW3 = normals_from_depth(plane(normal, 2.0), CAMERA)
    inner = found_HW3[1:-1, 1:-1].reshape(-1, 3)
    assert angles(inner, np.tile(normal, (len(inner), 1))).max() < 1e-4
    assert not found_HW3[0].any() and not found_HW3[:, -1].any()


def test_normals_point_to_the_camera_and_have_length_1():
    found_HW3 = normals_from_depth(plane((0.48, 0.36, -0.8), 2.0), CAMERA)[1:-1, 1:-1]
    assert (found_HW3[..., 2] < 0).all() and np.linalg.norm(found_HW3, axis=-1) == pytest.approx(1)


def test_edges_and_unknown_depth_have_no_normal():
    depth_HW = np.full((24, 36), 2.0)
    depth_HW[:, 18:] = 3
    depth_HW[5, 5] = 0
    known_HW = normals_from_depth(depth_HW, CAMERA).any(-1)
    assert not known_HW[:, 17:19].any() and known_HW[1:-1, 16].all() and known_HW[1:-1, 19].all()
    assert not known_HW[5, 4:7].any() and not known_HW[4:7, 5].any() and known_HW[4, 4]


def test_a_map_of_two_rows_has_no_normals():
    assert not normals_from_depth(np.ones((2, 9)), CAMERA).any()


def test_intrinsics_follow_a_crop_and_a_new_size():
    cropped = CAMERA.boxed(slice(4, 20), slice(6, 30))
    assert (cropped.cx, cropped.cy, cropped.height, cropped.width) == (12.5, 7.0, 16, 24)
    larger = cropped.resized(32, 72)
    assert (larger.fx, larger.fy, larger.cx, larger.cy) == (120, 88, 37.5, 14)


@pytest.mark.parametrize(
    "camera, said",
    [
        (CAMERA, None),
        (CAMERA.resized(48, 72), "48x72 pixels for an image of 24x36"),
        (Intrinsics(80, 88, 37, 22, 24, 36), "another resolution"),
        (Intrinsics(0, 44, 18, 12, 24, 36), "focal lengths 0"),
    ],
)
def test_intrinsics_of_another_resolution_are_noticed(camera, said):
    fault = camera.fault(24, 36)
    assert fault is None if said is None else said in fault


def test_a_folder_of_depth_is_read_in_metres_sorted_and_grouped(tmp_path):
    depth_HW = plane((0.0, -0.6, -0.8), 2.0)
    depth_HW[0, 0] = 0
    for number, id in enumerate(("b_01", "a_02", "a_01")):
        write_pair(tmp_path, id, "depth", millimeters(depth_HW), seed=number)
    reader = depth_folder(tmp_path, "val", group=r"^(.*)_\d+$")
    assert reader.ids == ["a_01", "a_02", "b_01"] and reader.groups == ["a", "a", "b"] and len(reader) == 3
    sample = reader.load(1)
    assert sample.depth_HW.dtype == np.float32 and np.abs(sample.depth_HW - depth_HW).max() <= 0.0005001
    assert sample.depth_HW[0, 0] == 0 and sample.id == "a_02" and reader.size(1) == sample.depth_HW.shape == (24, 36)
    assert reader.intrinsics(0) is None


def test_the_scale_is_part_of_the_datas_identity(tmp_path):
    write_pair(tmp_path, "a", "depth", np.full((24, 36), 512, np.uint16))
    first, second = depth_folder(tmp_path, "val"), depth_folder(tmp_path, "val", scale=256)
    assert first.fingerprint != second.fingerprint
    assert (first.load(0).depth_HW.max(), second.load(0).depth_HW.max()) == (np.float32(0.512), 2)


def test_a_camera_beside_the_depth_is_read(tmp_path):
    write_pair(tmp_path, "a", "depth", np.full((24, 36), 512, np.uint16))
    camera = tmp_path / "cameras/val/a.json"
    camera.parent.mkdir(parents=True)
    camera.write_text(json.dumps({"size": [24, 36], "intrinsics": [[40, 0, 18.5], [0, 44, 11], [0, 0, 1]]}))
    assert depth_folder(tmp_path, "val").intrinsics(0) == CAMERA
    camera.write_text("{")
    with pytest.raises(UserError, match="not a camera"):
        depth_folder(tmp_path, "val").intrinsics(0)


def test_a_folder_of_normals_is_read_with_unknown_pixels(tmp_path):
    normals_HW3 = np.tile(np.array(NORMALS[2]), (24, 36, 1))
    stored = np.rint((normals_HW3 + 1) * 127.5).astype(np.uint8)
    stored[3, 4] = 0
    write_pair(tmp_path, "a", "normals", stored)
    sample = normals_folder(tmp_path, "val").load(0)
    assert not sample.normals_HW3[3, 4].any()
    assert np.linalg.norm(sample.normals_HW3[0], axis=-1) == pytest.approx(1)
    assert angles(sample.normals_HW3[0], normals_HW3[0]).max() < 0.5


@pytest.mark.parametrize("cut", [10, 60])
def test_a_truncated_depth_map_is_named(tmp_path, cut):
    write_pair(tmp_path, "a", "depth", np.arange(24 * 36, dtype=np.uint16).reshape(24, 36))
    path = tmp_path / "depth/val/a.png"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"depth/val/a\.png"):
        depth_folder(tmp_path, "val").load(0)


def test_bytes_colour_and_other_sizes_are_refused(tmp_path):
    reader_of = {"depth": depth_folder, "normals": normals_folder}
    write_pair(tmp_path, "a", "depth", np.full((24, 36), 200, np.uint8))
    with pytest.raises(UserError, match="16-bit"):
        reader_of["depth"](tmp_path, "val").load(0)
    write_pair(tmp_path, "a", "normals", np.full((24, 36, 3), 200, np.uint8))
    Image.fromarray(np.zeros((24, 36, 3), np.uint8)).save(tmp_path / "normals/val/a.png", "JPEG")
    with pytest.raises(UserError, match="JPEG where normals are expected"):
        reader_of["normals"](tmp_path, "val").load(0)
    Image.fromarray(np.zeros((12, 36), np.uint16)).save(tmp_path / "depth/val/a.png")
    with pytest.raises(UserError, match=r"12x36 values, but the image a\.jpg is 24x36"):
        reader_of["depth"](tmp_path, "val").load(0)


def test_a_missing_half_of_a_pair_and_an_empty_root_say_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"no such folder; looked for images/val/\*\.jpg"):
        depth_folder(tmp_path / "nowhere", "val")
    (tmp_path / "images/val").mkdir(parents=True)
    with pytest.raises(UserError, match="there is no depth/val"):
        depth_folder(tmp_path, "val")
    write_pair(tmp_path, "a", "depth", np.zeros((24, 36), np.uint16))
    (tmp_path / "depth/val/a.png").unlink()
    with pytest.raises(UserError, match=r"a\.png: an image has no file of its values \(1 of 1"):
        depth_folder(tmp_path, "val")


@pytest.mark.parametrize("options", [{"scale": 0}, {"scale": "mm"}, {"scales": 1}, {"group": "x"}])
def test_options_that_make_no_sense_are_refused(tmp_path, options):
    write_pair(tmp_path, "a", "depth", np.zeros((24, 36), np.uint16))
    with pytest.raises(UserError, match=r"data\.options"):
        depth_folder(tmp_path, "val", **options)


def test_normals_are_the_mean_of_four_cross_products_as_probe3d_takes_them():
    rng = np.random.default_rng(3)
    depth_HW = 2 + 0.3 * np.sin(np.arange(24)[:, None] / 7) + 0.2 * np.cos(np.arange(36)[None] / 9) + rng.normal(0, 1e-3, (24, 36))
    found_HW3 = normals_from_depth(depth_HW, CAMERA)

    def place(i: int, j: int) -> np.ndarray:
        return depth_HW[i, j] * np.array([(j + 0.5 - CAMERA.cx) / CAMERA.fx, (i + 0.5 - CAMERA.cy) / CAMERA.fy, 1])

    for i, j in ((1, 1), (7, 20), (22, 34), (12, 3)):
        here = place(i, j)
        left, top, right, bottom = (place(i + di, j + dj) - here for di, dj in ((0, -1), (-1, 0), (0, 1), (1, 0)))
        mean = np.cross(left, top) + np.cross(top, right) + np.cross(right, bottom) + np.cross(bottom, left)
        toward = -mean / np.linalg.norm(mean)  # theirs point away from the camera
        assert angles(found_HW3[i, j][None], toward[None])[0] < 1e-4
