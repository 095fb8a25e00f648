"""Bootstrap intervals, against scipy's bootstrap on the same draws and against coverage that is counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from tests.helpers.intervals import expanded_bca
from tips_bench.metrics.segmentation import summary
from tips_bench.results import statistics
from tips_bench.results.statistics import group_sums, intervals


def images(number: int, classes: int, seed: int = 0) -> np.ndarray:
    """Counts of images of 200 pixels whose difficulty varies."""
    rng = np.random.default_rng(seed)
    counts_N3C = np.zeros((number, 3, classes), dtype=np.int64)
    for counts_3C in counts_N3C:
        labels = rng.choice(classes, 200, p=rng.dirichlet(np.ones(classes)))
        predictions = np.where(rng.random(200) < rng.beta(5, 2), labels, rng.integers(0, classes, 200))
        matrix = np.histogram2d(labels, predictions, bins=(range(classes + 1), range(classes + 1)))[0]
        counts_3C[:] = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
    return counts_N3C


def single_class(hits_N: np.ndarray) -> np.ndarray:
    """Counts of images of 100 pixels in which `hits_N` are right: their aAcc is a plain mean."""
    hundred_N = np.full(len(hits_N), 100)
    return np.stack([hits_N, hundred_N, hundred_N], axis=1)[:, :, None]


def ids(number: int) -> list[str]:
    return [f"{index:05}" for index in range(number)]


@pytest.mark.parametrize("name", ["mIoU", "aAcc", "mAcc"])
def test_the_interval_is_scipys_for_the_same_draws(name):
    counts_N3C = images(31, 6)

    def statistic(index, axis):
        return summary(counts_N3C[index].sum(axis=index.ndim - 1))[name]

    expected = expanded_bca(statistic, 31, resamples=1500, rng=7)
    assert intervals(counts_N3C, ids(31), summary, resamples=1500, seed=7)[name] == pytest.approx(expected, abs=1e-9)


def test_grouped_samples_are_drawn_together_as_scipy_draws_their_sums():
    counts_N3C = images(40, 4)
    groups = [f"scene-{index % 9}" for index in range(40)]
    sums_G3C = np.stack([counts_N3C[group::9].sum(axis=0) for group in range(9)])

    def statistic(index, axis):
        return summary(sums_G3C[index].sum(axis=index.ndim - 1))["mIoU"]

    expected = expanded_bca(statistic, 9, resamples=500, rng=0)
    assert intervals(counts_N3C, groups, summary, resamples=500)["mIoU"] == pytest.approx(expected, abs=1e-9)


def test_images_of_one_scene_that_agree_widen_the_interval():
    scenes_G3C = images(10, 4)
    copies_N3C = np.repeat(scenes_G3C, 20, axis=0)
    groups = np.repeat(ids(10), 20).tolist()
    clustered = intervals(copies_N3C, groups, summary)["mIoU"]
    naive = intervals(copies_N3C, ids(200), summary)["mIoU"]
    assert clustered[1] - clustered[0] > 3 * (naive[1] - naive[0])
    assert clustered == pytest.approx(intervals(scenes_G3C, ids(10), summary)["mIoU"], abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), number=st.integers(2, 12), data=st.data())
def test_the_order_of_samples_within_their_groups_changes_nothing(seed, number, data):
    counts_N3C = images(number, 3, seed)
    groups = data.draw(st.lists(st.sampled_from("abcd"), min_size=number, max_size=number))
    order = data.draw(st.permutations(range(number)))
    shuffled = intervals(counts_N3C[order], [groups[index] for index in order], summary, resamples=50)
    assert shuffled == intervals(counts_N3C, groups, summary, resamples=50)


def test_the_same_seed_gives_the_same_digits_whatever_the_size_of_the_pieces(monkeypatch):
    counts_N3C = images(23, 5)
    whole = intervals(counts_N3C, ids(23), summary, resamples=301, seed=3)
    monkeypatch.setattr(statistics, "CHUNK_ELEMENTS", 100)
    assert intervals(counts_N3C, ids(23), summary, resamples=301, seed=3) == whole
    assert intervals(counts_N3C, ids(23), summary, resamples=301, seed=4) != whole


@pytest.mark.slow
def test_a_mean_of_independent_samples_is_covered_nineteen_times_in_twenty():
    """400 sets of 60 images; the share of intervals that hold the truth may miss 95 % by 3.5 standard errors."""
    rng = np.random.default_rng(11)
    truth, covered, sets = 70.0, 0, 400
    for _ in range(sets):
        hits_N = rng.binomial(100, rng.beta(7, 3, 60))
        low, high = intervals(single_class(hits_N), ids(60), summary, resamples=400)["aAcc"]
        covered += low <= truth <= high
    assert abs(covered / sets - 0.95) < 3.5 * np.sqrt(0.95 * 0.05 / sets)


def rare(number: int, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Images with four classes each, drawn by Zipf's law, the rare ones hard; wrong pixels go to another class of the image."""
    frequency_C = 1 / np.arange(1, classes + 1) ** 1.2
    chosen_N4 = rng.choice(classes, (number, 4), p=frequency_C / frequency_C.sum())
    hits_N4 = (200 * np.clip(rng.normal(np.linspace(0.9, 0.3, classes)[chosen_N4], 0.15), 0, 1)).astype(int)
    mistaken_N4 = np.take_along_axis(chosen_N4, rng.integers(0, 4, (number, 4)), 1)
    image_N4 = np.arange(number)[:, None].repeat(4, 1)
    counts_N3C = np.zeros((number, 3, classes), dtype=np.int64)
    for row, class_N4, pixels in [(0, chosen_N4, hits_N4), (1, chosen_N4, hits_N4), (1, mistaken_N4, 200 - hits_N4), (2, chosen_N4, 200)]:
        np.add.at(counts_N3C, (image_N4, row, class_N4), pixels)
    return counts_N3C


@pytest.mark.slow
def test_rare_classes_do_not_push_the_mean_iou_out_of_its_interval():
    """80 sets of 300 images and 40 classes, the rarest in four images; plain percentiles cover the truth three times in four."""
    truth = float(summary(rare(100_000, 40, np.random.default_rng(99)).sum(axis=0))["mIoU"])
    rng = np.random.default_rng(1)
    found = [intervals(rare(300, 40, rng), ids(300), summary, resamples=400)["mIoU"] for _ in range(80)]
    covered = np.mean([low <= truth <= high for low, high in found])
    assert abs(covered - 0.95) < 3.5 * np.sqrt(0.95 * 0.05 / 80)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), number=st.integers(2, 20), classes=st.integers(1, 30))
def test_an_interval_is_ordered_within_the_scale_and_finite(seed, number, classes):
    counts_N3C = rare(number, classes, np.random.default_rng(seed))
    for interval in intervals(counts_N3C, ids(number), summary, resamples=50).values():
        assert interval is None or 0 <= interval[0] <= interval[1] <= 100


def test_the_width_for_a_mean_is_that_of_the_normal_interval():
    rng = np.random.default_rng(5)
    hits_N = rng.binomial(100, 0.6, 500)
    low, high = intervals(single_class(hits_N), ids(500), summary, resamples=8000)["aAcc"]
    half = norm.ppf(0.975) * hits_N.std() / np.sqrt(500)
    assert (low, high) == pytest.approx((hits_N.mean() - half, hits_N.mean() + half), abs=0.05 * half)


def test_one_group_or_nothing_scored_gives_no_interval():
    assert intervals(images(1, 3), ["a"], summary) == {"mIoU": None, "aAcc": None, "mAcc": None}
    assert intervals(images(5, 3), ["a"] * 5, summary)["mIoU"] is None
    assert intervals(np.zeros((5, 3, 2), dtype=np.int64), ids(5), summary) == {"mIoU": None, "aAcc": None, "mAcc": None}


def test_resamples_without_a_value_are_left_out():
    counts_N3C = np.zeros((3, 3, 1), dtype=np.int64)
    counts_N3C[0] = [[1], [2], [2]]
    assert intervals(counts_N3C, ids(3), summary)["aAcc"] == (50, 50)


def test_groups_are_summed_exactly():
    counts_N = np.array([[2**40 + 1], [2**40], [5]])
    assert group_sums(counts_N, ["b", "b", "a"]).tolist() == [[5], [2**41 + 1]]


def test_samples_and_groups_of_two_lengths_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="3 samples and 2 groups"):
        intervals(images(3, 2), ["a", "b"], summary)
