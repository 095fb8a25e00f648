"""Paired differences: scipy's bootstrap and permutation test on the same data, enumerated swaps, and rates counted on known truths."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, norm, permutation_test

from tests.helpers.intervals import expanded_bca
from tests.helpers.scored_records import names, pair
from tips_bench.metrics.segmentation import summary
from tips_bench.results import statistics
from tips_bench.results.statistics import adjusted, contributions, differences

FEW = {"resamples": 300, "swaps": 199}


def hits(values_N2: np.ndarray) -> np.ndarray:
    """Counts of images of 100 pixels of one class, for which aAcc is a plain mean."""
    hundred_N2 = np.full_like(values_N2, 100)
    return np.stack([values_N2, hundred_N2, hundred_N2], axis=-1)[..., None]


@pytest.mark.parametrize("name", ["mIoU", "aAcc", "mAcc"])
def test_the_interval_of_the_difference_is_scipys_for_the_same_draws(name):
    counts_N23C = pair(np.random.default_rng(0), 29, 5)

    def statistic(index, axis):
        a_x, b_x = (summary(counts_N23C[index, model].sum(axis=index.ndim - 1))[name] for model in (0, 1))
        return b_x - a_x

    expected = expanded_bca(statistic, 29, resamples=800, rng=[3, 0])
    found = differences(counts_N23C, names(29), summary, resamples=800, swaps=9, seed=3)[name]
    assert found.interval == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_p_value_is_that_of_scipys_permutation_test(seed):
    values_N2 = np.random.default_rng(seed).integers(30, 90, (11, 2))
    values_N2[:, 1] += 8 * seed

    def statistic(a, b, axis):
        return b.mean(axis) - a.mean(axis)

    exact = permutation_test(values_N2.T, statistic, permutation_type="samples", vectorized=True, n_resamples=np.inf).pvalue
    found = differences(hits(values_N2), names(11), summary, resamples=20, swaps=9999)["aAcc"].p
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999) + 1e-3)


def test_the_p_value_of_miou_is_the_share_of_all_swaps_that_differ_as_much():
    counts_N23C = pair(np.random.default_rng(4), 8, 4, drop=0.1)
    found = []
    for swap in itertools.product([0, 1], repeat=8):
        totals = [sum(counts_N23C[i, model ^ s] for i, s in enumerate(swap)) for model in (0, 1)]
        found.append(float(summary(totals[1])["mIoU"] - summary(totals[0])["mIoU"]))
    exact = np.mean(np.abs(found) >= abs(found[0]) - 1e-9)
    measured = differences(counts_N23C, names(8), summary, resamples=20, swaps=20_000)["mIoU"].p
    assert measured == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))


def test_groups_are_swapped_whole():
    """Four scenes can be swapped in sixteen ways, so nothing can be rarer than one in eight, however many images there are."""
    counts_N2 = hits(np.array([[80, 50], [70, 30], [90, 75], [60, 50]]).repeat(50, axis=0))
    scenes = [f"scene-{index // 50}" for index in range(200)]
    assert differences(counts_N2, scenes, summary, swaps=4000)["aAcc"].p == pytest.approx(1 / 8, abs=0.03)
    assert differences(counts_N2, names(200), summary, **FEW)["aAcc"].p == 1 / 200


@pytest.mark.slow
def test_what_can_be_detected_is_detected_four_times_in_five():
    """The spread that is told from one set, against how often a true difference of that size is found in 300 others."""
    rng = np.random.default_rng(5)

    def draw(gain: float) -> np.ndarray:
        level_N = rng.normal(50, 15, 80)
        return hits(
            np.clip(np.round(np.stack([level_N + rng.normal(0, 4, 80), level_N + gain + rng.normal(0, 4, 80)], axis=1)), 0, 100).astype(int)
        )

    detectable = differences(draw(0.0), names(80), summary, resamples=4000, swaps=9)["aAcc"].detectable
    truth = (norm.ppf(0.975) + norm.ppf(0.8)) * np.sqrt(2 * 16 / 80)
    assert detectable == pytest.approx(truth, rel=0.25)
    found = np.mean([differences(draw(truth), names(80), summary, resamples=10, swaps=199)["aAcc"].p <= 0.05 for _ in range(300)])
    assert abs(found - 0.8) < 3.5 * np.sqrt(0.8 * 0.2 / 300) + 0.02


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), number=st.integers(2, 10))
def test_exchanging_the_models_turns_every_sign_and_keeps_p(seed, number):
    counts_N23C = pair(np.random.default_rng(seed), number, 3)
    forward, back = (differences(one, names(number), summary, **FEW) for one in (counts_N23C, counts_N23C[:, ::-1]))
    for name in forward:
        assert back[name].value == pytest.approx(-forward[name].value, abs=1e-9)
        assert back[name].p == forward[name].p
        assert back[name].interval == pytest.approx(tuple(-end for end in reversed(forward[name].interval)), abs=1.0)


def test_a_model_does_not_differ_from_itself():
    counts_N23C = pair(np.random.default_rng(0), 20, 4)[:, [0, 0]]
    for one in differences(counts_N23C, names(20), summary, **FEW).values():
        assert (one.value, one.interval, one.p, one.detectable) == (0, (0, 0), 1, 0)


def test_one_group_says_nothing_of_how_sure_a_difference_is():
    one = differences(pair(np.random.default_rng(0), 5, 3), ["a"] * 5, summary)["mIoU"]
    assert one.interval is None and np.isnan(one.p) and np.isnan(one.detectable) and np.isfinite(one.value)


def test_a_class_that_only_one_model_has_a_score_for_is_not_compared():
    counts_N23C = np.zeros((4, 2, 3, 2), dtype=np.int64)
    counts_N23C[..., 0] = 10
    counts_N23C[:, 0, :, 1] = [[0, 0, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0]]

    def second(counts_x3C):
        from tips_bench.metrics.segmentation import class_scores

        return {"second": class_scores(counts_x3C)["IoU"][..., 1]}

    one = differences(counts_N23C, names(4), second, **FEW)["second"]
    assert one.a == 0 and np.isnan(one.b) and np.isnan(one.value) and np.isnan(one.p) and one.interval is None


def test_the_size_of_the_pieces_changes_no_digit(monkeypatch):
    counts_N23C = pair(np.random.default_rng(0), 17, 4)
    whole = differences(counts_N23C, names(17), summary, **FEW)
    monkeypatch.setattr(statistics, "CHUNK_ELEMENTS", 100)
    assert differences(counts_N23C, names(17), summary, **FEW) == whole


def test_a_contribution_is_the_difference_with_the_sample_less_that_without_it():
    counts_N23C = pair(np.random.default_rng(1), 9, 4)
    found_N = contributions(counts_N23C, summary)["mIoU"]
    for index in range(9):
        rest_2 = summary(np.delete(counts_N23C, index, axis=0).sum(axis=0))["mIoU"]
        all_2 = summary(counts_N23C.sum(axis=0))["mIoU"]
        assert found_N[index] == pytest.approx((all_2[1] - all_2[0]) - (rest_2[1] - rest_2[0]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_scipys(p):
    assert adjusted(p) == pytest.approx(false_discovery_control(p).tolist())


def test_a_test_that_could_not_be_made_is_not_counted():
    assert adjusted([0.01, float("nan"), 0.04])[::2] == adjusted([0.01, 0.04])
    assert adjusted([]) == [] and np.isnan(adjusted([float("nan")])[0])
