"""mIoU after the best match of predicted and labeled classes: against all permutations, and in what it never does."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tips_bench.metrics import matched_iou, segmentation
from tips_bench.metrics.segmentation import IGNORE

CLASSES = 4


def maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and labels, some ignored."""
    draw = np.random.default_rng(seed)
    labels_HW = draw.choice([0, 1, 2, 3, IGNORE], (7, 9)).astype(np.uint8)
    return np.where(draw.random((7, 9)) < 0.5, labels_HW % CLASSES, draw.integers(CLASSES, size=(7, 9))).astype(np.uint8), labels_HW


@given(st.integers(0, 2**16))
def test_it_is_the_best_of_all_renamings_and_no_less_than_without(seed: int) -> None:
    predicted_HW, labels_HW = maps(seed)
    found = matched_iou.summary(matched_iou.count(predicted_HW, labels_HW, CLASSES))["mIoU_matched"]
    scores = []
    for names in permutations(range(CLASSES)):
        renamed_HW = np.array(names, np.uint8)[predicted_HW]
        per_class = segmentation.class_scores(segmentation.count(renamed_HW, labels_HW, CLASSES))["IoU"]
        scores.append(np.nan_to_num(per_class).mean())
    assert found == pytest.approx(max(scores), abs=1e-9) and found >= scores[0] - 1e-9


def test_a_right_map_with_other_names_scores_100() -> None:
    labels_HW = np.arange(CLASSES, dtype=np.uint8).repeat(6).reshape(4, 6)
    counts_CC = matched_iou.count((labels_HW + 1) % CLASSES, labels_HW, CLASSES)
    assert matched_iou.summary(counts_CC)["mIoU_matched"] == 100


def test_sums_of_counts_are_scored_together() -> None:
    counts_NCC = np.stack([matched_iou.count(*maps(seed), CLASSES) for seed in range(6)])
    several = matched_iou.summary(counts_NCC.reshape(2, 3, CLASSES, CLASSES).sum(1))["mIoU_matched"]
    assert several.shape == (2,) and several[0] == matched_iou.summary(counts_NCC[:3].sum(0))["mIoU_matched"]
