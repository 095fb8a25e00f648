"""KITTI, NYU and NAVI as their archives unpack, and as other projects arrange them.

* KITTI: data_depth_annotated.zip holds train/DRIVE and val/DRIVE; BTS unpacks it in the set's own folder (cleinc/bts 5e3406b,
  README.md:32-40) and then names data_depth_annotated/DRIVE (pytorch/arguments_train_eigen.txt:5-6); the
  Monocular-Depth-Estimation-Toolbox has gt_depth/DRIVE (zhyever d8aff50, docs/dataset_prepare.md:15-25) and leaves out the lines with None
  (depth/datasets/kitti.py:116-123), 45 of 697 (train_test_inputs/eigen_test_files_with_gt.txt of BTS).
* NYU: the toolbox's archive holds the folders train and test (docs/dataset_prepare.md:104); the names of its list begin with a slash
  (splits/nyu_train.txt).
* NYU's .mat is of MATLAB's version 7.3: HDF5 behind a block of 512 bytes.
* NAVI 1.5 has video scenes and custom_splits beside what 1.0 has (google/navi 3fcfd40, README.md:8-75 and 130-150); probe3d's folder is
  navi_v1 (mbanani/probe3d a1f1464, configs/dataset/navi.yaml:2).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image, ImageOps

from tips_bench.data.kitti import kitti_depth
from tips_bench.data.navi import navi_depth
from tips_bench.data.nyu import MAT, nyu_depth, nyu_labelled
from tips_bench.errors import UserError
from tips_bench.rooms.writing.writers import write_rooms

OPTIONS = {"seed": 3, "train": 2, "val": 1, "size": 160, "frames_per_scene": 2, "workers": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dense")
    for layout in ("nyu", "nyu-labelled", "kitti", "navi"):
        write_rooms(layout, folder / layout, **OPTIONS)
    return {layout: folder / layout for layout in ("nyu", "nyu-labelled", "kitti", "navi")}


@pytest.fixture
def kitti(made: dict[str, Path], tmp_path: Path) -> Path:
    """KITTI with the drives in the set's own folder and BTS's lists; its depth maps are still in gt_depth."""
    root = Path(shutil.copytree(made["kitti"], tmp_path / "kitti"))
    for date in list((root / "input").iterdir()):
        date.rename(root / date.name)
    (root / "input").rmdir()
    for split in ("train", "test"):
        (root / f"kitti_eigen_{split}.txt").rename(root / f"eigen_{split}_files_with_gt.txt")
    return root


def move_depth(root: Path, train: str, val: str) -> None:
    """Move the drives of gt_depth into one folder of those that are trained on and one of the others."""
    for drive in sorted((root / "gt_depth").glob("2011*")):
        place = root / (val if "_drive_5" in drive.name else train)
        place.mkdir(parents=True, exist_ok=True)
        drive.rename(place / drive.name)
    (root / "gt_depth").rmdir()


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train", "val"),
        ("data_depth_annotated/train", "data_depth_annotated/val"),
        ("data_depth_annotated", "data_depth_annotated"),
        ("gt_depth.new", "gt_depth.new"),
        ("", ""),
    ],
)
def test_kittis_depth_maps_are_found_where_the_archive_unpacks_them(kitti: Path, made: dict[str, Path], train: str, val: str) -> None:
    move_depth(kitti, train, val)
    if train == "gt_depth.new":
        (kitti / "gt_depth.new").rename(kitti / "gt_depth")
        train = val = "gt_depth"
    for split, folder in (("train", train), ("test", val)):
        reader, before = kitti_depth(kitti, split), kitti_depth(made["kitti"], split)
        assert reader.fingerprint == before.fingerprint
        np.testing.assert_array_equal(reader.load(0).depth_HW, before.load(0).depth_HW)
        assert reader.layout == f"eigen_{split}_files_with_gt.txt, images in ./, depth in {folder + '/' if folder else './'}"


def test_images_without_an_annotated_map_are_left_out_but_for_their_laser_scans(kitti: Path) -> None:
    listing = kitti / "eigen_test_files_with_gt.txt"
    line = listing.read_text().splitlines()[0]
    image, _, focal = line.split()
    listing.write_text(f"{line}\n{image.replace('_drive_5000', '_drive_5001')} None {focal}\n")
    copy = kitti / Path(image.replace("_drive_5000", "_drive_5001"))
    shutil.copytree((kitti / image).parents[2], copy.parents[2])
    assert len(kitti_depth(kitti, "test")) == 1 and len(kitti_depth(kitti, "test", truth="velodyne")) == 2


def test_what_was_looked_for_is_said_where_a_depth_map_is_nowhere(kitti: Path) -> None:
    shutil.rmtree(kitti / "gt_depth")
    with pytest.raises(UserError, match=r"data_depth_annotated/2011_09_26_drive_0000_sync.*has no file of its values"):
        kitti_depth(kitti, "train")


@pytest.mark.parametrize("inside", ["", "train"])
def test_nyus_frames_may_lie_in_the_folder_of_the_toolboxs_archive(made: dict[str, Path], tmp_path: Path, inside: str) -> None:
    root = Path(shutil.copytree(made["nyu"], tmp_path / "nyu"))
    before = nyu_depth(made["nyu"], "train")
    if inside:
        scenes = {Path(id).parts[0] for id in before.ids}
        (root / inside).mkdir()
        for scene in scenes:
            (root / scene).rename(root / inside / scene)
    listing = root / "nyu_train.txt"
    listing.write_text(
        "".join(
            f"/{image.lstrip('/')} /{depth.lstrip('/')} 518.8579\n" for image, depth, _ in map(str.split, listing.read_text().splitlines())
        )
    )
    reader = nyu_depth(root, "train")
    assert reader.fingerprint == before.fingerprint and reader.ids == before.ids
    assert reader.layout == f"nyu_train.txt, images in {inside or '.'}/, depth in {inside or '.'}/"


def test_nyus_mat_is_hdf5_behind_a_block_of_matlab(made: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(made["nyu-labelled"], tmp_path / "nyu"))
    before = nyu_labelled(root, "train").load(0)
    plain = (root / MAT).rename(root / "plain.h5")
    with h5py.File(plain) as source, h5py.File(root / MAT, "w", userblock_size=512) as target:
        for name in ("images", "depths", "rawDepths"):
            source.copy(name, target)
        references = [source[reference][:] for reference in source["scenes"][:].ravel()]
        for number, letters in enumerate(references):
            target[f"#refs#/{number}"] = letters
        names = [target[f"#refs#/{number}"].ref for number in range(len(references))]
        target["scenes"] = np.array(names, dtype=h5py.ref_dtype)[None]
    with (root / MAT).open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    after = nyu_labelled(root, "train").load(0)
    np.testing.assert_array_equal(after.image_HW3, before.image_HW3)
    np.testing.assert_array_equal(after.depth_HW, before.depth_HW)
    assert after.group == before.group


@pytest.mark.parametrize("folder", ["", "navi_v1", "navi_v1.5"])
def test_navi_1_5_has_video_scenes_that_are_not_used(made: dict[str, Path], tmp_path: Path, folder: str) -> None:
    place = tmp_path / "navi" / folder
    shutil.copytree(made["navi"], place)
    before = navi_depth(made["navi"], "train", every=1)
    assert before.layout == "NAVI 1.0, objects in ./"
    thing = next(path for path in place.iterdir() if path.is_dir())
    shutil.copytree(next(thing.glob("multiview*")), thing / "video-00-canon_t4i-MVI_2649")
    (place / "custom_splits/single_image_3d").mkdir(parents=True)
    reader = navi_depth(tmp_path / "navi", "train", every=1)
    assert reader.ids == before.ids and reader.fingerprint == before.fingerprint
    assert reader.layout == f"NAVI 1.5, without its video scenes, objects in {folder or '.'}/"


def test_a_picture_of_navi_that_is_stored_turned_fits_its_upright_depth(made: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(made["navi"], tmp_path / "navi"))
    reader = navi_depth(root, "train", every=1)
    before, path = reader.load(0), reader.files(0)[0]
    with Image.open(path) as image:
        upright = image.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)
    with Image.open(path) as image:
        assert ImageOps.exif_transpose(image).size == upright.size
    after = reader.load(0)
    assert np.abs(after.image_HW3.astype(int) - before.image_HW3).mean() < 8
    np.testing.assert_array_equal(after.depth_HW, before.depth_HW)
