"""Metrics of surface normals against plain float64 versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tips_bench.errors import UserError
from tips_bench.metrics.normals import BIN, SUMS, NormalsCounts, angles, count, summary
from tips_bench.registry import FAMILIES
from tips_bench.results.statistics import intervals


def maps(seed: int, shape: tuple[int, int] = (19, 23), noise: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """A truth with unknown pixels, and a prediction of any length."""
    rng = np.random.default_rng(seed)
    truth_HW3 = rng.normal(size=(*shape, 3))
    truth_HW3 /= np.linalg.norm(truth_HW3, axis=-1, keepdims=True)
    predicted_HW3 = (truth_HW3 + noise * rng.normal(size=truth_HW3.shape)) * rng.uniform(0.1, 5, (*shape, 1))
    truth_HW3[rng.random(shape) < 0.2] = 0
    return predicted_HW3.astype(np.float32), truth_HW3.astype(np.float32)


def plain_angles(predicted_HW3: np.ndarray, truth_HW3: np.ndarray) -> list[float]:
    """Degrees of every known pixel, one after the other, by the arc cosine."""
    found = []
    for p, t in zip(predicted_HW3.reshape(-1, 3).astype(np.float64), truth_HW3.reshape(-1, 3).astype(np.float64), strict=True):
        if t.any():
            cosine = sum(p * t) / np.sqrt(sum(p * p)) / np.sqrt(sum(t * t))
            found.append(float(np.degrees(np.arccos(min(1, max(-1, cosine))))))
    return found


def shares(found: list[float]) -> dict[str, float]:
    n = len(found)
    return {
        "mean": sum(found) / n,
        "median": sorted(found)[n // 2] if n % 2 else sum(sorted(found)[n // 2 - 1 : n // 2 + 1]) / 2,
        "RMSE": np.sqrt(sum(a * a for a in found) / n),
        **{f"acc_{limit:g}": 100 * sum(a < limit for a in found) / n for limit in (11.25, 22.5, 30)},
    }


def test_every_metric_equals_a_plain_version_whole_and_in_shards():
    images = [maps(seed, noise=0.1 + 0.2 * seed) for seed in range(5)]
    each = [plain_angles(*image) for image in images]
    expected = {name: np.mean([shares(found)[name] for found in each]) for name in shares(each[0])}
    pooled = shares([angle for found in each for angle in found])
    whole, first, second = NormalsCounts(), NormalsCounts(), NormalsCounts()
    for number, image in enumerate(images):
        sums_S = count(*image)
        whole.update(str(number), "", sums_S)
        (first if number % 2 else second).update(str(number), "", sums_S)
    first.merge(second)
    found = whole.compute()
    assert found == first.compute() and set(found) == set(whole.specs)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9)
        assert found[f"{name}_pooled"] == pytest.approx(pooled[name], abs=BIN if name == "median" else 1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), noise=st.floats(0.001, 3))
def test_the_pooled_median_is_within_a_bin_of_the_exact_one(seed, noise):
    images = [maps(seed + number, (5, 7), noise) for number in range(3)]
    every = sorted(angle for image in images for angle in plain_angles(*image))
    found = summary(sum(count(*image) for image in images))
    assert abs(found["median_pooled"] - every[(len(every) - 1) // 2]) <= BIN + 1e-9


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), degrees=st.floats(0, 180))
def test_an_angle_is_that_of_the_rotation_however_small(seed, degrees):
    rng = np.random.default_rng(seed)
    vector, other = rng.normal(size=(2, 3))
    axis = np.cross(vector, other)
    turned = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.radians(degrees)).apply(vector)
    assert angles(3 * turned[None], vector[None])[0] == pytest.approx(degrees, abs=1e-9)


def test_a_prediction_of_no_direction_is_a_right_angle_off():
    found = summary(count(np.zeros((2, 2, 3)), np.tile([0.0, 0.0, -1.0], (2, 2, 1))))
    assert found["mean"] == found["median"] == found["RMSE"] == 90 and found["acc_30"] == 0


def test_the_opposite_direction_is_the_worst():
    truth_HW3 = np.tile([0.0, 0.0, -1.0], (2, 2, 1))
    found = summary(count(-truth_HW3, truth_HW3))
    assert found["mean"] == 180 and found["median_pooled"] == pytest.approx(180, abs=BIN)
    perfect = summary(count(truth_HW3, truth_HW3))
    assert perfect["mean"] == 0 and perfect["acc_11.25_pooled"] == 100 and perfect["median_pooled"] <= BIN


def test_an_image_without_a_normal_counts_nowhere():
    predicted_HW3, truth_HW3 = maps(3)
    one, empty = count(predicted_HW3, truth_HW3), count(predicted_HW3, np.zeros_like(truth_HW3))
    counts = NormalsCounts()
    counts.update("a", "a", one)
    counts.update("b", "b", empty)
    assert counts.compute() == {name: float(value) for name, value in summary(one).items()}
    assert all(np.isnan(value) for value in summary(empty).values())


def test_intervals_follow_from_the_sums_of_images():
    counts = NormalsCounts()
    for number in range(12):
        counts.update(str(number), str(number), count(*maps(number)))
    found = intervals(counts.counts_N, counts.groups, counts.summary, resamples=200)
    for name in ("RMSE", "median_pooled"):
        low, high = found[name]
        assert low <= counts.compute()[name] <= high


def test_a_saved_file_gives_the_same_metrics(tmp_path):
    counts = NormalsCounts()
    counts.update("a", "g", count(*maps(1)))
    counts.save(tmp_path / "c.npz")
    assert FAMILIES.get("normals").counts_class()().read(tmp_path / "c.npz") == counts


@pytest.mark.parametrize("place, value", [(SUMS.index("images"), 2), (SUMS.index("pixels"), 0), (SUMS.index("mean"), -1), (-1, 1)])
def test_contradictory_sums_are_refused(place, value):
    sums_S = count(*maps(1))
    sums_S[place] = value
    with pytest.raises(UserError, match="contradict"):
        NormalsCounts().update("a", "", sums_S)


def test_a_prediction_of_another_size_or_not_finite_is_refused():
    predicted_HW3, truth_HW3 = maps(1)
    with pytest.raises(UserError, match="size of the normals"):
        count(predicted_HW3[:-1], truth_HW3)
    with pytest.raises(UserError, match="sample 7: a predicted normal that is not finite"):
        count(np.full_like(predicted_HW3, np.inf), truth_HW3, where="sample 7")
