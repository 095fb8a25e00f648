"""A look at every file of a data set finds all that is wrong with it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tips_bench.cards import DataCard, TaskCard, load_card
from tips_bench.data.base import SegmentationSample
from tips_bench.data.checks.base import Report, check
from tips_bench.data.checks.task import check_task
from tips_bench.data.segmentation import ade20k, folder
from tips_bench.evaluation.task_data import misfit
from tips_bench.rooms.writing.writers import write_rooms

CLASSES = ["wall", "floor", "chair"]


def write(root: Path, sample: str, labels: np.ndarray, image: tuple[int, int] | None = None, kind: str = "png") -> None:
    height, width = image or labels.shape
    for part in ("images", "labels"):
        (root / part / "val").mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(sample)).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(root / f"images/val/{sample}.{kind}")
    Image.fromarray(labels).save(root / f"labels/val/{sample}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for index in range(5):
        write(tmp_path, f"{index}", rng.integers(0, 3, (8, 10 + index), np.uint8))
    write(tmp_path, "ignored", np.array([[0, 255], [255, 255]], np.uint8))
    (tmp_path / "classes.json").write_text(json.dumps({"classes": CLASSES, "palette": [[1, 1, 1], [2, 2, 2], [3, 3, 3]]}))
    return tmp_path


def shown(report: Report) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(report.render())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_good_set_is_counted_pixel_by_pixel(root: Path) -> None:
    report = check(folder(root, "val"), expected=6)
    stored = np.concatenate([np.asarray(Image.open(path)).ravel() for path in (root / "labels/val").iterdir()])
    assert report.ok and report.samples == 6
    assert report.pixels == {name: int((stored == index).sum()) for index, name in enumerate(CLASSES)}
    assert report.ignored == int((stored == 255).sum()) == 3
    assert report.sizes == {"8x10": 1, "8x11": 1, "8x12": 1, "8x13": 1, "8x14": 1, "2x2": 1}
    assert report.fingerprint == folder(root, "val").fingerprint
    assert "no fault found" in shown(report) and "chair" in shown(report)
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


@pytest.mark.parametrize("workers", [1, 3])
def test_every_fault_is_listed_and_names_its_file(root: Path, workers: int) -> None:
    write(root, "stray", np.full((4, 4), 7, np.uint8))
    write(root, "size", np.zeros((4, 4), np.uint8), image=(5, 4))
    write(root, "short", np.zeros((64, 64), np.uint8), kind="jpg")
    (root / "images/val/short.jpg").write_bytes((root / "images/val/short.jpg").read_bytes()[:-600])
    write(root, "deep", np.zeros((4, 4), np.uint8))
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(root / "labels/val/deep.png")
    report = check(folder(root, "val"), expected=7, workers=workers)
    assert not report.ok
    assert len(report.faults) == 5
    for words in (
        "stray.png: ids outside the 3 classes: 7",
        "size.png: 4x4 labels, but",
        "short.jpg",
        "deep.png",
        "10 samples, expected 7",
    ):
        assert sum(words in fault for fault in report.faults) == 1, words
    assert "5 faults" in shown(report)
    assert sum(report.sizes.values()) == 6


def test_classes_that_never_occur_are_a_remark_and_no_labels_at_all_a_fault(root: Path) -> None:
    for path in (root / "labels/val").iterdir():
        labels = np.asarray(Image.open(path)).copy()
        labels[labels == 2] = 1
        Image.fromarray(labels).save(path)
    report = check(folder(root, "val"))
    assert report.ok and report.remarks == ["1 of 3 classes have no pixel: chair"]
    for path in (root / "labels/val").iterdir():
        Image.fromarray(np.full_like(np.asarray(Image.open(path)), 255)).save(path)
    assert check(folder(root, "val")).faults == ["no pixel has a class"]


def ade(root: Path, labels: np.ndarray) -> Path:
    for part in ("images/validation", "annotations/validation"):
        (root / part).mkdir(parents=True)
    Image.fromarray(np.zeros((*labels.shape, 3), np.uint8)).save(root / "images/validation/x.jpg")
    Image.fromarray(labels).save(root / "annotations/validation/x.png")
    return root


def test_the_zero_label_rule_is_stated_and_files_it_was_applied_to_before_are_noticed(tmp_path: Path) -> None:
    ids = np.arange(151, dtype=np.uint8)[None].repeat(2, 0)
    raw = check(ade20k(ade(tmp_path / "raw", ids), "validation"))
    assert raw.ok and raw.zero_label == "stored id 0 is ignored, the others go down by one" and not raw.remarks
    assert raw.ignored == 2 and set(raw.pixels.values()) == {2}
    reduced = check(ade20k(ade(tmp_path / "reduced", np.where(ids == 0, 255, ids - 1).astype(np.uint8)), "validation"))
    assert any("now applied twice" in remark for remark in reduced.remarks)


def test_a_reader_that_serves_ids_outside_its_classes_is_found_out() -> None:
    class Careless:
        name, split, root, fingerprint = "careless", "val", "nowhere", "f"
        classes, palette, ids, groups = ["a"], [(0, 0, 0)], ["1", "1"], ["1", "1"]

        def __len__(self) -> int:
            return 2

        def size(self, index: int) -> tuple[int, int]:
            return 2, 2 + index

        def load(self, index: int) -> SegmentationSample:
            return SegmentationSample("1", "1", np.zeros((2, 2, 3), np.uint8), np.array([[0, 4], [9, 255]], np.uint8))

    report = check(Careless())
    assert report.faults == [
        "1: image (2, 2), labels (2, 2), header (2, 3) (height, width)",
        "label ids outside the 1 classes: 4, 9",
        "two samples have the same id",
    ]


def test_a_split_that_cannot_be_opened_is_a_fault_and_the_others_are_checked(root: Path) -> None:
    data = DataCard(reader="folder", root=root.name, splits={"train": "train", "test": "val"}, expected={"val": 6})
    card: TaskCard = load_card("task", "ade20k").model_copy(update={"name": "toy", "data": data})
    train, test = check_task(card, root.parent)
    assert not train.ok and "looked for images/train" in train.faults[0]
    assert test.ok and test.expected == 6
    assert "fault:" in shown(train)


def test_many_faults_are_cut_on_the_terminal_and_whole_in_json() -> None:
    report = Report("x", "val", "here", faults=[f"fault {index}" for index in range(50)])
    assert "and 30 more faults" in shown(report)
    assert len(report.to_json()["faults"]) == 50


def test_names_that_are_not_the_classes_of_the_set_are_found_before_a_run(tmp_path: Path) -> None:
    card = load_card("task", "rooms-zeroshot")
    write_rooms("rooms", tmp_path / card.data.root, train=1, val=1, size=28, frames_per_scene=1, workers=1)
    assert misfit(card, tmp_path) is None
    names = dict(card.options["names"])
    names.pop("sofa")
    fault = misfit(card.model_copy(update={"options": {"names": names}}), tmp_path)
    assert fault is not None and "options.names has 41 classes, and the labels have 42" in fault
