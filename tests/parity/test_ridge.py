"""Ridge from streamed moments is scikit-learn's Ridge on stored features."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from tests.helpers.contexts import fitting
from tests.helpers.walls import Walls
from tests.unit.test_soft_labels import brute_force
from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.data.validation_split import hold_out
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.metrics.depth import DepthRule
from tips_bench.probes.pixel_targets import DepthTarget, NormalsTarget
from tips_bench.probes.solved.ridge import RidgePath, RidgeProbe, error
from tips_bench.probes.solved.sufficient_statistics import Moments, PatchTargets, patch_targets

PENALTIES = [1e1, 1e-1, 1e-3]
OPTIONS = {"type": "ridge", "penalties": PENALTIES, "checkpoint_every": 2}
TARGETS = {"depth": DepthTarget(DepthRule(max_depth=10.0)), "normals": NormalsTarget()}


def context(folder, kind, batch_size=2, encoder="tips-tiny-random", **reader):
    extractor = Extractor(
        load_encoder(encoder, device="cpu"), ImageCard(short_side=56, patch_multiple=True), FeatureCard(), batch_size, workers=1
    )
    return fitting(extractor, Walls(kind, **reader), folder)


def stored(found, indices, target):
    """(features_ND, mean_NT, weight_N) of all patches of some images, with a loop over pixels for the targets."""
    parts = []
    for index in indices:
        sample = found.reader.load(index)
        features_hwD = found.extractor.encode(found.extractor.pixels(sample.image_HW3)[None]).features_BhwD[0]
        grid, inner = tuple(features_hwD.shape[:2]), found.extractor.inner_size(*sample.image_HW3.shape[:2])
        values_THW, known_HW = target.truth(sample)
        area_P = brute_force(np.zeros(known_HW.shape, int), grid, inner, (0, 0, 0, 0), 1)[:, 0]
        sums = np.zeros((len(area_P), 1 + len(values_THW)))
        patch_HW = pixel_patches(known_HW.shape, grid)
        for y, x in zip(*np.nonzero(known_HW), strict=True):
            sums[patch_HW[y, x]] += [1, *values_THW[:, y, x]]
        shown = sums[:, 0] > 0
        parts.append((features_hwD.flatten(0, 1).numpy()[shown], sums[shown, 1:] / sums[shown, :1], (sums[:, 0] / area_P)[shown]))
    return [np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True)]


def pixel_patches(size, grid):
    rows, columns = (((np.arange(side) + 0.5) / side * cells).astype(int) for side, cells in zip(size, grid, strict=True))
    return rows[:, None] * grid[1] + columns


def sklearns(features_ND, mean_NT, weight_N, penalty):
    """(weight_TD, bias_T) of scikit-learn on features standardised with the same weights."""
    scaler = StandardScaler().fit(features_ND, sample_weight=weight_N)
    fit = Ridge(alpha=penalty * weight_N.sum(), solver="cholesky", tol=0).fit(
        scaler.transform(features_ND), mean_NT, sample_weight=weight_N
    )
    weight_TD = np.atleast_2d(fit.coef_) / scaler.scale_
    return weight_TD, np.atleast_1d(fit.intercept_) - weight_TD @ scaler.mean_


@pytest.mark.parametrize("kind", ["depth", "normals"])
def test_the_whole_path_and_the_choice_are_scikit_learns(tmp_path, kind):
    target, found = TARGETS[kind], context(tmp_path, kind)
    fit = RidgeProbe(OPTIONS, "here", target).fit(*found)
    kept, held = hold_out(found.reader.ids, found.reader.groups, 0.25)
    features_ND, mean_NT, weight_N = stored(found, kept, target)
    held_ND, held_NT, held_weight_N = stored(found, held, target)
    moments = Moments.zero(found.extractor.dim, target.values, torch.device("cpu"))
    moments.add(torch.from_numpy(features_ND), PatchTargets(weight_N, mean_NT, (weight_N[:, None] * mean_NT**2).sum(0)))
    held_moments = Moments.zero(found.extractor.dim, target.values, torch.device("cpu"))
    held_moments.add(torch.from_numpy(held_ND), PatchTargets(held_weight_N, held_NT, (held_weight_N[:, None] * held_NT**2).sum(0)))
    path, errors = RidgePath.of(moments), []
    for penalty in PENALTIES:
        weight_TD, bias_T = path.solve(penalty)
        expected = sklearns(features_ND, mean_NT, weight_N, penalty)
        predicted = features_ND @ weight_TD.numpy().T + bias_T.numpy()
        assert predicted == pytest.approx(features_ND @ expected[0].T + expected[1], abs=1e-8)
        assert weight_TD.numpy() == pytest.approx(expected[0], abs=1e-8, rel=1e-6)
        squares_N = np.square(held_ND @ expected[0].T + expected[1] - held_NT).sum(1)
        errors.append(np.sqrt(np.average(squares_N, weights=held_weight_N)))
        assert error(held_moments, weight_TD, bias_T) == pytest.approx(errors[-1], rel=1e-8)
    assert fit.choice.index == int(np.argmin(errors)) and fit.choice.held_out == len(held)
    everything = stored(found, found.indices, target)
    expected = sklearns(*everything, fit.report["penalty"])
    assert fit.head.weight_CD.numpy() == pytest.approx(expected[0], abs=1e-6, rel=1e-5)
    ours = everything[0].astype(np.float32) @ fit.head.weight_CD.numpy().T + fit.head.bias_C.numpy()
    assert ours == pytest.approx(everything[0] @ expected[0].T + expected[1], abs=1e-5)


def test_the_error_counts_the_spread_within_a_patch():
    values = np.array([[[1.0, 3.0], [5.0, 7.0]]])
    targets = patch_targets(values, np.array([[True, True], [True, False]]), (1, 1), (2, 2), (0, 0, 0, 0))
    assert targets.weight_P.tolist() == [0.75] and targets.mean_PT.tolist() == [[3.0]]
    moments = Moments.zero(1, 1, torch.device("cpu"))
    moments.add(torch.ones(1, 1), targets)
    found = error(moments, torch.tensor([[2.0]], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64))
    assert found == pytest.approx(np.sqrt(np.mean((2.5 - np.array([1, 3, 5])) ** 2)))


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_patch_targets_are_those_of_a_loop_over_pixels(height, width, h, w, pad, seed):
    rng = np.random.default_rng(seed)
    known, values = rng.random((height, width)) < 0.6, rng.normal(size=(2, height, width)).astype(np.float32)
    padding = (pad, 0, min(pad, 1), pad)
    inner = (h * 4 - padding[1] - padding[3], w * 4 - padding[0] - padding[2])
    if min(inner) < 1:
        return
    found = patch_targets(values, known, (h, w), inner, padding)
    of_pixel = np.zeros((height, width), int)
    for y in range(height):
        for x in range(width):
            alone = np.full((height, width), 255)
            alone[y, x] = 0
            of_pixel[y, x] = brute_force(alone, (h, w), inner, padding, 1)[:, 0].argmax()
    squares = np.zeros(2)
    for patch in range(h * w):
        inside = (of_pixel == patch) & known
        area = (of_pixel == patch).sum()
        assert found.weight_P[patch] == pytest.approx(inside.sum() / max(area, 1))
        assert found.mean_PT[patch] == pytest.approx(values[:, inside].astype(float).mean(1) if inside.any() else [0, 0], abs=1e-12)
        squares += np.square(values[:, inside].astype(float)).sum(1) / max(area, 1)
    assert found.squares_T == pytest.approx(squares)


def same(first, second):
    return torch.equal(first.head.weight_CD, second.head.weight_CD) and first.choice == second.choice


def test_the_batch_size_changes_no_bit(tmp_path):
    fits = [
        RidgeProbe(OPTIONS, "here", TARGETS["depth"]).fit(*context(tmp_path / str(size), "depth", size, encoder="pixels"))
        for size in (1, 5)
    ]
    assert same(*fits)


def test_the_order_of_the_images_changes_rounding_only(tmp_path):
    probe, forth, back = RidgeProbe(OPTIONS, "here", TARGETS["depth"]), context(tmp_path / "a", "depth"), context(tmp_path / "b", "depth")
    back.indices.reverse()
    first, second = probe.fit(*forth), probe.fit(*back)
    assert first.choice.index == second.choice.index
    assert first.choice.scores == pytest.approx(second.choice.scores, rel=1e-9)
    torch.testing.assert_close(first.head.weight_CD, second.head.weight_CD, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("calls", "left"), [(1, 12), (3, 10), (4, 8)])
def test_a_killed_fit_goes_on_to_the_same_bits_from_its_whole_lanes(tmp_path, calls, left, monkeypatch):
    probe = RidgeProbe(OPTIONS, "here", TARGETS["normals"])
    whole = probe.fit(*context(tmp_path / "a", "normals"))
    encode, count = Extractor.encode, [0]

    def dying(self, pixels):
        count[0] += 1
        if count[0] > calls:
            raise KeyboardInterrupt
        return encode(self, pixels)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Extractor, "encode", dying)
        probe.fit(*context(tmp_path / "b", "normals"))
    again = context(tmp_path / "b", "normals", batch_size=3)
    assert same(probe.fit(*again), whole)
    assert again.extractor.meter.image_forwards == left


def test_constant_features_get_no_weight_and_do_not_disturb_the_others():
    rng = np.random.default_rng(0)
    features, values = rng.normal(size=(200, 5)) + 3, rng.normal(size=(200, 1))
    constant = np.concatenate([features, np.full((200, 2), 1234.5)], 1)
    solved = []
    for array in (features, constant):
        moments = Moments.zero(array.shape[1], 1, torch.device("cpu"))
        moments.add(torch.from_numpy(array), PatchTargets(np.ones(200), values, (values**2).sum(0)))
        solved.append(RidgePath.of(moments).solve(1e-3))
    assert solved[1][0][0, 5:].tolist() == [0, 0]
    torch.testing.assert_close(solved[1][0][:, :5], solved[0][0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(solved[1][1], solved[0][1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"penalties": [1e-3, 1e-1]}, "descend"), ({"penalties": [0.0]}, "positive"), ({"lr": 1}, "no key named 'probe.lr'")],
)
def test_wrong_options_are_one_sentence(options, words):
    with pytest.raises(UserError, match=words):
        RidgeProbe(OPTIONS | options, "here", TARGETS["depth"])


def test_a_split_without_any_value_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="has a known value"):
        RidgeProbe(OPTIONS, "here", TARGETS["depth"]).fit(*context(tmp_path, "depth", encoder="pixels", unknown=1.1))
    with pytest.raises(UserError, match="no training patch"):
        RidgeProbe(OPTIONS | {"penalties": [1.0]}, "here", TARGETS["depth"]).fit(*context(tmp_path, "depth", encoder="pixels", unknown=1.1))
    with pytest.raises(UserError, match="broken"):
        (tmp_path / "moments.npz").write_bytes(b"no zip")
        RidgeProbe(OPTIONS, "here", TARGETS["depth"]).fit(*context(tmp_path, "depth", encoder="pixels"))
