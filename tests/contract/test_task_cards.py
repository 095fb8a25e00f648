"""Every shipped task card is complete, and agrees with the reader that it names."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from tests.helpers.segmentation_sets import KEPT
from tips_bench.cards import TaskCard, list_cards, load_card
from tips_bench.catalog import card_files, shipped
from tips_bench.data.completeness import completeness
from tips_bench.data.segmentation import LAYOUTS
from tips_bench.registry import READERS

NAMES = sorted(path.stem for path in shipped("tasks").glob("*.yaml"))


def card(name: str) -> TaskCard:
    return load_card("task", name)


def test_every_task_of_the_first_release_has_a_card() -> None:
    assert {*KEPT, "rooms-seg"} <= set(NAMES)
    assert [c.name for c in list_cards("task")[0]] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_card_allows_its_own_protocol_and_names_only_protocols_that_exist_for_its_family(name: str) -> None:
    task, known = card(name), card_files("protocol")
    assert task.protocol in task.protocols
    assert len(set(task.protocols)) == len(task.protocols)
    for protocol in task.protocols:
        assert task.family in load_card("protocol", protocol).families
    assert set(task.protocols) <= set(known)


# Neither their publishers' code nor what was at hand of their papers states the number of queries or pairs.
UNCOUNTED = {"met", "ap10k", "ap10k-cross-species", "ap10k-cross-family"}


@pytest.mark.parametrize("name", NAMES)
def test_a_card_names_a_registered_reader_that_has_its_splits(name: str) -> None:
    data = card(name).data
    reader = READERS.get(data.reader)
    assert list(inspect.signature(reader).parameters)[:2] == ["root", "split"]
    assert {"test"} <= set(data.splits) <= {"train", "test"}
    assert len(set(data.splits.values())) == len(data.splits)
    assert set(data.expected) <= set(data.splits.values()) and (data.splits["test"] in data.expected or name in UNCOUNTED)
    if data.reader in LAYOUTS:
        assert set(data.splits.values()) <= set(LAYOUTS[data.reader].splits)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_whose_data_it_is_and_how_to_get_it(name: str) -> None:
    task = card(name)
    for text in (task.title, task.license, task.citation, task.how_to_get):
        assert text.strip() == text and len(text) > 9
        assert "\n" not in text
    assert task.data.generator or re.match(r"https?://", task.homepage)
    assert len(task.how_to_get) < 900


@pytest.mark.parametrize("name", NAMES)
def test_a_root_and_an_unpacking_folder_stay_below_the_data_root(name: str) -> None:
    data = card(name).data
    for folder in [data.root, *(download.unpack_to or "." for download in data.download)]:
        assert not Path(folder).is_absolute() and ".." not in Path(folder).parts
    for download in data.download:
        assert download.md5 or download.sha256, "a download that nothing checks"
        assert Path(data.root).is_relative_to(Path(download.unpack_to or "."))


def test_only_generated_tasks_are_named_rooms() -> None:
    for name in NAMES:
        assert name.startswith("rooms-") == (card(name).data.generator is not None)


@pytest.mark.parametrize(("name", "train", "test"), [
    ("ade20k", 20210, 2000),  # Zhou et al. 2017
    ("voc2012", 1464, 1449),  # VOC2012 devkit, table of the segmentation sets
    ("voc20", 1464, 1449),
    ("pascal-context59", 4998, 5105),  # Mottaghi et al. 2014
    ("pascal-context60", 4998, 5105),
    ("cityscapes", 2975, 500),  # Cordts et al. 2016
    ("coco-stuff164k", 118287, 5000),  # Caesar et al. 2018
    ("coco-object", 118287, 5000),  # COCO-Stuff's images
    ("scannet", 1201, 312),  # scannetv2_train.txt and scannetv2_val.txt of ScanNet's repository
    ("nyu-depth", 24231, 654),  # lists of BTS and DINOv2
    ("nyu-labelled", 795, 654),  # splits.mat of the release
    ("nyu-normals-labelled", 795, 654),
    ("nyu-normals", 30814, 654),  # of 30,816 files two are broken: probe3d evals/datasets/nyu.py
    ("kitti-depth", 23158, 652),  # lists of BTS and DINOv2, lines that name a depth map
    ("imagenet-knn", 1281167, 50000),  # Russakovsky et al. 2015
    ("uned", 1397126, 241986),  # sums over universal_embedding/datasets.py of its publisher
])  # fmt: skip
def test_the_expected_counts_are_the_published_ones(name: str, train: int, test: int) -> None:
    data = card(name).data
    assert tuple(completeness(data, data.splits[role], 0).published[0] for role in ("train", "test")) == (train, test)
