"""Readers of NYU, KITTI and NAVI on rooms written in those sets' layouts, and on files that are wrong."""

import json
import pickle
import shutil
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from tips_bench.data.kitti import kitti_depth, project, read_scan, velodyne_to_image
from tips_bench.data.navi import navi_depth, navi_normals, nearest, object_box
from tips_bench.data.nyu import CAMERA, nyu_depth, nyu_labelled
from tips_bench.data.nyu_normals import nyu_geonet, nyu_normals, parse_axes
from tips_bench.data.surface import normals_from_depth
from tips_bench.errors import UserError
from tips_bench.metrics.normals import angles
from tips_bench.rooms.dense_sets import KITTI, NAVI, NYU, largest_thing, through
from tips_bench.rooms.generate import room
from tips_bench.rooms.writers import Manifest, write_rooms

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


def test_nyu_in_one_folder_gives_the_frames_in_metres(made, frames):
    reader = nyu_depth(made["nyu"], "train")
    assert len(reader) == 2 and reader.size(0) == (480, 640) and len(set(reader.groups)) == 1
    assert not reader.groups[0].endswith("a") and "/" not in reader.groups[0]
    sample = reader.load(0)
    assert np.abs(sample.depth_HW - through(frames[0], NYU).depth_HW).max() <= 0.000501
    assert sample.image_HW3.shape == (480, 640, 3) and reader.intrinsics(0) == CAMERA
    test = nyu_depth(made["nyu"], "test")
    assert len(test) == 1 and test.groups == test.ids


def test_nyu_in_the_folders_of_bts_is_the_same_data(made, tmp_path):
    one = made["nyu"]
    for split, folder in (("train", "sync"), ("test", "official_splits/test")):
        for line in (one / f"nyu_{split}.txt").read_text().split("\n"):
            for name in line.split()[:2]:
                target = tmp_path / folder / name.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(one / name.lstrip("/"), target)
        shutil.copy(one / f"nyu_{split}.txt", tmp_path / f"nyudepthv2_{split}_files_with_gt.txt")
        ours, theirs = nyu_depth(one, split), nyu_depth(tmp_path, split)
        assert ours.ids == theirs.ids and ours.fingerprint == theirs.fingerprint
        assert np.array_equal(ours.load(0).depth_HW, theirs.load(0).depth_HW)


def test_lines_without_depth_are_left_out(copied):
    root = copied("nyu")
    with (root / "nyu_train.txt").open("a") as file:
        file.write("/nowhere/rgb_1.jpg None 518.8579\n")
    assert len(nyu_depth(root, "train")) == 2


@pytest.mark.parametrize(
    "line, said",
    [
        ("/a/rgb.jpg", "names no depth map"),
        ("../a.jpg ../b.png 1", "leads out of the folder"),
        ("/a/rgb.jpg /a/depth.png 518.8579", "an image that the split names is missing"),
    ],
)
def test_a_list_that_is_wrong_is_named(copied, line, said):
    root = copied("nyu")
    with (root / "nyu_train.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=said):
        nyu_depth(root, "train")


def test_a_root_without_nyu_says_which_lists_were_looked_for_and_how_to_get_them(tmp_path):
    with pytest.raises(UserError, match=r"looked for nyu_train\.txt .* or nyudepthv2_train_files_with_gt\.txt with sync/.*bts"):
        nyu_depth(tmp_path, "train")
    with pytest.raises(UserError, match="split named 'val'"):
        nyu_depth(tmp_path, "val")


def test_the_labelled_mat_is_what_h5py_and_scipy_say(made, frames):
    root = made["nyu-labelled"]
    reader, filled = nyu_labelled(root, "train"), nyu_labelled(root, "train", depth="filled")
    numbers = loadmat(root / "splits.mat")["trainNdxs"].ravel()
    assert reader.ids == [f"{number:04d}" for number in numbers] and len(set(reader.groups)) == 1
    with h5py.File(root / "nyu_depth_v2_labeled.mat") as data:
        theirs = np.array(data["images"]).transpose(0, 3, 2, 1), np.array(data["rawDepths"]).transpose(0, 2, 1)
    for index, number in enumerate(numbers):
        sample = reader.load(index)
        assert np.array_equal(sample.image_HW3, theirs[0][number - 1]) and np.array_equal(sample.depth_HW, theirs[1][number - 1])
    view = through(frames[0], NYU)
    assert np.array_equal(filled.load(0).depth_HW, view.depth_HW) and np.array_equal(filled.load(0).image_HW3, view.image_HW3)
    assert not reader.load(0).depth_HW[::40].any() and reader.fingerprint != filled.fingerprint


def test_the_labelled_reader_travels_to_a_worker(made):
    reader = nyu_labelled(made["nyu-labelled"], "test")
    there = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(there.load(0).depth_HW, reader.load(0).depth_HW)


@pytest.mark.parametrize("file, keep", [("nyu_depth_v2_labeled.mat", 0.5), ("nyu_depth_v2_labeled.mat", 0), ("splits.mat", 0.6)])
def test_a_truncated_mat_is_named(copied, file, keep):
    path = copied("nyu-labelled") / file
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(UserError, match=rf"{file}: .*[Ff]etch it again"):
        reader = nyu_labelled(path.parent, "train")
        for index in range(len(reader)):
            reader.load(index)


@pytest.mark.parametrize("file", ["nyu_depth_v2_labeled.mat", "splits.mat"])
def test_changed_bytes_and_cuts_give_one_sentence_or_arrays(made, tmp_path, file):
    data, rng = (made["nyu-labelled"] / file).read_bytes(), np.random.default_rng(0)
    other = {"splits.mat", "nyu_depth_v2_labeled.mat"} - {file}
    (tmp_path / other.pop()).symlink_to(made["nyu-labelled"] / ({"splits.mat", "nyu_depth_v2_labeled.mat"} - {file}).pop())
    refused = 0
    for number in range(12):
        changed = bytearray(data[: rng.integers(len(data))]) if number % 2 else bytearray(data)
        for place in rng.integers(0, min(len(data), 4096), 6 * (number % 2 == 0)):
            changed[place] = rng.integers(256)
        (tmp_path / file).write_bytes(changed)
        try:
            reader = nyu_labelled(tmp_path, "test")
            assert all(reader.load(index).depth_HW.shape == (480, 640) for index in range(len(reader)))
        except UserError:
            refused += 1
    assert refused > 5


def test_another_mat_or_another_split_is_refused(copied):
    root = copied("nyu-labelled")
    savemat(root / "splits.mat", {"trainNdxs": np.array([[1], [9]])})
    with pytest.raises(UserError, match="not different numbers of 1-3"):
        nyu_labelled(root, "train")
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "a") as data:
        del data["rawDepths"]
    with pytest.raises(UserError, match="rawDepths is nothing"):
        nyu_labelled(root, "train")
    (root / "splits.mat").unlink()
    with pytest.raises(UserError, match=r"there is no splits\.mat.*indoor_seg_sup"):
        nyu_labelled(root, "train")


def test_nyu_normals_are_those_of_the_folder_and_agree_with_the_depth(made, frames):
    reader = nyu_normals(made["nyu-labelled"], "train")
    assert reader.source == "png" and not reader.remarks
    truth_HW3 = through(frames[0], NYU).normals_HW3
    found_HW3 = reader.load(0).normals_HW3
    known_HW = truth_HW3.any(-1)
    assert np.array_equal(found_HW3.any(-1), known_HW) and angles(found_HW3[known_HW], truth_HW3[known_HW]).max() < 0.6
    from_depth = nyu_normals(made["nyu-labelled"], "train", source="depth")
    assert "do not compare with published" in from_depth.remarks[0] and from_depth.fingerprint != reader.fingerprint


def test_nyu_normals_of_arrays_are_turned_into_our_frame(copied):
    root = copied("nyu-labelled")
    pngs = nyu_normals(root, "train", source="png")
    stored = np.stack([pngs.load(index).normals_HW3 for index in range(2)] + [np.zeros((480, 640, 3), np.float32)])
    np.save(root / "all_normals.npy", -stored)
    np.save(root / "all_valid_depth_masks.npy", stored.any(-1))
    shutil.rmtree(root / "normals_gt")
    arrays = nyu_normals(root, "train")
    assert arrays.source == "array"
    assert np.allclose(arrays.load(1).normals_HW3, stored[1], atol=1e-6) and arrays.fingerprint != pngs.fingerprint
    np.save(root / "all_normals.npy", stored[:1])
    with pytest.raises(UserError, match=r"all_normals\.npy: arrays of"):
        nyu_normals(root, "train")
    (root / "all_normals.npy").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(UserError, match="not an array of numbers"):
        nyu_normals(root, "train")


def test_without_a_set_of_normals_they_follow_from_depth_and_a_source_that_is_asked_for_must_be_there(copied):
    root = copied("nyu-labelled")
    shutil.rmtree(root / "normals_gt")
    reader = nyu_normals(root, "test")
    assert reader.source == "depth" and reader.remarks
    assert np.array_equal(reader.load(0).normals_HW3, normals_from_depth(reader.depth(0), CAMERA))
    with pytest.raises(UserError, match="looked for normals_gt/normals"):
        nyu_normals(root, "test", source="png")


def test_axes_are_signed_letters():
    order, signs = parse_axes("-y+x-z")
    assert np.array_equal(np.array([1.0, 2.0, 3.0])[order] * signs, [-2, 1, -3])
    for wrong in ("+x+y", "xyz", "+x+x+z", "+x +y +z", ""):
        with pytest.raises(UserError, match="three signed axes"):
            parse_axes(wrong)


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
    with pytest.raises(UserError, match="no laser scan"):
        reader.load(0)
    (root / "input/2011_09_26/calib_velo_to_cam.txt").unlink()
    with pytest.raises(UserError, match="calib_velo_to_cam"):
        reader.load(1)
    (root / "input/2011_09_26/calib_cam_to_cam.txt").unlink()
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
    with pytest.raises(UserError, match="no pixel of the middle square has depth"):
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


@pytest.fixture
def geonet(copied) -> Path:
    """The labelled set, and two files as GeoNet has them, larger than the image as those are."""
    root = copied("nyu-labelled")
    labelled = nyu_normals(root, "train")
    (root / "nyu_geonet").mkdir()
    for index in range(2):
        sample, padded = labelled.load(index), np.zeros((481, 641, 3))
        padded[:480, :640] = sample.image_HW3 - 2 * np.array([122.175, 116.169, 103.508])
        norm = np.zeros((481, 641, 3))
        norm[:480, :640] = -sample.normals_HW3
        savemat(root / f"nyu_geonet/kitchen_0001a-r-{index}.mat", {"img": padded, "norm": norm, "depth": np.ones((481, 641))})
    return root


def test_geonets_frames_are_images_and_normals_in_our_frame(geonet):
    reader, labelled = nyu_geonet(geonet, "geonet"), nyu_normals(geonet, "train")
    assert reader.ids == ["kitchen_0001a-r-0", "kitchen_0001a-r-1"] and len(set(reader.groups)) == 1
    for index in range(2):
        ours, theirs = reader.load(index), labelled.load(index)
        assert np.array_equal(ours.image_HW3, theirs.image_HW3) and np.allclose(ours.normals_HW3, theirs.normals_HW3, atol=1e-6)
    assert nyu_geonet(geonet, "test").ids == nyu_normals(geonet, "test").ids


def test_a_truncated_file_of_geonet_and_a_folder_without_any_are_named(geonet):
    path = geonet / "nyu_geonet/kitchen_0001a-r-0.mat"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"r-0\.mat: it does not hold an array img, or is truncated"):
        nyu_geonet(geonet, "geonet").load(0)
    shutil.rmtree(geonet / "nyu_geonet")
    with pytest.raises(UserError, match=r"looked for nyu_geonet/\*\.mat.*GeoNet"):
        nyu_geonet(geonet, "geonet")


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
