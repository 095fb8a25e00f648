"""Counts and scores of segmentation maps, against sums written out by hand, scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score
from torchmetrics.functional.segmentation import mean_iou

from tips_bench.data import base
from tips_bench.errors import UserError
from tips_bench.metrics.segmentation import IGNORE, SegmentationCounts, class_scores, count, scores, summary
from tips_bench.registry import FAMILIES

WORKED_LABELS = np.array([[0, 0, 1, 255], [2, 1, 1, 255]], dtype=np.uint8)
WORKED_PREDICTION = np.array([[0, 1, 1, 2], [2, 1, 0, 77]], dtype=np.uint8)


def maps(seed: int, classes: int, shape: tuple[int, int] = (17, 23)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels_HW = rng.integers(0, classes, shape, dtype=np.uint8)
    prediction_HW = np.where(rng.random(shape) < 0.6, labels_HW, rng.integers(0, classes, shape, dtype=np.uint8))
    labels_HW[rng.random(shape) < 0.1] = IGNORE
    return prediction_HW, labels_HW


def test_a_map_counted_by_hand_gives_these_counts_and_scores():
    counts_3C = count(WORKED_PREDICTION, WORKED_LABELS, 4)
    assert counts_3C.tolist() == [[1, 2, 1, 0], [2, 3, 1, 0], [2, 3, 1, 0]]
    result = scores(counts_3C)
    assert result["IoU"][:3] == pytest.approx([100 / 3, 50, 100]) and np.isnan(result["IoU"][3])
    assert result["mIoU"] == pytest.approx((100 / 3 + 50 + 100) / 3)
    assert result["aAcc"] == pytest.approx(100 * 4 / 6)
    assert result["mAcc"] == pytest.approx((50 + 200 / 3 + 100) / 3)


def test_the_ignored_id_is_the_readers():
    assert IGNORE == base.IGNORE


def test_the_registry_gives_the_segmentation_counts():
    assert FAMILIES.get("segmentation").counts_class() is SegmentationCounts


@pytest.mark.filterwarnings("ignore:A single label")
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 255))
def test_counts_equal_the_confusion_matrix_of_scikit_learn(seed, classes):
    prediction_HW, labels_HW = maps(seed, classes)
    scored = labels_HW != IGNORE
    matrix = confusion_matrix(labels_HW[scored], prediction_HW[scored], labels=range(classes))
    expected = np.stack([matrix.diagonal(), matrix.sum(0), matrix.sum(1)])
    assert np.array_equal(count(prediction_HW, labels_HW, classes), expected)


def test_the_mean_over_classes_equals_scikit_learns_macro_jaccard():
    prediction_HW, labels_HW = maps(3, 9)
    scored = labels_HW != IGNORE
    expected = 100 * jaccard_score(labels_HW[scored], prediction_HW[scored], average="macro")
    assert scores(count(prediction_HW, labels_HW, 9))["mIoU"] == pytest.approx(expected, abs=1e-9)


def test_the_class_scores_of_one_image_equal_torchmetrics():
    prediction_HW, _ = maps(4, 6)
    labels_HW = np.roll(prediction_HW, 3)
    expected = mean_iou(
        torch.tensor(prediction_HW[None]).long(), torch.tensor(labels_HW[None]).long(), 6, per_class=True, input_format="index"
    )
    assert scores(count(prediction_HW, labels_HW, 6))["IoU"] == pytest.approx(100 * expected[0].double().numpy(), abs=1e-4)


def test_a_class_that_is_only_predicted_scores_zero_and_one_that_is_nowhere_is_left_out():
    labels_HW = np.zeros((2, 2), dtype=np.uint8)
    prediction_HW = np.array([[0, 0], [0, 1]], dtype=np.uint8)
    result = scores(count(prediction_HW, labels_HW, 3))
    assert result["IoU"][1] == 0 and np.isnan(result["Acc"][1]) and np.isnan(result["IoU"][2])
    assert result["mIoU"] == pytest.approx(75 / 2) and result["mAcc"] == pytest.approx(75)


def test_a_set_without_a_scored_pixel_is_not_a_number_and_never_zero():
    everything_ignored = np.full((3, 4), IGNORE, dtype=np.uint8)
    result = scores(count(np.zeros((3, 4), dtype=np.uint8), everything_ignored, 5))
    assert all(np.isnan(result[name]) for name in ("mIoU", "aAcc", "mAcc"))


def test_summaries_of_many_resamples_equal_the_summary_of_each():
    counts_N3C = np.stack([count(*maps(seed, 7), 7) for seed in range(5)])
    together = summary(counts_N3C)
    for index, counts_3C in enumerate(counts_N3C):
        for name, value in summary(counts_3C).items():
            assert together[name][index] == value
    assert class_scores(counts_N3C)["IoU"].shape == (5, 7)


def test_totals_beyond_the_reach_of_float32_lose_no_pixel():
    counts = SegmentationCounts(2)
    for index in range(3):
        counts.update(str(index), "", np.array([[2**40 + 1, 0], [2**40 + 1, 1], [2**40 + 2, 0]]))
    assert counts.total()[0, 0] == 3 * 2**40 + 3
    assert counts.compute()["IoU"][0] < 100


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.int32])
def test_wider_integers_count_like_bytes(dtype):
    prediction_HW, labels_HW = maps(5, 20)
    assert np.array_equal(count(prediction_HW.astype(dtype), labels_HW.astype(dtype), 20), count(prediction_HW, labels_HW, 20))


def test_maps_with_strides_count_like_their_copies():
    prediction_HW, labels_HW = maps(6, 20)
    views = [map_HW.T[::-1, ::2] for map_HW in (prediction_HW, labels_HW)]
    assert np.array_equal(count(*views, 20), count(*(view.copy() for view in views), 20))


@pytest.mark.parametrize(
    ("prediction", "labels", "sentence"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), "street.png: the prediction is 2x3 and the labels are 3x2 pixels"),
        (
            np.zeros((2, 2), np.uint8),
            np.full((2, 2), 4, np.uint8),
            r"ids outside the 4 classes: 4 \(4 pixels\). Ids are 0-3, and 255",
        ),
        (np.full((2, 2), 254, np.uint8), np.zeros((2, 2), np.uint8), r"predicted ids outside the 4 classes: 254 \(4 pixels\)"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 254, np.uint8), "label ids outside the 4 classes: 254"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 300, np.int32), "an id of 300 in the labels"),
        (np.full((2, 2), -1), np.zeros((2, 2), np.uint8), "an id of -1 in the predictions"),
        (np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8), "float32 values, not integer"),
        (np.zeros((1, 2, 2), np.uint8), np.zeros((2, 2), np.uint8), r"a map of (predictions|labels) of shape"),
        (np.zeros((0, 2), np.uint8), np.zeros((0, 2), np.uint8), r"a map of (predictions|labels) of shape"),
    ],
)
def test_maps_that_cannot_be_scored_are_named_with_their_fault(prediction, labels, sentence):
    with pytest.raises(UserError, match=sentence):
        count(prediction, labels, 4, where="street.png")


def test_any_byte_may_be_predicted_where_the_label_is_ignored():
    prediction_HW = np.array([[0, 255, 9]], dtype=np.uint8)
    assert count(prediction_HW, np.array([[0, 255, 255]], dtype=np.uint8), 2).sum() == 3


def test_all_255_classes_of_a_byte_can_be_counted():
    every_id = np.arange(255, dtype=np.uint8)[None]
    assert count(every_id, every_id, 255).tolist() == np.ones((3, 255)).tolist()
