"""Depth metrics against float64 versions written from their formulas, numpy's least squares, scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import mean_absolute_percentage_error, root_mean_squared_error
from torchmetrics.functional import mean_absolute_percentage_error as torch_mape
from torchmetrics.functional import mean_squared_error

from tips_bench.errors import UserError
from tips_bench.metrics.depth import SUMS, DepthCounts, DepthRule, count, crop_slices, summary
from tips_bench.registry import FAMILIES
from tips_bench.results.statistics import intervals

OPEN = DepthRule(min_depth=0.001, max_depth=10)
RULES = [
    OPEN,
    DepthRule(min_depth=0.5, max_depth=3),
    DepthRule(max_depth=80, crop="kitti-garg"),
    DepthRule(max_depth=80, crop="kitti-eigen"),
]


def maps(seed: int, shape: tuple[int, int] = (37, 53), top: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """A truth with unknown pixels and some beyond the caps, and a prediction that is partly beyond them too."""
    rng = np.random.default_rng(seed)
    truth_HW = rng.uniform(0.2, top, shape).astype(np.float32)
    predicted_HW = (truth_HW * rng.lognormal(0.1, 0.4, shape) + rng.normal(0, 0.5, shape)).astype(np.float32)
    truth_HW[rng.random(shape) < 0.2] = 0
    return predicted_HW, truth_HW


def one_image(predicted: list[float], truth: list[float], low: float, high: float) -> dict[str, float]:
    """All metrics of the listed pixels in plain Python, one pixel after the other."""
    pairs = [(p, t) for p, t in zip(predicted, truth, strict=True) if low < t < high]
    n = len(pairs)
    capped = [(min(max(p, low), high), t) for p, t in pairs]
    p_N, t_N = np.array(pairs, dtype=np.float64).T
    slope, shift = np.linalg.lstsq(np.stack([p_N, np.ones(n)], 1), t_N, rcond=None)[0]
    logs = [np.log(p) - np.log(t) for p, t in capped]
    mean_log = sum(logs) / n
    found = {
        "log10": sum(abs(np.log10(p) - np.log10(t)) for p, t in capped) / n,
        "RMSE_log": np.sqrt(sum(d * d for d in logs) / n),
        "SILog": 100 * np.sqrt(sum((d - mean_log) ** 2 for d in logs) / n),
    }
    for prefix, chosen in (("", capped), ("aligned_", [(slope * p + shift, t) for p, t in pairs])):
        for k in (1, 2, 3):
            hits = sum(1 for p, t in chosen if p > 0 and p / t < 1.25**k and t / p < 1.25**k)
            found[f"{prefix}delta{k}"] = 100 * hits / n
        found[f"{prefix}AbsRel"] = sum(abs(p - t) / t for p, t in chosen) / n
        found[f"{prefix}SqRel"] = sum((p - t) ** 2 / t for p, t in chosen) / n
        found[f"{prefix}RMSE"] = np.sqrt(sum((p - t) ** 2 for p, t in chosen) / n)
        found[f"{prefix}squares"] = sum((p - t) ** 2 for p, t in chosen)
    return found | {"pixels": n}


def whole_set(images: list[tuple[np.ndarray, np.ndarray]], rule: DepthRule, box: tuple[slice, slice]) -> dict[str, float]:
    """Means over images, and pooled roots, from `one_image`."""
    each = [
        one_image(
            predicted[box].ravel().astype(np.float64).tolist(),
            truth[box].ravel().astype(np.float64).tolist(),
            rule.min_depth,
            rule.max_depth,
        )
        for predicted, truth in images
    ]
    pixels = sum(one["pixels"] for one in each)
    pooled = {f"{prefix}RMSE_pooled": np.sqrt(sum(one[f"{prefix}squares"] for one in each) / pixels) for prefix in ("", "aligned_")}
    return {name: np.mean([one[name] for one in each]) for name in each[0] if "squares" not in name and name != "pixels"} | pooled


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.crop}-{rule.max_depth:g}")
def test_every_metric_equals_a_plain_version_whole_and_in_shards(rule):
    images = [maps(seed) for seed in range(5)]
    lines = {
        "none": (slice(0, 37), slice(0, 53)),
        "kitti-garg": (slice(15, 36), slice(1, 51)),  # 0.40810811 * 37 = 15.1, 0.99189189 * 37 = 36.7, ...
        "kitti-eigen": (slice(12, 33), slice(1, 51)),
    }
    expected = whole_set(images, rule, lines[rule.crop])
    sums = [count(predicted, truth, rule) for predicted, truth in images]
    whole, first, second = DepthCounts(), DepthCounts(), DepthCounts()
    for number, sums_S in enumerate(sums):
        whole.update(str(number), "", sums_S)
        (first if number % 2 else second).update(str(number), "", sums_S)
    first.merge(second)
    assert set(expected) == set(whole.specs) == set(whole.compute())
    assert whole.compute() == first.compute() == {name: pytest.approx(value, rel=1e-9, abs=1e-9) for name, value in expected.items()}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), high=st.floats(1, 20))
def test_random_maps_equal_scikit_learn_and_torchmetrics(seed, high):
    rule = DepthRule(min_depth=0.1, max_depth=high)
    predicted_HW, truth_HW = maps(seed, (13, 17))
    found = summary(count(predicted_HW, truth_HW, rule))
    scored = (truth_HW > 0.1) & (truth_HW < high)
    if not scored.any():
        assert np.isnan(found["RMSE"])
        return
    truth = truth_HW[scored].astype(np.float64)
    predicted = np.clip(predicted_HW[scored].astype(np.float64), 0.1, high)
    assert found["RMSE"] == pytest.approx(root_mean_squared_error(truth, predicted), abs=1e-9)
    assert found["AbsRel"] == pytest.approx(mean_absolute_percentage_error(truth, predicted), abs=1e-9)
    tensors = torch.from_numpy(predicted), torch.from_numpy(truth)
    assert found["RMSE"] == pytest.approx(mean_squared_error(*tensors, squared=False).item(), abs=1e-9)
    assert found["AbsRel"] == pytest.approx(torch_mape(*tensors).item(), abs=1e-9)
    assert found["RMSE_log"] == pytest.approx(mean_squared_error(tensors[0].log(), tensors[1].log(), squared=False).item(), abs=1e-9)
    assert found["SILog"] == pytest.approx(100 * np.log(predicted / truth).std(), abs=1e-9)


def test_the_root_of_all_pixels_is_not_the_mean_of_the_images_roots():
    truth_HW = np.full((2, 2), 2.0)
    sums = [count(truth_HW + error, truth_HW, OPEN) for error in (1, 3)]
    found = summary(np.sum(sums, axis=0))
    assert found["RMSE"] == pytest.approx(2) and found["RMSE_pooled"] == pytest.approx(np.sqrt(5))


def test_a_perfect_prediction_scores_perfectly_and_a_scaled_one_does_after_alignment():
    _, truth_HW = maps(1, top=9)
    perfect = summary(count(truth_HW, truth_HW, OPEN))
    assert all(perfect[name] == (100 if "delta" in name else pytest.approx(0, abs=1e-7)) for name in perfect)
    scaled = summary(count(0.3 * truth_HW.astype(np.float64) + 0.7, truth_HW, OPEN))
    assert scaled["delta1"] < 90 and scaled["RMSE"] > 0.5
    assert scaled["aligned_RMSE"] == pytest.approx(0, abs=1e-9) and scaled["aligned_delta1"] == 100


def test_only_the_scale_of_a_prediction_leaves_silog_at_0():
    _, truth_HW = maps(1, top=4)
    assert summary(count(2.0 * truth_HW.astype(np.float64), truth_HW, OPEN))["SILog"] == pytest.approx(0, abs=1e-9)


def test_a_constant_prediction_aligns_to_the_mean_of_the_truth():
    _, truth_HW = maps(2, top=9)
    found = summary(count(np.full(truth_HW.shape, 1.1, np.float32), truth_HW, OPEN))
    assert found["aligned_RMSE"] == pytest.approx(truth_HW[truth_HW > 0].astype(np.float64).std(), abs=1e-9)


def test_one_pixel_is_scored():
    truth_HW = np.zeros((4, 5), np.float32)
    truth_HW[1, 2] = 2
    found = summary(count(np.full((4, 5), 4.0, np.float32), truth_HW, OPEN))
    assert (found["RMSE"], found["AbsRel"], found["SqRel"], found["SILog"], found["delta3"]) == (2, 1, 2, 0, 0)
    assert found["log10"] == pytest.approx(np.log10(2)) and found["aligned_RMSE"] == 0


def test_predictions_are_capped_to_the_scored_range_and_only_then_logged():
    truth_HW = np.array([[1.0, 5.0]])
    found = summary(count(np.array([[-3.0, 99.0]]), truth_HW, OPEN))
    assert found["RMSE"] == pytest.approx(np.sqrt((0.999**2 + 5**2) / 2))
    assert found["RMSE_log"] == pytest.approx(np.sqrt((np.log(0.001) ** 2 + np.log(2) ** 2) / 2))


def test_the_caps_themselves_are_not_scored():
    rule = DepthRule(min_depth=1, max_depth=4)
    assert count(np.ones((1, 4)), np.array([[1.0, 4.0, 2.0, 0.0]]), rule)[SUMS.index("pixels")] == 1


def test_an_image_without_a_scored_pixel_counts_nowhere():
    predicted_HW, truth_HW = maps(3)
    one, empty = count(predicted_HW, truth_HW, OPEN), count(predicted_HW, np.zeros_like(truth_HW), OPEN)
    counts = DepthCounts()
    counts.update("a", "a", one)
    counts.update("b", "b", empty)
    assert counts.compute() == {name: float(value) for name, value in summary(one).items()}
    assert all(np.isnan(value) for value in summary(empty).values())


def test_the_crops_are_the_published_lines():
    assert crop_slices("nyu-eigen", 480, 640) == (slice(45, 471), slice(41, 601))
    assert crop_slices("kitti-garg", 352, 1216) == (slice(143, 349), slice(43, 1172))
    assert crop_slices("kitti-garg", 375, 1242) == (slice(153, 371), slice(44, 1197))
    assert crop_slices("kitti-eigen", 375, 1242) == (slice(124, 342), slice(44, 1197))
    with pytest.raises(UserError, match="240x320"):
        crop_slices("nyu-eigen", 240, 320)


def test_the_nyu_crop_leaves_the_border_out():
    truth_HW = np.full((480, 640), 2.0, np.float32)
    predicted_HW = np.full((480, 640), 9.0, np.float32)
    predicted_HW[45:471, 41:601] = 2
    assert summary(count(predicted_HW, truth_HW, DepthRule(max_depth=10, crop="nyu-eigen")))["RMSE"] == 0


def test_intervals_follow_from_the_sums_of_images():
    counts = DepthCounts()
    for number in range(12):
        counts.update(str(number), str(number), count(*maps(number), OPEN))
    found = intervals(counts.counts_N, counts.groups, counts.summary, resamples=300)
    low, high = found["RMSE"]
    assert low < counts.compute()["RMSE"] < high and set(found) == set(counts.specs)


def test_a_saved_file_gives_the_same_metrics(tmp_path):
    counts = DepthCounts()
    counts.update("a", "g", count(*maps(1), OPEN))
    counts.save(tmp_path / "c.npz")
    assert FAMILIES.get("depth").counts_class()().read(tmp_path / "c.npz") == counts


@pytest.mark.parametrize("name, value", [("images", 2), ("pixels", 0), ("RMSE", -1)])
def test_contradictory_sums_are_refused(name, value):
    sums_S = count(*maps(1), OPEN)
    sums_S[SUMS.index(name)] = value
    with pytest.raises(UserError, match="contradict"):
        DepthCounts().update("a", "", sums_S)


def test_a_prediction_of_another_size_or_not_finite_is_refused():
    predicted_HW, truth_HW = maps(1)
    with pytest.raises(UserError, match="size of the depth"):
        count(predicted_HW[:-1], truth_HW, OPEN)
    with pytest.raises(UserError, match="sample 7: a predicted depth that is not finite"):
        count(np.full_like(predicted_HW, np.nan), truth_HW, OPEN, where="sample 7")


def test_a_rule_needs_room_between_its_caps():
    for options in ({"max_depth": 0.001}, {"max_depth": -1}, {"max_depth": 10, "crop": "eigen"}, {"max_depth": 10, "min_depth": 0}):
        with pytest.raises(ValidationError):
            DepthRule(**options)
