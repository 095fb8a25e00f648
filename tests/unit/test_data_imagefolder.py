"""Folders of classes and ImageNet's layouts against torchvision's own readers, and what broken sets get."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from torchvision.datasets import ImageFolder
from torchvision.datasets import imagenet as torchvision_imagenet

from tests.helpers.whole_sets import write_classes
from tips_bench.data.checks.images import check_classes
from tips_bench.data.imagefolder import imagefolder, imagenet
from tips_bench.errors import UserError

WNIDS = ["n01440764", "n01443537", "n02012849", "n15075141"]


def test_classes_and_images_are_those_of_torchvision(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"b": 3, "A": 2, "c d": 1, "10": 2})
    (tmp_path / "train" / "b" / "deeper").mkdir()
    (tmp_path / "train" / "b" / "b_0.png").rename(tmp_path / "train" / "b" / "deeper" / "b_0.png")
    reader, theirs = imagefolder(tmp_path, "train"), ImageFolder(str(tmp_path / "train"))
    assert reader.classes == theirs.classes
    assert {str(reader.file(i)): int(reader.labels_N[i]) for i in range(len(reader))} == dict(theirs.samples)
    assert reader.ids == sorted(reader.ids) and "b/deeper/b_0" in reader.ids and reader.groups == reader.ids
    sample = reader.load(0)
    assert sample.image_HW3.shape == (48, 56, 3) and reader.size(0) == (48, 56) and reader.classes[sample.label] == "10"


def test_a_split_may_lack_a_class_of_another(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 1, "c": 1})
    write_classes(tmp_path / "val", {"b": 1, "c": 2})
    val = imagefolder(tmp_path, "val", classes_of=["train", "val"])
    assert val.classes == ["a", "b", "c"] and val.labels_N.tolist() == [1, 2, 2]
    assert imagefolder(tmp_path, "val").classes == ["b", "c"]
    assert check_classes(val, 3).remarks == ["without an image in this split: 1 class, a"]


def test_groups_are_parted_from_ids(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 2, "b": 1})
    assert imagefolder(tmp_path, "train", group="([ab])_").groups == ["a", "a", "b"]


def test_the_fingerprint_knows_sizes_and_classes(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 2, "b": 1})
    before = imagefolder(tmp_path, "train").fingerprint
    assert imagefolder(tmp_path, "train").fingerprint == before
    (tmp_path / "train" / "b").rename(tmp_path / "train" / "c")
    assert imagefolder(tmp_path, "train").fingerprint != before


def test_bad_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        imagefolder(tmp_path, "train")
    write_classes(tmp_path, {"train": 2})
    with pytest.raises(UserError, match="no class folders"):
        imagefolder(tmp_path, "train")
    write_classes(tmp_path / "val", {"a": 1})
    (tmp_path / "val" / "b").mkdir()
    (tmp_path / "val" / "z").mkdir()
    with pytest.raises(UserError, match="the class folder 'b' and 1 more holds no image"):
        imagefolder(tmp_path, "val")
    (tmp_path / "val" / "b").rmdir()
    (tmp_path / "val" / "z").rmdir()
    (tmp_path / "val" / "a" / "a_0.jpg").write_bytes((tmp_path / "val" / "a" / "a_0.png").read_bytes())
    with pytest.raises(UserError, match="two images have the same id"):
        imagefolder(tmp_path, "val")
    with pytest.raises(UserError, match="there is no key named"):
        imagefolder(tmp_path, "val", classes="a")


def test_the_check_names_every_broken_image(tmp_path: Path) -> None:
    write_classes(tmp_path / "val", {"a": 2, "b": 2})
    for broken in ("a/a_1", "b/b_0"):
        path = tmp_path / "val" / f"{broken}.png"
        path.write_bytes(path.read_bytes()[:200])
    report = check_classes(imagefolder(tmp_path, "val"), expected=5)
    assert len(report.faults) == 3 and "4 images, expected 5" in report.faults[2] and "a_1.png" in report.faults[0]
    assert report.facts["classes"] == "2, 2 to 2 images each" and report.sizes == {"48x56": 2}


def write_imagenet(root: Path) -> list[str]:
    """val in folders; returns the wnid of each image by its number. The devkit numbers classes in an order of its own."""
    wnid_of_image = [WNIDS[index % 4] for index in (3, 0, 1, 2, 0, 3, 1)]
    for number, wnid in enumerate(wnid_of_image, 1):
        write_classes(root / "made", {wnid: 1}, seed=number, suffix=".JPEG")
        (root / "val" / wnid).mkdir(parents=True, exist_ok=True)
        (root / "made" / wnid / f"{wnid}_0.JPEG").rename(root / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG")
    return wnid_of_image


def write_devkit(root: Path, wnid_of_image: list[str]) -> None:
    data = root / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    own_order = [WNIDS[2], WNIDS[0], WNIDS[3], WNIDS[1]]
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(number, wnid, f"name of {wnid}, other", "gloss", 0) for number, wnid in enumerate(own_order, 1)]
    scipy.io.savemat(data / "meta.mat", {"synsets": np.array([*rows, (5, "n00000001", "above", "gloss", 4)], dtype=kind)})
    lines = [f"{own_order.index(wnid) + 1}\n" for wnid in wnid_of_image]
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(lines))


def test_a_flat_val_has_the_labels_of_the_devkit_and_the_identity_of_folders(tmp_path: Path) -> None:
    wnid_of_image = write_imagenet(tmp_path)
    folders = imagenet(tmp_path, "val")
    flat = tmp_path / "flat"
    (flat / "val").mkdir(parents=True)
    for path in (tmp_path / "val").rglob("*.JPEG"):
        path.rename(flat / "val" / path.name)
    write_devkit(flat, wnid_of_image)
    reader = imagenet(flat, "val")
    assert reader.classes == folders.classes == WNIDS
    assert [WNIDS[label] for label in reader.labels_N] == wnid_of_image
    assert (reader.ids, reader.fingerprint) == (folders.ids, folders.fingerprint) and reader.ids[0] == "ILSVRC2012_val_00000001"


def test_the_devkit_is_read_as_torchvision_reads_it(tmp_path: Path) -> None:
    wnid_of_image = write_imagenet(tmp_path)
    write_devkit(tmp_path, wnid_of_image)
    with tarfile.open(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision_imagenet, "check_integrity", lambda *arguments: True)
        torchvision_imagenet.parse_devkit_archive(tmp_path)
    _, theirs = torchvision_imagenet.load_meta_file(tmp_path)
    flat = tmp_path / "flat"
    (flat / "val").mkdir(parents=True)
    (tmp_path / "ILSVRC2012_devkit_t12").rename(flat / "ILSVRC2012_devkit_t12")
    for path in (tmp_path / "val").rglob("*.JPEG"):
        path.rename(flat / "val" / path.name)
    reader = imagenet(flat, "val")
    assert [reader.classes[label] for label in reader.labels_N] == theirs


@pytest.mark.parametrize(("file", "lines"), [
    ("LOC_synset_mapping.txt", ["n01440764 tench, Tinca tinca", "n15075141 toilet tissue, toilet paper"]),
    ("labels.txt", ["n01440764,tench", "n15075141,toilet tissue"]),
])  # fmt: skip
def test_names_are_taken_from_the_lists_that_come_with_the_set(tmp_path: Path, file: str, lines: list[str]) -> None:
    write_imagenet(tmp_path)
    (tmp_path / file).write_text("\n".join(lines))
    assert imagenet(tmp_path, "val").names == ["tench", "n01443537", "n02012849", "toilet tissue"]


def test_what_is_not_imagenet_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither folders of classes nor a flat val folder"):
        imagenet(tmp_path, "val")
    write_classes(tmp_path / "train", {"n01440764": 1, "dogs": 1})
    with pytest.raises(UserError, match="'dogs' is not named after a WordNet id"):
        imagenet(tmp_path, "train")
    with pytest.raises(UserError, match="there is no split named 'test'"):
        imagenet(tmp_path, "test")
    wnid_of_image = write_imagenet(tmp_path / "set")
    flat = tmp_path / "flat"
    (flat / "val").mkdir(parents=True)
    for path in (tmp_path / "set" / "val").rglob("*.JPEG"):
        path.rename(flat / "val" / path.name)
    write_devkit(flat, wnid_of_image[:-1])
    with pytest.raises(UserError, match="6 labels for 7 images"):
        imagenet(flat, "val")
    (flat / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(b"no matrix")
    with pytest.raises(UserError, match="not the devkit"):
        imagenet(flat, "val")
