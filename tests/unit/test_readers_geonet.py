"""NYU as Probe3D trains and tests on it: GeoNet's frames and the labelled images, their middle, and depth of at most 10 m alone."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from tips_bench.data.nyu import CAMERA, nyu_labelled
from tips_bench.data.nyu_geonet import MIDDLE, nyu_geonet, nyu_geonet_depth
from tips_bench.data.nyu_normals import nyu_normals
from tips_bench.errors import UserError
from tips_bench.rooms.writing.writers import write_rooms

MEAN = 2 * np.array([122.175, 116.169, 103.508])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The labelled set, and two files as GeoNet has them, larger than the image as those are; a corner has depth 0, another 10.5 m."""
    root = tmp_path_factory.mktemp("geonet") / "nyu"
    write_rooms("nyu-labelled", root, seed=3, train=2, val=1, size=160, frames_per_scene=2, workers=1)
    normals, depths = nyu_normals(root, "train"), nyu_labelled(root, "train")
    (root / "nyu_geonet").mkdir()
    for index in range(2):
        sample, image, norm, depth = normals.load(index), np.zeros((481, 641, 3)), np.zeros((481, 641, 3)), np.zeros((481, 641))
        image[:480, :640], norm[:480, :640], depth[:480, :640] = sample.image_HW3 - MEAN, -sample.normals_HW3, depths.depth(index)
        depth[:20, 80:100], depth[:20, 100:120] = 0, 10.5
        savemat(root / f"nyu_geonet/kitchen_0001a-r-{index}.mat", {"img": image, "norm": norm, "depth": depth})
    return root


def test_frames_are_the_middle_of_images_and_normals_in_our_frame(made: Path) -> None:
    reader, labeled = nyu_geonet(made, "geonet"), nyu_normals(made, "train")
    assert reader.ids == ["kitchen_0001a-r-0", "kitchen_0001a-r-1"] and len(set(reader.groups)) == 1
    assert reader.size(0) == (480, 480) and reader.intrinsics(0) == CAMERA.boxed(*MIDDLE)
    for index in range(2):
        ours, theirs = reader.load(index), labeled.load(index)
        assert np.array_equal(ours.image_HW3, theirs.image_HW3[:, 80:560])
        seen_HW = ours.normals_HW3.any(-1)
        assert seen_HW.mean() > 0.5 and np.allclose(ours.normals_HW3[seen_HW], theirs.normals_HW3[:, 80:560][seen_HW], atol=1e-6)


def test_normals_are_learned_where_the_depth_is_above_0_and_at_most_10_metres(made: Path) -> None:
    normals, depth = nyu_geonet(made, "geonet").load(0), nyu_geonet_depth(made, "geonet").load(0)
    assert not normals.normals_HW3[:20, :40].any() and not depth.depth_HW[:20, :40].any()
    assert (depth.depth_HW[normals.normals_HW3.any(-1)] > 0).all() and depth.depth_HW.max() <= 10
    raw_HW = nyu_labelled(made, "train").depth(0)[:, 80:560]
    assert np.allclose(depth.depth_HW[20:], np.where(raw_HW <= 10, raw_HW, 0)[20:])


def test_the_test_images_are_the_labelled_ones_in_the_middle_where_the_sensor_saw_a_depth(made: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made, tmp_path / "nyu"))
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "a") as data:
        data["rawDepths"][-1, 100:120, :30] = 0  # MATLAB's order: columns first
        data["rawDepths"][-1, 120:140, :30] = 11
    normals, depth, whole = nyu_geonet(root, "test"), nyu_geonet_depth(root, "test"), nyu_normals(root, "test")
    assert normals.ids == depth.ids == whole.ids == ["0003"]
    found, measured = normals.load(0), depth.load(0)
    assert found.normals_HW3.shape == (480, 480, 3) and measured.depth_HW.shape == normals.size(0) == depth.size(0) == (480, 480)
    assert not found.normals_HW3[:30, 20:60].any() and not measured.depth_HW[:30, 20:60].any()
    known_HW = measured.depth_HW > 0
    assert np.array_equal(found.normals_HW3[known_HW], whole.load(0).normals_HW3[:, 80:560][known_HW])
    assert np.array_equal(found.image_HW3, whole.load(0).image_HW3[:, 80:560]) and np.array_equal(found.image_HW3, measured.image_HW3)
    assert len({normals.fingerprint, depth.fingerprint, whole.fingerprint, nyu_labelled(root, "test").fingerprint}) == 4


def test_a_truncated_file_a_smaller_one_and_a_folder_without_any_are_named(made: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made, tmp_path / "nyu"))
    path = root / "nyu_geonet/kitchen_0001a-r-0.mat"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"r-0\.mat: it does not hold an array (img|norm), or is truncated"):
        nyu_geonet(root, "geonet").load(0)
    savemat(path, {"img": np.zeros((240, 320, 3)), "depth": np.zeros((240, 320)), "norm": np.zeros((240, 320, 3))})
    with pytest.raises(UserError, match=r"img is 240 x 320 x 3, not 480 x 640 x 3"):
        nyu_geonet_depth(root, "geonet").load(0)
    shutil.rmtree(root / "nyu_geonet")
    for reader in (nyu_geonet, nyu_geonet_depth):
        with pytest.raises(UserError, match=r"looked for nyu_geonet/\*\.mat.*GeoNet"):
            reader(root, "geonet")


def test_the_truth_of_the_test_images_can_be_chosen(made: Path) -> None:
    assert nyu_geonet(made, "test", test={"source": "depth"}).remarks
    with pytest.raises(UserError, match="three signed axes"):
        nyu_geonet(made, "geonet", axes="+x+y")
