"""Our training crops are what mmsegmentation's own pipeline gives for the same files and the same random state."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.segmentation_sets import write_set
from tips_bench.data.crops.segmentation import AugmentCard, TrainCrops, crop_state
from tips_bench.data.label_maps import MaskReader
from tips_bench.data.segmentation import ade20k
from tips_bench.openmmlab import import_mmseg

import_mmseg()
from mmseg.datasets import ADE20KDataset  # noqa: E402
from mmseg.registry import TRANSFORMS  # noqa: E402

CARD: dict[str, Any] = {
    "crop_size": 64,
    "short_side": 64,
    "long_side": None,
    "ratio": (0.5, 2.0),
    "cat_max_ratio": 0.75,
    "flip": 0.5,
    "photometric": True,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ade")
    rng = np.random.default_rng(0)
    masks = {}
    for number in range(7):
        blocks = rng.integers(0, 151, (4, 5), dtype=np.uint8)
        masks[f"ADE_val_{number:08d}"] = np.kron(blocks, np.ones((14 + 3 * number, 25 - number), np.uint8))
    write_set(root, "ade20k", masks)
    return root


@pytest.fixture
def reader(root: Path) -> MaskReader:
    return ade20k(root, "validation")


def their_pipeline(card: dict[str, Any], photometric: bool) -> list[Any]:
    size, scale = (card["crop_size"], card["crop_size"]), (card["long_side"] or 99999999, card["short_side"])
    steps = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations"},
        {
            "type": "RandomResize",
            "scale": scale,
            "ratio_range": card["ratio"],
            "keep_ratio": True,
        },
        {"type": "RandomCrop", "crop_size": size, "cat_max_ratio": card["cat_max_ratio"]},
        {"type": "RandomFlip", "prob": card["flip"]},
        *([{"type": "PhotoMetricDistortion"}] if photometric else []),
        {"type": "Pad", "size": size},
    ]
    return [TRANSFORMS.build(step) for step in steps]


@pytest.mark.parametrize("change", [{}, {"long_side": 90}, {"photometric": False}, {"cat_max_ratio": 1.0, "flip": 1.0}, {"crop_size": 33}])
def test_crops_are_those_of_mmseg_to_the_last_bit(change: dict[str, Any], root: Path, reader: MaskReader) -> None:
    card = {**CARD, **change}
    crops = TrainCrops(reader, AugmentCard(**card), seed=3)
    their = ADE20KDataset(
        data_root=str(root),
        data_prefix={"img_path": "images/validation", "seg_map_path": "annotations/validation"},
        pipeline=their_pipeline(card, card["photometric"]),
    )
    for number in range(30):
        np.random.seed(crop_state(3, number))
        result = their[crops.index(number)]
        image_HW3, labels_HW = crops.crop(number)
        np.testing.assert_array_equal(image_HW3, result["img"][:, :, ::-1])
        np.testing.assert_array_equal(labels_HW, result["gt_seg_map"])
        assert image_HW3.shape == (card["crop_size"], card["crop_size"], 3)


def test_a_crop_depends_on_seed_and_number_alone_and_leaves_every_random_state_as_it_was(reader: MaskReader) -> None:
    card = AugmentCard(**CARD)
    alone = [TrainCrops(reader, card, seed=1).crop(number) for number in range(12)]
    np.random.seed(5)
    states = np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()  # type: ignore[index]
    backwards = [TrainCrops(reader, card, seed=1).crop(number) for number in reversed(range(12))][::-1]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(TrainCrops(reader, card, seed=1).crop, range(12)))
    assert (np.random.get_state()[1] == states[0]).all()  # type: ignore[index]
    assert random.getstate() == states[1] and torch.equal(torch.get_rng_state(), states[2])
    for again in (backwards, threaded):
        for one, other in zip(alone, again, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
    other_seed = TrainCrops(reader, card, seed=2).crop(0)
    assert not np.array_equal(alone[0][0], other_seed[0])


class Crops(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __init__(self, crops: TrainCrops) -> None:
        self.crops = crops

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(self.crops.crop(number)[0])


def test_worker_processes_give_the_crops_of_the_main_process(reader: MaskReader) -> None:
    crops = Crops(TrainCrops(reader, AugmentCard(**CARD), seed=4))
    loaded = list(torch.utils.data.DataLoader(crops, batch_size=None, num_workers=2))
    for number, image_HW3 in enumerate(loaded):
        assert torch.equal(image_HW3, crops[number])


def test_every_sample_is_used_once_an_epoch_in_an_order_that_changes(reader: MaskReader) -> None:
    crops = TrainCrops(reader, AugmentCard(**CARD), indices=[1, 2, 4, 5, 6])
    epochs = [[crops.index(5 * epoch + position) for position in range(5)] for epoch in range(20)]
    assert all(sorted(epoch) == [1, 2, 4, 5, 6] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 10


def test_padding_takes_the_fill_colour_and_is_ignored(reader: MaskReader) -> None:
    card = AugmentCard(**{**CARD, "crop_size": 300, "photometric": False})
    image_HW3, labels_HW = TrainCrops(reader, card, fill=(124, 116, 104)).crop(0)
    np.testing.assert_array_equal(image_HW3[-1, -1], (124, 116, 104))
    assert labels_HW[-1, -1] == 255
