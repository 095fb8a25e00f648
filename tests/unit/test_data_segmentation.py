"""What the segmentation readers promise, and what a wrong set on disk gets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.segmentation_sets import KEPT, picture, write_set
from tips_bench.data.label_maps import LabelRule, MaskReader
from tips_bench.data.segmentation import ade20k, folder
from tips_bench.errors import UserError
from tips_bench.registry import READERS

MASK = np.tile(np.arange(1, 13, dtype=np.uint8), (24, 3))
IDS = ["b", "a", "d", "c"]


def ids_of(layout: str) -> list[str]:
    return [f"town/{sample}" if layout == "cityscapes" else sample for sample in IDS]


def opened(root: Path, layout: str) -> MaskReader:
    return READERS.get(layout)(root, KEPT[layout].split)


def ade(root: Path, **masks: np.ndarray) -> MaskReader:
    write_set(root, "ade20k", masks)
    return ade20k(root, "validation")


@pytest.mark.parametrize("layout", KEPT)
def test_samples_are_sorted_by_id_and_carry_image_and_labels_of_one_size(layout: str, tmp_path: Path) -> None:
    write_set(tmp_path, layout, dict.fromkeys(ids_of(layout), MASK))
    reader = opened(tmp_path, layout)
    assert reader.ids == sorted(ids_of(layout)) == reader.groups
    assert len(reader) == 4 and len(reader.classes) == len(reader.palette) <= 255
    assert (reader.name, reader.split, reader.root) == (layout, KEPT[layout].split, str(tmp_path))
    for index in range(len(reader)):
        sample = reader.load(index)
        assert sample.id == reader.ids[index] and sample.image_HW3.shape[:2] == sample.labels_HW.shape == reader.size(index)
        assert sample.image_HW3.dtype == sample.labels_HW.dtype == np.uint8


def test_the_fingerprint_is_of_the_content_not_of_the_place_or_the_order_of_files(tmp_path: Path) -> None:
    masks = {sample: np.roll(MASK, number, 1) for number, sample in enumerate(IDS)}
    prints = set()
    for place, order in (("one", IDS), ("two", IDS[::-1])):
        root = tmp_path / place
        write_set(root, "ade20k", masks)
        kept = KEPT["ade20k"]
        for folder_name, suffix in ((kept.images, ".jpg"), (kept.masks, ".png")):  # written anew in another order
            for sample in order:
                path = root / folder_name / f"{sample}{suffix}"
                data = path.read_bytes()
                path.unlink()
                path.write_bytes(data)
        prints.add(ade20k(root, "validation").fingerprint)
    assert len(prints) == 1
    voc = {layout: write_set(tmp_path / "voc", layout, dict.fromkeys(IDS, MASK)) for layout in ("voc2012", "voc20")}
    assert len({opened(tmp_path / "voc", layout).fingerprint for layout in voc}) == 2, "the label rule is part of it"
    Image.fromarray(np.zeros((90, 90), np.uint8)).save(tmp_path / "two" / kept.masks / "a.png")
    assert ade20k(tmp_path / "two", "validation").fingerprint not in prints


@pytest.mark.parametrize("layout", KEPT)
def test_a_missing_root_says_what_was_looked_for_and_how_to_get_it(layout: str, tmp_path: Path) -> None:
    kept = KEPT[layout]
    with pytest.raises(UserError) as caught:
        opened(tmp_path / "nowhere", layout)
    message = str(caught.value)
    for part in (
        "nowhere",
        "no such folder",
        f"{kept.images}/*{kept.image_suffix}",
        f"{kept.masks}/*{kept.mask_suffix}",
        kept.listing,
        "http",
    ):
        assert part in message
    assert "\n" not in message


def test_an_empty_and_a_foreign_root_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the folder is empty; looked for images/validation/\*\.jpg"):
        ade20k(tmp_path, "validation")
    write_set(tmp_path, "cityscapes", {"town/a": MASK})
    with pytest.raises(UserError, match=r"the files are in the layout of cityscapes, not of ade20k; looked for images/validation/\*\.jpg"):
        ade20k(tmp_path, "validation")
    shutil.rmtree(tmp_path / "gtFine")
    with pytest.raises(UserError, match="the files are not in the layout of ade20k; looked for"):
        ade20k(tmp_path, "validation")


def test_folders_without_a_single_image_are_no_data_set(tmp_path: Path) -> None:
    write_set(tmp_path, "ade20k", {"a": MASK})
    (tmp_path / "images/validation/a.jpg").rename(tmp_path / "images/validation/a.jpeg")
    with pytest.raises(UserError, match="the files are not in the layout of ade20k"):
        ade20k(tmp_path, "validation")


def test_an_image_without_its_label_file_is_named_and_all_are_counted(tmp_path: Path) -> None:
    write_set(tmp_path, "ade20k", dict.fromkeys(IDS, MASK))
    for sample in "bd":
        (tmp_path / f"annotations/validation/{sample}.png").unlink()
    with pytest.raises(UserError, match=r"annotations/validation/b\.png: an image has no label file \(2 of 4, this is the first\)"):
        ade20k(tmp_path, "validation")


def test_an_image_that_the_list_names_but_is_missing_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, "voc2012", dict.fromkeys(IDS, MASK))
    (tmp_path / "JPEGImages/c.jpg").unlink()
    with pytest.raises(UserError, match=r"JPEGImages/c\.jpg: an image that the split names is missing \(1 of 4"):
        opened(tmp_path, "voc2012")


HOSTILE = [("a\n../secret\n", "points outside"), ("/etc/passwd\n", "points outside"), ("a\nb\na\n", "twice")]


@pytest.mark.parametrize(("text", "reason"), HOSTILE)
def test_a_hostile_or_doubled_list_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    write_set(tmp_path, "voc2012", dict.fromkeys(IDS, MASK))
    (tmp_path / KEPT["voc2012"].listing).write_text(text)
    with pytest.raises(UserError, match=rf"val\.txt: .*{reason}"):
        opened(tmp_path, "voc2012")


def test_hidden_files_and_files_with_other_endings_are_no_samples(tmp_path: Path) -> None:
    write_set(tmp_path, "ade20k", dict.fromkeys(IDS, MASK))
    for name in ("._a.jpg", "Thumbs.db", "a.jpg.part"):
        (tmp_path / "images/validation" / name).write_bytes(b"")
    assert ade20k(tmp_path, "validation").ids == sorted(IDS)


def test_photos_whose_names_end_in_capitals_are_samples_too(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind / "val").mkdir(parents=True)
    (tmp_path / "classes.json").write_text(json.dumps({"classes": ["a", "b"], "palette": [[0, 0, 0], [9, 9, 9]]}))
    for seed, name in enumerate(("one.jpg", "two.JPG", "three.PNG")):
        Image.fromarray(picture(seed, 20, 30)).save(tmp_path / "images/val" / name)
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "labels/val" / f"{Path(name).stem}.png")
    reader = folder(tmp_path, "val")
    assert reader.ids == ["one", "three", "two"] and reader.load(2).image_HW3.shape == (20, 30, 3)


def test_label_ids_outside_the_classes_are_named_and_counted(tmp_path: Path) -> None:
    mask_HW = MASK.copy()
    mask_HW[0, :3] = (151, 151, 200)
    reader = ade(tmp_path, a=MASK, b=mask_HW)
    reader.load(0)
    with pytest.raises(UserError, match=r"b\.png: ids outside the 150 classes: 151, 200 \(3 of 864 pixels\)"):
        reader.load(1)


def test_labels_of_another_size_than_the_image_are_an_error_with_both_sizes(tmp_path: Path) -> None:
    write_set(tmp_path, "ade20k", {"a": MASK})
    Image.fromarray(MASK.T.copy()).save(tmp_path / "annotations/validation/a.png")
    with pytest.raises(UserError, match=r"a\.png: 36x24 labels, but the image a\.jpg is 24x36"):
        ade20k(tmp_path, "validation").load(0)


def test_an_unknown_split_or_option_suggests_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no split named 'val'\. Known: training, validation"):
        ade20k(tmp_path, "val")
    with pytest.raises(UserError, match="no option named 'crop'"):
        ade20k(tmp_path, "validation", crop=3)


@pytest.mark.parametrize("reduce_zero_label", [False, True])
def test_a_label_rule_keeps_every_id_or_refuses_it(reduce_zero_label: bool) -> None:
    rule = LabelRule.of("abc", [(0, 0, 0)] * 3, reduce_zero_label)
    ids = np.arange(256, dtype=np.uint8)
    accepted = [stored for stored in ids if not rule.stray[stored]]
    assert accepted == ([0, 1, 2, 3, 255] if reduce_zero_label else [0, 1, 2, 255])
    assert rule.table[accepted].tolist() == ([255, 0, 1, 2, 255] if reduce_zero_label else [0, 1, 2, 255])


def write_folder(root: Path, suffix: str = ".jpg", **classes: Any) -> None:
    for sample in ("hall_00", "hall_01", "attic_00"):
        for kind, ending, array in (("images", suffix, picture(1)), ("labels", ".png", MASK)):
            path = root / kind / "val" / f"{sample}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    names = [f"class {number}" for number in range(13)]
    stated = {"classes": names, "palette": [[number, 0, 255] for number in range(13)], **classes}
    (root / "classes.json").write_text(json.dumps(stated))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_folder_reads_its_own_classes_and_groups_frames_of_a_scene(suffix: str, tmp_path: Path) -> None:
    write_folder(tmp_path, suffix)
    reader = folder(tmp_path, "val", group=r"^(.*)_\d+$")
    assert reader.ids == ["attic_00", "hall_00", "hall_01"] and reader.groups == ["attic", "hall", "hall"]
    assert reader.classes[12] == "class 12" and reader.palette[12] == (12, 0, 255)
    sample = reader.load(2)
    assert sample.group == "hall"
    np.testing.assert_array_equal(sample.labels_HW, MASK)
    assert folder(tmp_path, "val").groups == reader.ids


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        ({"palette": []}, "13 classes and 0 colours"),
        ({"palette": [[0, 0, 256]] * 13}, "palette.0.2 = 256"),
        ({"classes": ["a"] * 13}, "a name of its own"),
        ({"classes": "abc"}, "classes"),
        ({"ignore": 0}, "ignore = 0"),
        ({"colors": []}, "no key named 'colors'"),
    ],
)
def test_a_wrong_classes_file_is_named_with_its_key(classes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write_folder(tmp_path, **classes)
    with pytest.raises(UserError, match=rf"classes\.json: .*{reason}"):
        folder(tmp_path, "val")


BAD_GROUPS = [("(", "not a regular expression"), ("abc", "no part in parentheses"), (r"^(x.*)_", "does not match the id 'attic_00'")]


@pytest.mark.parametrize(("group", "reason"), BAD_GROUPS)
def test_a_group_expression_that_cannot_name_groups_is_an_error(group: str, reason: str, tmp_path: Path) -> None:
    write_folder(tmp_path)
    with pytest.raises(UserError, match=reason):
        folder(tmp_path, "val", group=group)


def test_a_folder_with_two_images_of_one_id_or_without_a_part_is_an_error(tmp_path: Path) -> None:
    write_folder(tmp_path)
    with pytest.raises(UserError, match=r"looked for images/train/\*\.jpg \(or \.png\), labels/train/\*\.png, classes\.json\. Lay it out"):
        folder(tmp_path, "train")
    Image.fromarray(picture(1)).save(tmp_path / "images/val/hall_00.png")
    with pytest.raises(UserError, match="two images have the same id"):
        folder(tmp_path, "val")
    (tmp_path / "classes.json").write_text("{")
    (tmp_path / "images/val/hall_00.png").unlink()
    with pytest.raises(UserError, match=r"classes\.json: not JSON"):
        folder(tmp_path, "val")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path, "ade20k", {"a": MASK})

    def refused(folder_name: str) -> None:
        raise PermissionError(13, "Permission denied", str(folder_name))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"images/validation: cannot read: Permission denied"):
        ade20k(tmp_path, "validation")


def python(code: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_mmseg_imports_without_a_compiler_in_silence_and_leaves_the_process_as_it_was() -> None:
    code = """
import random, sys, numpy as np, torch, cv2
def state():
    threads = torch.get_num_threads(), torch.get_num_interop_threads(), cv2.getNumThreads()
    chance = torch.initial_seed(), random.getstate(), np.random.get_state()[1].tolist()
    numbers = torch.get_default_dtype(), np.geterr(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()
    return threads, chance, numbers
before = state()
from tips_bench.openmmlab import import_mmseg
mmseg = import_mmseg()
assert mmseg is import_mmseg() and mmseg.datasets.ADE20KDataset
assert state() == before
from mmcv.utils import ext_loader
assert not ext_loader.check_ops_exist(), "mmcv must go on saying that it has no operators"
import mmcv.ops, torch
from tips_bench.errors import UserError
try:
    mmcv.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except UserError as error:
    assert "is not compiled in mmcv-lite" in str(error)
"""
    assert python(code) == ""


def test_a_missing_package_is_named_and_said_again_the_second_time() -> None:
    code = """
import importlib.util, sys
from tips_bench.errors import UserError
import tips_bench.openmmlab as openmmlab
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "ftfy" else real(name, package)
for _ in range(2):
    try:
        openmmlab.import_mmseg()
    except UserError as error:
        assert "the package 'ftfy' is not installed" in str(error)
    else:
        raise SystemExit("no error")
assert "mmseg" not in sys.modules
"""
    assert python(code) == ""
