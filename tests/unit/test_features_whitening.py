"""Whitened features: their covariance, what has no variance, and chunks that change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tips_bench.errors import UserError
from tips_bench.features import whitening
from tips_bench.features.cache import to_disk
from tips_bench.features.whitening import Whitening


def features(images: int = 60, dim: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((images, dim)) @ rng.standard_normal((dim, dim)) + 1).astype(np.float32)


def test_before_they_are_made_of_length_1_they_have_no_covariance_and_no_mean() -> None:
    features_NF = features()
    found = Whitening.learned(features_NF, 5)
    unit_NF = features_NF.astype(np.float64) / np.linalg.norm(features_NF.astype(np.float64), axis=1, keepdims=True)
    white_ND = (unit_NF - found.mean_F) @ found.matrix_FD
    np.testing.assert_allclose(white_ND.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(white_ND.T @ white_ND / len(white_ND), np.eye(5), atol=1e-9)
    np.testing.assert_allclose(found.apply(features_NF), white_ND / np.linalg.norm(white_ND, axis=1, keepdims=True), atol=1e-12)


def test_chunks_and_the_length_of_features_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features_NF = features()
    whole = Whitening.learned(features_NF, 8).apply(features_NF)
    monkeypatch.setattr(whitening, "ROWS", 7)
    near_NN = Whitening.learned(features_NF * 3, 8).apply(features_NF)
    np.testing.assert_allclose(near_NN @ near_NN.T, whole @ whole.T, atol=1e-6)


def test_axes_without_variance_are_left_out_and_features_that_are_all_the_same_are_refused() -> None:
    few_NF = features(images=5)
    assert Whitening.learned(few_NF, 8).apply(few_NF).shape == (5, 4), "five points span four axes"
    twice_NF = np.concatenate([features(), features()[:, :2]], 1)
    assert Whitening.learned(twice_NF, 512).matrix_FD.shape[1] == 8
    with pytest.raises(UserError, match="all the same"):
        Whitening.learned(np.repeat(few_NF[:1], 9, 0), 8)


def test_features_are_taken_as_they_are_stored() -> None:
    stored = to_disk(torch.from_numpy(features()).bfloat16())
    plain = torch.from_numpy(features()).bfloat16().float().numpy()
    assert stored.dtype == np.int16
    np.testing.assert_array_equal(Whitening.learned(stored, 4).mean_F, Whitening.learned(plain, 4).mean_F)
