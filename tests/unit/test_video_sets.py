"""DAVIS, YouTube-VOS and MOSE as they lie on disk: objects, where they start, held-out clips, and what broken sets get."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.video_sets import noise, write_davis, write_mose, write_youtube
from tips_bench.data.checks.videos import check
from tips_bench.data.images import resize_shape
from tips_bench.data.video_sets import davis, mose, youtube_vos
from tips_bench.errors import UserError


def test_davis_has_the_clips_of_its_list_and_as_many_objects_as_the_greatest_number_of_the_first_frame(tmp_path: Path) -> None:
    frames, ids = noise(4, 20, 30)
    ids = np.where(ids == 1, 3, ids)  # object 1 is missing, and counts
    ids[:, 0, 29], ids[2:, 19, 0] = 255, 4  # void, and an object that appears later
    write_davis(tmp_path, {"swing": (frames, ids), "bear": noise(5, 20, 30)})
    reader = davis(tmp_path, "val")
    assert (reader.ids, reader.groups, reader.has_truth, reader.classes) == (["bear", "swing"], ["bear", "swing"], True, [])
    swing = reader.load(1)
    assert (len(swing), swing.shape, swing.objects) == (4, (20, 30), {1: 0, 2: 0, 3: 0}) and reader.load(0).objects == {1: 0, 2: 0}
    assert set(np.unique(swing.ids(2))) == {0, 2, 3, 4} and len(reader.sources(1)) == 8
    assert swing.load(3).image_HW3.shape == (20, 30, 3) and swing.size(3) == (20, 30)
    report = check(reader, expected=2)
    assert report.ok and report.sizes == {"20x30": 2}
    assert report.facts == {"frames": "9", "masks": "9", "objects": "5", "objects that start after the first frame": "0"}
    assert len(report.remarks) == 2, "an object without a pixel, pixels without an object"
    write_davis(tmp_path, {"swing": noise(4, 20, 30)})
    assert davis(tmp_path, "val").fingerprint != reader.fingerprint


def test_objects_of_youtube_vos_start_where_its_list_says(tmp_path: Path) -> None:
    clips = {f"clip{number}": noise(4, 20, 30) for number in range(6)}
    write_youtube(tmp_path, clips, late={"clip2": {2: 3}})
    reader = youtube_vos(tmp_path, "train", holdout=2)
    assert len(reader) == 6 and reader.load(2).objects == {1: 0, 2: 3} and reader.has_truth and reader.remarks == ()
    held = youtube_vos(tmp_path, "holdout", holdout=2)
    assert len(held) == 2 and set(held.ids) < set(reader.ids) and "6 clips, not 3,471" in held.remarks[0]
    write_youtube(tmp_path, clips, "valid", {"clip2": {2: 3}})
    valid = youtube_vos(tmp_path, "valid", holdout=2)
    assert not valid.has_truth and sorted(valid.load(2).masks) == [0, 3] and sorted(valid.load(1).masks) == [0]
    assert check(valid).remarks[-1].startswith("the masks of this split are not public")


def test_objects_of_mose_are_those_of_the_first_frame(tmp_path: Path) -> None:
    frames, ids = noise(4, 20, 30)
    write_mose(tmp_path, {"a": (frames, np.where(ids == 2, 7, ids)), "b": noise(3, 20, 30)})
    write_mose(tmp_path, {"c": noise(3, 20, 30)}, "valid")
    assert mose(tmp_path, "train", holdout=1).load(0).objects == {1: 0, 7: 0}
    assert len(mose(tmp_path, "holdout", holdout=1)) == 1 and not mose(tmp_path, "valid", holdout=1).has_truth


def test_a_broken_frame_or_a_mask_of_another_size_is_found_by_the_check(tmp_path: Path) -> None:
    write_davis(tmp_path, {"a": noise(4, 20, 30), "b": noise(4, 20, 30)})
    file = tmp_path / "JPEGImages/480p/a/00002.jpg"
    file.write_bytes(file.read_bytes()[:300])
    (tmp_path / "Annotations/480p/b/00001.png").write_bytes((tmp_path / "Annotations/480p/a/00001.png").read_bytes())
    write_davis(tmp_path / "other", {"b": noise(4, 20, 32)})
    (tmp_path / "Annotations/480p/b/00003.png").write_bytes((tmp_path / "other/Annotations/480p/b/00003.png").read_bytes())
    faults = check(davis(tmp_path, "val"), expected=3).faults
    assert len(faults) == 3 and "00002.jpg" in faults[0] and "mask and frame differ in size: 20x32 and 20x30" in faults[1]


def broken(root: Path, kind: str) -> None:
    """A set with one fault."""
    write_davis(root, {"a": noise(3, 20, 30)})
    write_youtube(root, {"a": noise(3, 20, 30)})
    meta = root / "train" / "meta.json"
    if kind == "mask":
        (root / "Annotations/480p/a/00001.png").unlink()
    elif kind == "frame":
        (root / "JPEGImages/480p/a/00001.jpg").unlink()
    elif kind == "clip":
        (root / "ImageSets/2017/val.txt").write_text("a\nb\n")
    elif kind == "twice":
        (root / "ImageSets/2017/val.txt").write_text("a\na\n")
    elif kind == "outside":
        (root / "ImageSets/2017/val.txt").write_text("../a\n")
    elif kind == "meta":
        meta.write_text("[]")
    elif kind == "start":
        meta.write_text(json.dumps({"videos": {"a": {"objects": {"1": {"frames": ["00009"]}}}}}))
    elif kind == "number":
        meta.write_text(json.dumps({"videos": {"a": {"objects": {"300": {"frames": ["00000"]}}}}}))


@pytest.mark.parametrize(("kind", "words"), [
    ("mask", "a frame has no mask"),
    ("frame", "the mask has no frame"),
    ("clip", "cannot read: No such file"),
    ("twice", "names a clip twice"),
    ("outside", "points outside the folder"),
])  # fmt: skip
def test_a_broken_davis_is_told(tmp_path: Path, kind: str, words: str) -> None:
    broken(tmp_path, kind)
    with pytest.raises(UserError, match=words):
        davis(tmp_path, "val")


@pytest.mark.parametrize(("kind", "words"), [
    ("meta", "not a list of videos, objects and frames"),
    ("start", "starts in a frame that has no image"),
    ("number", "not a list of videos, objects and frames"),
])  # fmt: skip
def test_a_broken_youtube_vos_is_told(tmp_path: Path, kind: str, words: str) -> None:
    broken(tmp_path, kind)
    with pytest.raises(UserError, match=words):
        youtube_vos(tmp_path, "train", holdout=1)


@pytest.mark.parametrize(("reader", "split", "words"), [(davis, "valid", "split"), (davis, "train", "no list"), (mose, "train", "cannot")])
def test_a_set_or_a_split_that_is_not_there_is_told(tmp_path: Path, reader, split: str, words: str) -> None:
    write_davis(tmp_path, {"a": noise(3, 20, 30)})
    with pytest.raises(UserError, match=words):
        reader(tmp_path, split, **({} if reader is davis else {"holdout": 1}))


def test_frames_are_resized_to_the_sizes_that_the_sources_state() -> None:
    """480 x 832 in DINO; 960 x 1712 and 966 x 1708 in DINOv3, appendix D.5, footnote 2; 966 x 1722 by its notebook."""
    assert resize_shape(480, 854, 480, 16, long_multiple=64) == (480, 832) and resize_shape(854, 480, 480, 8, long_multiple=64) == (
        832,
        480,
    )
    assert resize_shape(480, 854, 480, 14, long_multiple=64) == (476, 826) and resize_shape(480, 480, 480, 16, long_multiple=64) == (
        480,
        448,
    )
    assert [resize_shape(480, 854, 960, patch, "pillow") for patch in (16, 14)] == [(960, 1712), (966, 1708)]
    assert [resize_shape(480, 854, 960, patch, "pillow", up=True) for patch in (16, 14)] == [(960, 1712), (966, 1722)]
