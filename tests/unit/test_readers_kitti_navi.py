"""Readers of KITTI and NAVI on rooms written in their layouts, and on files that are wrong; what the layouts share."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tips_bench.data.kitti import kitti_depth, project, read_scan, velodyne_to_image
from tips_bench.data.navi import navi_depth, navi_normals, nearest, object_box
from tips_bench.data.nyu import nyu_depth
from tips_bench.errors import UserError
from tips_bench.rooms.generate import room
from tips_bench.rooms.writing.dense_sets import KITTI, NAVI, largest_thing, through
from tips_bench.rooms.writing.writers import Manifest, write_rooms

OPTIONS = {"seed": 3, "train": 2, "val": 1, "size": 160, "frames_per_scene": 2, "workers": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dense")
    for layout in ("nyu", "nyu-labelled", "kitti", "navi"):
        write_rooms(layout, folder / layout, **OPTIONS)
    return {layout: folder / layout for layout in ("nyu", "nyu-labelled", "kitti", "navi")}


@pytest.fixture(scope="module")
def frames():
    return room(3, "train", 0, frames=2, size=160).frames


@pytest.fixture
def copied(made, tmp_path):
    return lambda layout: Path(shutil.copytree(made[layout], tmp_path / layout))


def test_kitti_annotated_maps_are_metres_on_the_kb_crop(made, frames):
    reader = kitti_depth(made["kitti"], "train")
    whole = kitti_depth(made["kitti"], "train", crop="none")
    assert reader.size(0) == (352, 1216) and whole.size(0) == (375, 1242) and len(reader) == 2
    assert reader.groups == ["2011_09_26_drive_0000_sync"] * 2 and kitti_depth(made["kitti"], "test").groups[0].endswith("5000_sync")
    sample, full = reader.load(0), whole.load(0)
    assert np.array_equal(sample.depth_HW, full.depth_HW[23:, 13:1229]) and np.array_equal(sample.image_HW3, full.image_HW3[23:, 13:1229])
    truth_HW, known_HW = through(frames[0], KITTI).depth_HW, full.depth_HW > 0
    assert np.abs(full.depth_HW - truth_HW)[known_HW].max() <= 1 / 512 and 0.2 < known_HW.mean() < 0.26
    camera = whole.intrinsics(0)
    assert (camera.fx, camera.cx, camera.cy) == (721.5377, pytest.approx(KITTI.cx), pytest.approx(KITTI.cy))
    assert reader.intrinsics(0).cx == pytest.approx(KITTI.cx - 13) and reader.intrinsics(0).fault(352, 1216) is None


def test_kitti_maps_may_lie_in_the_folders_of_the_release(copied):
    root = copied("kitti")
    before = kitti_depth(root, "train").fingerprint
    (root / "gt_depth/train").mkdir()
    for drive in sorted((root / "gt_depth").glob("2011*")):
        drive.rename(root / "gt_depth/train" / drive.name)
    assert kitti_depth(root, "train").fingerprint == before


def test_kitti_laser_scans_are_projected_as_a_plain_loop_does_it(made):
    reader = kitti_depth(made["kitti"], "train", truth="velodyne", crop="none")
    image, scan = reader.files(0)
    points, matrix = read_scan(scan), velodyne_to_image(image.parents[3])
    expected: dict[tuple[int, int], float] = {}
    for x, y, z in points[:4000].astype(np.float64):
        u, v, w = matrix @ [x, y, z, 1]
        place = int(np.rint(v / w)) - 1, int(np.rint(u / w)) - 1
        if x >= 0 and w > 0 and 0 <= place[0] < 375 and 0 <= place[1] < 1242:
            expected[place] = min(expected.get(place, np.inf), w)
    found = project(points[:4000], matrix, 375, 1242)
    assert np.count_nonzero(found) == len(expected)
    assert all(found[place] == pytest.approx(depth, rel=1e-6) for place, depth in expected.items())
    assert reader.load(0).depth_HW.max() > 0


def test_a_laser_point_takes_the_nearest_and_those_behind_are_left_out():
    matrix = np.array([[0.0, -10, 0, 0], [0, 0, -10, 0], [1, 0, 0, 0]])
    points = np.array([[2.0, -2, -2], [4, -4, -4], [-2, 2, 2], [3, -90, 0]])
    depth_HW = project(points, matrix, 20, 20)
    assert Counter(depth_HW.ravel().tolist()) == {0.0: 399, 2.0: 1} and depth_HW[9, 9] == 2


@pytest.mark.parametrize("kept", [7, 0])
def test_a_truncated_laser_scan_and_a_missing_calibration_are_named(copied, kept):
    root = copied("kitti")
    reader = kitti_depth(root, "train", truth="velodyne")
    scan = reader.files(0)[1]
    scan.write_bytes(scan.read_bytes()[:kept])
    with pytest.raises(UserError, match="not a laser scan"):
        reader.load(0)
    (root / "input/2011_09_26/calib_velo_to_cam.txt").unlink()
    with pytest.raises(UserError, match="calib_velo_to_cam"):
        reader.load(1)
    camera = root / "input/2011_09_26/calib_cam_to_cam.txt"
    for damaged in ("", "P_rect_02: 1 2 3\n"):
        camera.write_text(damaged)
        with pytest.raises(UserError, match=r"calib_cam_to_cam\.txt: no P_rect_02 of twelve numbers"):
            kitti_depth(root, "train").intrinsics(0)
    camera.unlink()
    assert kitti_depth(root, "train").intrinsics(0) is None


def test_images_smaller_than_the_kb_crop_are_refused(copied):
    root = copied("kitti")
    image = kitti_depth(root, "train").files(0)[0]
    Image.fromarray(np.zeros((300, 1242, 3), np.uint8)).save(image)
    with pytest.raises(UserError, match="300x1242, smaller than the KB crop"):
        kitti_depth(root, "train").size(0)


def test_navi_gives_the_object_in_a_square_with_depth_in_metres(made):
    reader = navi_depth(made["navi"], "train", every=1)
    sample, frame = reader.load(0), room(3, "train", 0, frames=2, size=160).frames[0]
    assert reader.ids == ["object_000/multiview-00-rooms/000", "object_000/multiview-00-rooms/001"]
    assert reader.groups == ["object_000"] * 2 and sample.image_HW3.shape == (512, 512, 3) and sample.depth_HW.shape == (512, 512)
    view = through(frame, NAVI)
    truth = view.depth_HW[largest_thing(view)] / 4
    known = sample.depth_HW[sample.depth_HW > 0]
    assert truth.min() * 0.999 <= known.min() and known.max() <= truth.max() * 1.001
    assert navi_depth(made["navi"], "test", every=1).ids == ["object_000/wild_set/000"]
    assert len(navi_depth(made["navi"], "train")) == 1
    camera = reader.intrinsics(0)
    assert (camera.height, camera.width) == (512, 512) and camera.fx >= 700 * 512 / 600


def test_navi_normals_have_length_1_on_the_object_and_face_the_camera(made):
    sample = navi_normals(made["navi"], "train", every=1).load(0)
    depth_HW = navi_depth(made["navi"], "train", every=1).load(0).depth_HW
    known_HW = sample.normals_HW3.any(-1)
    assert known_HW.any() and not (known_HW & (depth_HW == 0)).any()
    assert np.linalg.norm(sample.normals_HW3[known_HW], axis=-1) == pytest.approx(1, abs=1e-5)


def test_navi_with_smaller_copies_reads_those(copied):
    root = copied("navi")
    for path in [*root.glob("*/*/images/*.jpg"), *root.glob("*/*/depth/*.png")]:
        shutil.copy(path, path.with_name(f"downsampled_{path.name}"))
    ours, smaller = navi_depth(root, "train"), navi_depth(root, "train", prefix="downsampled_")
    assert ours.ids == smaller.ids and ours.fingerprint != smaller.fingerprint
    assert np.array_equal(ours.load(0).depth_HW, smaller.load(0).depth_HW)


def test_navi_names_what_is_missing_or_broken(copied, tmp_path):
    with pytest.raises(UserError, match=r"looked for OBJECT/multiview\*/annotations\.json.*navi_v1"):
        navi_depth(tmp_path / "nowhere", "train")
    root = copied("navi")
    notes = root / "object_000/multiview-00-rooms/annotations.json"
    entries = json.loads(notes.read_text())
    notes.write_text(json.dumps(entries[:1]))
    with pytest.raises(UserError, match=r"no entry for 001\.jpg"):
        navi_depth(root, "train")
    notes.write_text(json.dumps([{"filename": "000.jpg"}]))
    with pytest.raises(UserError, match="not NAVI's annotations"):
        navi_depth(root, "train")
    notes.write_text(json.dumps(entries))
    depth = root / "object_000/multiview-00-rooms/depth/000.png"
    Image.fromarray(np.zeros((600, 800), np.uint16)).save(depth)
    with pytest.raises(UserError, match="no pixel in the central square has a depth value"):
        navi_depth(root, "train").load(0)
    depth.unlink()
    with pytest.raises(UserError, match="an image has no file of its values"):
        navi_depth(root, "train")


def test_an_object_box_is_square_and_stays_inside():
    depth_HW = np.zeros((512, 512))
    depth_HW[100:200, 300:340] = 1
    assert object_box(depth_HW) == (slice(100, 199), slice(270, 369))
    depth_HW[:] = 0
    depth_HW[100:200, :20] = 1
    assert object_box(depth_HW) == (slice(100, 199), slice(0, 99))


def test_nearest_is_torchs():
    import torch

    values = np.random.default_rng(0).random((37, 53))
    theirs = torch.nn.functional.interpolate(torch.from_numpy(values)[None, None], size=(61, 20), mode="nearest")[0, 0]
    assert np.array_equal(nearest(values, (61, 20)), theirs.numpy())


@pytest.mark.slow
def test_the_same_seed_writes_the_same_bytes(made, tmp_path):
    for layout, root in made.items():
        again = write_rooms(layout, tmp_path / layout, **OPTIONS)
        assert again == Manifest.read(root) and not again.faults(tmp_path / layout)
        assert set(again.files) == {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} - {"manifest.json"}


def test_depth_files_decode_as_their_publishers_decode_them(made):
    """Pillow and the arithmetic of BTS (nyu / 1000, kitti / 256) and of NAVI's data_util.py (1 / (stored / (65535 x 10)), millimetres)."""
    readers = {
        1000.0: nyu_depth(made["nyu"], "train"),
        256.0: kitti_depth(made["kitti"], "train", crop="none"),
    }
    for scale, reader in readers.items():
        stored = np.asarray(Image.open(reader.files(0)[1]), dtype=np.float32)
        assert np.array_equal(reader.load(0).depth_HW, stored / scale)
    navi = navi_depth(made["navi"], "train", every=1)
    disparity = np.asarray(Image.open(navi.files(0)[1])).astype(np.float64) / (65535 * 10)
    theirs = np.unique(1 / disparity[disparity > 0] / 1000)
    ours = np.unique(navi.load(0).depth_HW)[1:]
    assert np.abs(ours[:, None] - theirs[None]).min(axis=1).max() < 1e-6
