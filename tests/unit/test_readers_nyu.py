"""Readers of NYU Depth V2 on rooms written in its layouts, and on files that are wrong."""

import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from tips_bench.data.camera_geometry import normals_from_depth
from tips_bench.data.nyu import CAMERA, nyu_depth, nyu_labelled
from tips_bench.data.nyu_normals import nyu_normals, parse_axes
from tips_bench.errors import UserError
from tips_bench.metrics.normals import angles
from tips_bench.rooms.generate import room
from tips_bench.rooms.writing.dense_sets import NYU, through
from tips_bench.rooms.writing.writers import write_rooms

OPTIONS = {"seed": 3, "train": 2, "val": 1, "size": 160, "frames_per_scene": 2, "workers": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dense")
    for layout in ("nyu", "nyu-labelled"):
        write_rooms(layout, folder / layout, **OPTIONS)
    return {layout: folder / layout for layout in ("nyu", "nyu-labelled")}


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
        ("../a.jpg ../b.png 1", "points outside the folder"),
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
