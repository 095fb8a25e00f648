"""The generated rooms, written in the layouts of the real sets, are read as what was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tips_bench.cards import load_card
from tips_bench.data.label_maps import MaskReader
from tips_bench.registry import READERS
from tips_bench.rooms.drawing.classes import CLASSES, NAMES
from tips_bench.rooms.writing.writers import write_rooms

# layout of the writer -> (readers, folder below the root, train split, attribute of a RoomClass)
LAYOUTS = {
    "ade20k": (("ade20k",), "ADEChallengeData2016", "training", "ade20k"),
    "voc2012": (("voc2012", "voc20"), "VOCdevkit/VOC2012", "train", "voc"),
    "pascal-context": (("pascal-context60", "pascal-context59"), "VOCdevkit/VOC2010", "train", "context"),
}
CASES = [(layout, reader) for layout, (readers, *_) in LAYOUTS.items() for reader in readers]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {}
    for layout in (*LAYOUTS, "rooms"):
        roots[layout] = tmp_path_factory.mktemp("sets") / layout
        write_rooms(layout, roots[layout], seed=0, train=4, val=2, size=64, frames_per_scene=2, workers=1)
    return roots


@pytest.fixture(scope="module")
def drawn(roots: dict[str, Path]) -> MaskReader:
    return READERS.get("folder")(roots["rooms"], "train", **load_card("task", "rooms-seg").data.options)


def test_frames_of_a_room_are_one_group(drawn: MaskReader) -> None:
    assert drawn.classes == list(NAMES) and drawn.palette == [room_class.rgb for room_class in CLASSES]
    assert len(drawn) == 4 and len(set(drawn.groups)) == 2
    assert all(drawn.ids[index].startswith(drawn.groups[index]) for index in range(4))


@pytest.mark.parametrize(("layout", "reader_name"), CASES)
def test_a_real_reader_gives_the_drawn_classes_under_the_real_names(
    layout: str, reader_name: str, roots: dict[str, Path], drawn: MaskReader
) -> None:
    _, folder, split, attribute = LAYOUTS[layout]
    reader = READERS.get(reader_name)(roots[layout] / folder, split)
    assert len(reader) == len(drawn)
    named = {index: getattr(room_class, attribute) for index, room_class in enumerate(CLASSES)}
    for index in range(len(reader)):
        truth, sample = drawn.load(index), reader.load(index)
        np.testing.assert_array_equal(sample.image_HW3, truth.image_HW3)
        for drawn_class in np.unique(truth.labels_HW):
            found = set(np.unique(sample.labels_HW[truth.labels_HW == drawn_class]).tolist())
            expected = None if drawn_class == 255 else named[int(drawn_class)]
            if expected is None:  # background or ignored
                assert {reader.classes[label] for label in found - {255}} <= {"background"}
            else:  # outlines may be ignored
                assert {reader.classes[label] for label in found - {255}} <= {expected[1]}
    labeled = [sample for index in range(len(reader)) if (sample := reader.load(index)).labels_HW.min() < 255]
    assert labeled, "no sample has a label"
