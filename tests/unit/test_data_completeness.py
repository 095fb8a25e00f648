"""Whether a split is the published one: its number of samples, and images that are trained on and scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.segmentation_sets import picture, write_set
from tips_bench.cards import DataCard, TaskCard, load_card
from tips_bench.data.checks.task import check_task
from tips_bench.data.completeness import completeness
from tips_bench.data.segmentation import folder, pascal_context59

LABELS = np.arange(24 * 36, dtype=np.uint8).reshape(24, 36) % 3


def mine(root: Path, splits: dict[str, str], **data: object) -> TaskCard:
    card = load_card("task", "rooms-seg").model_dump(mode="json")
    card |= {"name": "mine", "data": {"reader": "folder", "root": "mine", "splits": splits, **data}}
    (root / "mine").mkdir(parents=True, exist_ok=True)
    classes = {"classes": ["a", "b", "c"], "palette": [[1, 1, 1], [2, 2, 2], [3, 3, 3]]}
    (root / "mine/classes.json").write_text(json.dumps(classes))
    return TaskCard(**card)


def sample(root: Path, split: str, name: str, seed: int) -> None:
    for part in ("images", "labels"):
        (root / "mine" / part / split).mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(root / f"mine/images/{split}/{name}.png")
    Image.fromarray(LABELS).save(root / f"mine/labels/{split}/{name}.png")


@pytest.mark.parametrize(
    ("task", "split", "found", "ok", "expected"),
    [
        ("ade20k", "validation", 2000, True, 2000),
        ("ade20k", "validation", 4, False, 2000),
        ("pascal-context59", "val", 5105, True, 5105),
        ("pascal-context59", "val", 5104, True, 5104),
        ("pascal-context59", "val", 5103, False, 5105),
        ("kitti-depth", "test", 697, True, 697),
        ("navi-depth", "train", 7, True, None),
    ],
)
def test_a_split_is_complete_where_it_has_a_published_number(task: str, split: str, found: int, ok: bool, expected: int | None) -> None:
    size = completeness(load_card("task", task).data, split, found)
    assert (size.ok, size.expected, size.found) == (ok, expected, found)


def test_what_a_record_has_to_say_of_a_part_of_a_set() -> None:
    data = load_card("task", "pascal-context59").data
    said = completeness(data, "val", 12).sentence()
    assert said == "split val has 12 samples, not the 5,105 or 5,104 of its publisher: these numbers do not compare"


def test_pascal_context_is_accepted_with_5104_images_and_with_5105(tmp_path: Path) -> None:
    """4,996 and 5,104 names: issue 155 of zhanghang1989/PyTorch-Encoding, 2018; 4,998 and 5,105 as published."""
    write_set(tmp_path / "VOCdevkit/VOC2010", "pascal-context59", {"2008_000002": LABELS, "2008_000003": LABELS})
    assert len(pascal_context59(tmp_path / "VOCdevkit/VOC2010", "val")) == 2
    card = load_card("task", "pascal-context59")
    for numbers, faults in (([5105, 2], 0), ([5105, 5104], 1)):
        data = DataCard(**card.data.model_dump() | {"expected": {"val": numbers}})
        (report,) = check_task(card.model_copy(update={"data": data}), tmp_path, roles=("test",))
        assert len(report.faults) == faults


def test_images_of_both_splits_are_a_fault_whatever_their_names(tmp_path: Path) -> None:
    card = mine(tmp_path, {"train": "train", "test": "val"})
    for seed in range(4):
        sample(tmp_path, "train", f"t{seed}", seed)
        sample(tmp_path, "val", f"v{seed}", seed + 3)
    train, test = check_task(card, tmp_path)
    assert train.ok and test.faults == ["1 of 4 samples are in the split train, too: v0"]


def test_a_few_images_of_many_are_a_remark_as_published_sets_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tips_bench.data.checks.shared_images.ALLOWED", 0.3)
    card = mine(tmp_path, {"train": "train", "test": "val"})
    for seed in range(4):
        sample(tmp_path, "train", f"t{seed}", seed)
        sample(tmp_path, "val", f"v{seed}", seed + 3)
    _, test = check_task(card, tmp_path)
    assert test.ok and "1 of 4 samples are in the split train, too: v0" in test.remarks


def test_a_plain_folder_may_ignore_id_0_and_count_from_1(tmp_path: Path) -> None:
    mine(tmp_path, {"test": "val"})
    sample(tmp_path, "val", "a", 0)
    stored = np.array([[0, 1], [3, 255]], np.uint8)
    Image.fromarray(stored).save(tmp_path / "mine/labels/val/a.png")
    Image.fromarray(picture(0, 2, 2)).save(tmp_path / "mine/images/val/a.png")
    reader = folder(tmp_path / "mine", "val", reduce_zero_label=True)
    np.testing.assert_array_equal(reader.load(0).labels_HW, [[255, 0], [2, 255]])
    assert reader.classes == ["a", "b", "c"]
    report = check_task(mine(tmp_path, {"test": "val"}, options={"reduce_zero_label": True}), tmp_path)[0]
    assert report.ok and report.zero_label == "stored id 0 is ignored, the others go down by one"
