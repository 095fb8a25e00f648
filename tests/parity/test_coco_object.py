"""COCO-Object's labels against the conversion that the papers' repositories ship.

data/coco_object.npz: for each id of COCO-Stuff's published maps, the train id and the id of COCO-Object that wangf3014/SCLIP b56bd30,
datasets/cvt_coco_object.py, gives it. Our reader starts from the maps of train ids, which COCO-Stuff is read from, too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.segmentation_sets import write_set
from tips_bench.errors import UserError
from tips_bench.registry import READERS

DATA = Path(__file__).parent / "data" / "coco_object.npz"


def test_labels_are_those_of_the_papers_conversion(tmp_path: Path) -> None:
    with np.load(DATA, allow_pickle=False) as golden:
        trained, wanted = golden["train_ids"], golden["objects"]
    assert len(trained) == 172 and wanted.max() == 80
    write_set(tmp_path, "coco-stuff164k", {"000000000139": trained.reshape(4, 43)})
    reader = READERS.get("coco-object")(tmp_path, "val2017")
    assert (reader.load(0).labels_HW.ravel() == wanted).all()
    assert len(reader.classes) == len(reader.palette) == 81
    assert (reader.classes[0], reader.classes[1], reader.classes[80]) == ("background", "person", "toothbrush")
    stuff = READERS.get("coco-stuff164k")(tmp_path, "val2017")
    assert reader.classes[1:] == stuff.classes[:80] and reader.palette[1:] == stuff.palette[:80]
    assert reader.fingerprint != stuff.fingerprint


def test_an_id_that_coco_stuff_does_not_have_is_no_background(tmp_path: Path) -> None:
    kept = write_set(tmp_path, "coco-stuff164k", {"000000000139": np.zeros((4, 4), np.uint8)})
    Image.fromarray(np.full((4, 4), 171, np.uint8)).save(tmp_path / kept.masks / f"000000000139{kept.mask_suffix}")
    with pytest.raises(UserError, match="ids outside the 81 classes: 171"):
        READERS.get("coco-object")(tmp_path, "val2017").load(0)
