"""The convex probe's optimum is scikit-learn's, and torch's, on the same patches."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tips_bench.cards import load_card
from tips_bench.probes.solved.patches import Patches
from tips_bench.probes.solved.softmax_regression import Moments, SoftmaxRegression


def problem(seed=0, patches=600, dim=12, classes=5):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim)) * np.geomspace(3, 0.01, dim)
    features = (rng.normal(size=(patches, dim)) @ mixing + rng.normal(size=dim) * 5).astype(np.float32)
    counts = rng.multinomial(196, rng.dirichlet(np.ones(classes) * 0.2, patches)).astype(np.uint16)
    counts[rng.random(patches) < 0.1] //= 2  # partly unlabelled patches
    counts[:20] = 0
    counts[:, 3] = 0  # a class that never shows
    return {"features": features, "counts": counts, "area": np.full(patches, 196, np.uint32)}


def solve(arrays, penalty, resident=10**9):
    patches = Patches(arrays, np.arange(len(arrays["area"])), torch.device("cpu"), resident)
    regression = SoftmaxRegression(patches)
    return regression, regression.solve(penalty, 1e-6, 2000, dtype=torch.float64)


def objective(arrays, weight, bias, shown, penalty):
    """The formula in float64 on standardised features, written apart from the solver."""
    x, m = arrays["features"].astype(np.float64), arrays["counts"][:, shown] / arrays["area"][:, None]
    share = m.sum(1)
    mean = share @ x / share.sum()
    deviation = np.sqrt(share @ (x - mean) ** 2 / share.sum())
    z = x @ weight.T + bias
    log_p = z - np.log(np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)) - z.max(1, keepdims=True)
    return -(m * log_p).sum() / m.sum() + penalty / 2 * ((weight * deviation) ** 2).sum()


@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-5])
def test_the_optimum_is_that_of_scikit_learn(penalty):
    arrays = problem()
    regression, found = solve(arrays, penalty)
    shown = regression.shown_K.numpy()
    shares = arrays["counts"][:, shown] / arrays["area"][:, None]
    share = shares.sum(1)
    x = arrays["features"].astype(np.float64)
    mean = share @ x / share.sum()
    deviation = np.sqrt(share @ (x - mean) ** 2 / share.sum())
    rows, labels = np.nonzero(shares)  # a soft label is several weighted hard ones
    reference = LogisticRegression(C=1 / (penalty * share.sum()), tol=1e-10, max_iter=20000)
    reference.fit(((x - mean) / deviation)[rows], labels, sample_weight=shares[rows, labels])
    weight = reference.coef_ / deviation
    theirs = objective(arrays, weight, reference.intercept_ - weight @ mean, shown, penalty)
    ours = objective(arrays, found.weight_KD.numpy(), found.bias_K.numpy(), shown, penalty)
    assert found.converged
    assert ours == pytest.approx(theirs, rel=1e-6) and ours == pytest.approx(found.loss, rel=1e-6)
    logits = x @ (found.weight_KD.numpy() - weight).T
    logits = logits - logits.mean(0) - (logits - logits.mean(0)).mean(1, keepdims=True)
    assert np.abs(logits).max() < 0.05


def test_patches_streamed_from_disk_give_the_optimum_of_patches_in_memory():
    _, resident = solve(problem(), 1e-3)
    _, streamed = solve(problem(), 1e-3, resident=0)
    torch.testing.assert_close(resident.weight_KD, streamed.weight_KD, atol=1e-9, rtol=1e-9)


def test_a_class_without_labels_is_left_out():
    regression, found = solve(problem(), 1e-3)
    assert regression.shown_K.tolist() == [0, 1, 2, 4] and len(found.bias_K) == 4


def test_moments_are_those_of_numpy():
    arrays = problem()
    moments = Moments.of(Patches(arrays, np.arange(600), torch.device("cpu"), 0))
    share = (arrays["counts"] / arrays["area"][:, None]).sum(1)
    expected = np.cov(arrays["features"].T.astype(np.float64), aweights=share, bias=True)
    np.testing.assert_allclose(moments.deviation_D, np.sqrt(np.diag(expected)), rtol=1e-5)
    correlation = moments.basis_DD @ torch.diag(moments.eigenvalues_D) @ moments.basis_DD.T
    scale = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(correlation, expected / np.outer(scale, scale), atol=1e-5)


def test_features_that_never_vary_do_no_harm():
    arrays = problem()
    arrays["features"][:, 0] = 7.25
    _, found = solve(arrays, 1e-3)
    assert found.converged and float(found.weight_KD[:, 0].abs().max()) < 1e-6


def test_bfloat16_features_are_read_back_bit_for_bit():
    from tips_bench.features.cache import from_disk, to_disk

    features = torch.randn(5, 4).bfloat16()
    assert torch.equal(from_disk(to_disk(features)), features)


@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-5])
def test_the_tolerance_of_the_protocol_gives_the_optimal_loss_to_a_millionth(penalty):
    tolerance = load_card("protocol", "convex").probe["tolerance"]
    patches = Patches(problem(), np.arange(600), torch.device("cpu"), 10**9)
    regression = SoftmaxRegression(patches)
    near = regression.solve(penalty, tolerance, 2000)
    found = regression.solve(penalty, tolerance, 2000, (near.weight_KD, near.bias_K), torch.float64)
    best = regression.solve(penalty, 1e-8, 20000, dtype=torch.float64)
    assert found.converged and found.loss == pytest.approx(best.loss, rel=1e-6)
