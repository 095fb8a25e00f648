"""The images of a task's data are found whatever its family: those of clips, of pairs and of scans, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.pair_sets import write_spair
from tests.helpers.scans import OPTIONS
from tests.helpers.video_sets import noise, write_davis
from tips_bench.cards import load_card
from tips_bench.corpus.curation.task_images import gather, open_images
from tips_bench.errors import UserError
from tips_bench.rooms.writing.writers import write_rooms

WRITERS: dict[str, tuple[Callable[[Path], object], int]] = {
    "davis": (lambda root: write_davis(root, {"cows": noise(3, 20, 30), "dance": noise(2, 20, 30, 1)}), 5),
    "spair": (lambda root: write_spair(root), 6),
    "scannet": (lambda root: write_rooms("scannet", root, **OPTIONS), 2),
}


@pytest.mark.parametrize("task", WRITERS)
def test_every_image_of_a_split_is_found_once(tmp_path: Path, task: str) -> None:
    card, (write, count) = load_card("task", task), WRITERS[task]
    write(tmp_path / card.data.root)
    images = open_images(card, "test", tmp_path)
    found = [images.load(place) for place in range(images.count)]
    assert images.count == count and len({id for id, _ in found}) == count
    assert all(image_HW3.dtype == np.uint8 and image_HW3.ndim == 3 for _, image_HW3 in found)


def test_data_of_several_tasks_are_looked_at_once_and_broken_ones_are_named(tmp_path: Path) -> None:
    for name in ("davis", "spair"):
        write, _ = WRITERS[name]
        write(tmp_path / load_card("task", name).data.root)
    (tmp_path / load_card("task", "voc2012").data.root).mkdir(parents=True)
    (tmp_path / load_card("task", "voc2012").data.root / "half").touch()
    sets, absent = gather(["davis", "voc2012", "ade20k", "davis", "spair"], ["test"], tmp_path, whatever_is_here=True)
    assert [one.source for one in sets] == ["davis (test)", "spair (test)"]
    assert absent["ade20k"] == "its data are not on this machine" and "voc" in absent["voc2012"].lower()
    with pytest.raises(UserError):
        gather(["voc2012"], ["test"], tmp_path, whatever_is_here=False)
