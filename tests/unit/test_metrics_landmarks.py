"""Ranks, average precision and their counts: by hand, against plain loops, in shards, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tips_bench.errors import UserError
from tips_bench.metrics.landmarks import (
    LandmarkCounts,
    RankedCounts,
    direction_counts,
    plain_precision,
    right_ranks,
    setting_counts,
    trapezoid_precision,
)

NONE = np.array([], dtype=np.int64)


def test_one_right_image_at_first_is_1_and_at_second_a_quarter() -> None:
    assert trapezoid_precision(np.array([0])) == 1.0
    assert trapezoid_precision(np.array([1])) == 0.25
    assert plain_precision(np.array([1]), None) == 0.5
    assert plain_precision(np.array([128]), 128) == 0.0 and plain_precision(np.array([127]), 128) == 1 / 128
    assert plain_precision(np.array([0, 1, 7]), 2) == 1.0, "no more images are asked for than there is room for"


def test_junk_before_a_right_image_does_not_count_and_behind_it_changes_nothing() -> None:
    near_N = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    assert right_ranks(near_N, np.array([2]), np.array([0])).tolist() == [1]
    assert right_ranks(near_N, np.array([2]), np.array([4])).tolist() == [2]
    assert right_ranks(near_N, np.array([2, 4]), np.array([0, 1, 3])).tolist() == [0, 1]


def test_hard_images_are_junk_to_the_easy_setting_and_easy_ones_to_the_hard_setting() -> None:
    counts_S5 = setting_counts(np.array([0.9, 0.8, 0.7, 0.6]), np.array([3]), np.array([0]), np.array([1]))
    np.testing.assert_allclose(counts_S5[:, 0], [0.25, 0.5 + 0.5 * (1 / 2 + 2 / 3) / 2, 1.0])


def plain_ranks(near_N: list[int], kinds: list[int]) -> list[int]:
    """kinds: 0 wrong, 1 right, 2 left out. Of equally near images the wrong ones come first."""
    order = sorted(range(len(near_N)), key=lambda row: (-near_N[row], kinds[row] == 1))
    ranking = [row for row in order if kinds[row] != 2]
    return [place for place, row in enumerate(ranking) if kinds[row] == 1]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=30))
def test_ranks_are_those_of_a_plain_sort(images: list[tuple[int, int]]) -> None:
    near, kinds = zip(*images, strict=True)
    found_P = right_ranks(np.array(near, float), np.flatnonzero(np.array(kinds) == 1), np.flatnonzero(np.array(kinds) == 2))
    assert found_P.tolist() == plain_ranks(list(near), list(kinds))


@given(st.permutations(range(25)), st.integers(1, 25), st.randoms())
def test_precision_does_not_depend_on_the_order_of_the_database_and_is_that_of_scikit_learn(near: list[int], right: int, draw) -> None:
    near_N = np.array(near, float)
    ranks_P = right_ranks(near_N, np.arange(right), NONE)
    assert plain_precision(ranks_P, None) == pytest.approx(average_precision_score(np.arange(25) < right, near_N), abs=1e-12)
    order = list(range(25))
    draw.shuffle(order)
    moved_P = np.flatnonzero(np.array(order) < right)
    np.testing.assert_array_equal(right_ranks(near_N[order], moved_P, NONE), ranks_P)
    assert 0 <= trapezoid_precision(ranks_P) <= 1
    assert (trapezoid_precision(ranks_P) == 1) == (plain_precision(ranks_P, None) == 1)


def test_a_setting_without_right_images_leaves_the_query_out_and_nothing_scored_is_no_number() -> None:
    counts = LandmarkCounts()
    counts.update("a", "a", setting_counts(np.array([0.9, 0.1]), np.array([0]), NONE, NONE))
    counts.update("b", "b", setting_counts(np.array([0.9, 0.1]), np.array([1]), NONE, NONE))
    values = counts.compute()
    assert (values["mAP-easy"], values["mAP-medium"], values["mP@1-easy"]) == (62.5, 62.5, 50.0)
    assert np.isnan(values["mAP-hard"]) and set(values) == set(LandmarkCounts.specs)
    assert all(np.isnan(value) for value in LandmarkCounts().compute().values())


def test_a_query_without_its_image_counts_as_nothing_found() -> None:
    counts = RankedCounts.for_classes(["old to new", "new to old"])
    counts.update("a", "a", direction_counts(np.array([0.3, 0.2]), NONE, 5, 0, 2))
    counts.update("b", "b", direction_counts(np.array([0.3, 0.2]), np.array([1]), 5, 0, 2))
    values = counts.compute()
    assert (values["mAP"], values["R@1"], values["R@5"]) == (25.0, 0.0, 50.0)
    assert values["direction mAP"][0] == 25.0 and np.isnan(values["direction mAP"][1])


def test_shards_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    whole, shards = LandmarkCounts(), [LandmarkCounts() for _ in range(3)]
    for query in range(12):
        kind_N = rng.choice(4, 40)
        counts_S5 = setting_counts(rng.standard_normal(40), *(np.flatnonzero(kind_N == kind) for kind in (1, 2, 3)))
        for target in (whole, shards[query % 3]):
            target.update(f"{query:02}", str(query // 2), counts_S5)
    for shard in shards[1:]:
        shards[0].merge(shard)
    assert shards[0] == whole and shards[0].compute() == whole.compute()


@pytest.mark.parametrize("counts_S5", [np.full((3, 5), 2.0), np.full((3, 5), 0.5), -np.ones((3, 5)), np.eye(3, 5)])
def test_counts_that_no_query_can_have_are_refused(counts_S5: np.ndarray) -> None:
    with pytest.raises(UserError):
        LandmarkCounts().update("a", "a", counts_S5)
