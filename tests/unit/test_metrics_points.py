"""Scores of points: visible and all, against scikit-learn, whole and in shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from tips_bench.errors import UserError
from tips_bench.metrics.points import PointCounts, count
from tips_bench.metrics.segmentation import IGNORE
from tips_bench.results.statistics import differences, intervals

CLASSES = 6


def scans(seed: int, number: int = 5) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """id -> (predicted, labels, visible); class 5 occurs nowhere."""
    rng = np.random.default_rng(seed)
    made = {}
    for index in range(number):
        labels = rng.integers(0, CLASSES - 1, 400 + index).astype(np.uint8)
        predicted = np.where(rng.random(len(labels)) < 0.6, labels, rng.integers(0, CLASSES - 1, len(labels))).astype(np.uint8)
        labels[rng.random(len(labels)) < 0.1] = IGNORE
        made[f"scan{index}"] = (predicted, labels, rng.random(len(labels)) < 0.7)
    return made


def accumulated(made: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> PointCounts:
    counts = PointCounts(CLASSES)
    for id, (predicted, labels, visible) in made.items():
        counts.update(id, id, count(predicted, labels, visible, CLASSES))
    return counts


def theirs(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """From scikit-learn's confusion matrix of all points at once."""
    kept = labels != IGNORE
    matrix = confusion_matrix(labels[kept], predicted[kept], labels=range(CLASSES)).astype(float)
    hits, truth, guess = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    union = truth + guess - hits
    return {
        "mIoU": float(np.mean(100 * hits[union > 0] / union[union > 0])),
        "mAcc": float(np.mean(100 * hits[truth > 0] / truth[truth > 0])),
        "allAcc": 100 * hits.sum() / matrix.sum(),
    }


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_scikit_learns_confusion_matrix(seed: int) -> None:
    made = scans(seed)
    values = accumulated(made).compute()
    predicted, labels, visible = (np.concatenate(parts) for parts in zip(*made.values(), strict=True))
    for scored, kept in (("visible", visible), ("all", np.ones_like(visible))):
        for name, value in theirs(predicted[kept], labels[kept]).items():
            assert values[f"{name}_{scored}"] == pytest.approx(value, abs=1e-9)
    assert np.isnan(values["IoU_all"][CLASSES - 1])


def test_shards_merge_to_the_same_and_a_file_brings_them_back(tmp_path: Path) -> None:
    made = scans(9)
    whole = accumulated(made)
    merged = accumulated(dict(list(made.items())[:2]))
    merged.merge(accumulated(dict(list(made.items())[2:])))
    whole.save(tmp_path / "counts.npz")
    assert whole == merged == PointCounts(CLASSES).read(tmp_path / "counts.npz")


def test_intervals_and_differences_follow_from_the_counts() -> None:
    first, second = accumulated(scans(1)), accumulated(scans(2))
    sure = intervals(first.counts_N, first.groups, first.summary, resamples=200)
    assert set(sure) == set(PointCounts.specs)
    low, high = sure["mIoU_all"] or (0, 0)
    assert low < first.compute()["mIoU_all"] < high
    found = differences(np.stack([first.counts_N, second.counts_N], 1), first.groups, first.summary, resamples=100, swaps=99)
    assert found["mIoU_visible"].a == first.compute()["mIoU_visible"]


def test_a_scan_without_visible_points_counts_for_all_only() -> None:
    labels = np.array([0, 1, 255], np.uint8)
    counts_23C = count(labels * 0, labels, np.zeros(3, bool), CLASSES)
    assert counts_23C[0].sum() == 0 and counts_23C[1, 2].tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("spoil", [(0, 0, 0, 500), (1, 0, 2, 500), (0, 1, 3, 1)])
def test_counts_that_contradict_each_other_are_refused(spoil: tuple[int, int, int, int]) -> None:
    predicted, labels, visible = scans(0)["scan0"]
    counts_23C = count(predicted, labels, visible, CLASSES)
    counts_23C[spoil[:3]] += spoil[3]
    with pytest.raises(UserError, match="contradict"):
        PointCounts(CLASSES).update("a", "a", counts_23C)
