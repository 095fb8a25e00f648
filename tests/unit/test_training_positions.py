"""Crops that take a window of the table of positions, and the waves that the table starts with."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.helpers.pretraining import recipe, write_shards
from tips_bench.models.tokenizer import Tokenizer
from tips_bench.training.batches import TrainingData
from tips_bench.training.captions import tokenizer_file
from tips_bench.training.sources import shard_order
from tips_bench.training.student import Student


@pytest.mark.slow
def test_windows_are_drawn_uniformly_for_each_view_and_are_the_same_again(tmp_path: Path) -> None:
    chosen = recipe(write_shards(tmp_path / "shards"), model__positions="window", model__vision__position_grid=[6, 5])
    tokenizer = Tokenizer(tokenizer_file(chosen, shard_order(chosen), tmp_path))
    first, second = (list(islice(TrainingData(chosen, tokenizer).batches(chosen.stages[0]), 60)) for _ in range(2))
    assert all(torch.equal(a, b) for one, two in zip(first, second, strict=True) for a, b in zip(one.windows, two.windows, strict=True))
    places = [torch.cat(column).numpy() for column in zip(*(batch.windows for batch in first), strict=True)]
    # crops of 4 and of 2 patches, in a table of 6 rows and 5 columns
    for place_N2, free in zip(places, ((3, 2), (5, 4), (5, 4)), strict=True):
        counts = np.unique(place_N2, axis=0, return_counts=True)[1]
        assert place_N2.min() == 0 and tuple(place_N2.max(axis=0) + 1) == free
        assert len(counts) == free[0] * free[1] and counts.min() > 0.4 * counts.mean()
    assert not np.array_equal(places[1], places[2])


def test_windows_leave_crops_and_captions_as_they_are(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards")
    plain, windowed = (recipe(shards, model__positions=kind) for kind in ("interpolated", "window"))
    tokenizer = Tokenizer(tokenizer_file(plain, shard_order(plain), tmp_path))
    one, other = (next(TrainingData(chosen, tokenizer).batches(chosen.stages[0])) for chosen in (plain, windowed))
    assert not one.windows and len(other.windows) == 3
    assert torch.equal(one.global_B3HW, other.global_B3HW) and torch.equal(one.texts[1].ids_BL, other.texts[1].ids_BL)
    assert one.mask_BP is not None and other.mask_BP is not None and torch.equal(one.mask_BP, other.mask_BP)


def test_a_crop_larger_than_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"crops of 4 x 4 patches do not fit position_grid \(3, 4\)"):
        recipe(model__positions="window", model__vision__position_grid=[3, 4])


def test_images_are_to_be_as_large_as_the_table() -> None:
    assert recipe().resolution == 56 and recipe(model__positions="window", model__vision__position_grid=[8, 8]).resolution == 112


def test_a_frozen_teacher_takes_no_windows() -> None:
    teacher = {"kind": "frozen", "momentum": None, "run": "large"}
    with pytest.raises(ValueError, match="a frozen teacher has a table of positions of its own"):
        recipe(model__positions="window", method__teacher=teacher, method__patches__mask=None)


def test_places_that_are_near_start_alike_wherever_they_are() -> None:
    student = Student(recipe(model__positions="window", model__vision__position_grid=[8, 8]))
    student.init_weights(0)
    table_RCD = student.vision.pos_embed[0, 1:].detach().unflatten(0, (8, 8))
    norm_RC = table_RCD.norm(dim=-1)
    assert torch.allclose(norm_RC, norm_RC[0, 0])
    likeness = F.cosine_similarity(table_RCD[:-3, :-3], table_RCD[1:-2, :-3], dim=-1)
    assert torch.allclose(likeness, likeness[0, 0])  # one row apart, from each place
    farther = [F.cosine_similarity(table_RCD[0, 0], table_RCD[0, step], dim=-1).item() for step in (1, 2, 3)]
    assert 1 > farther[0] > farther[1] > farther[2]
    with_table = Student(recipe(model__vision__position_grid=[8, 8]))
    with_table.init_weights(0)
    assert not torch.allclose(table_RCD.flatten(0, 1), with_table.vision.pos_embed[0, 1:])
