"""How patches spread, against numpy's singular values of the patches themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tips_bench.probes.solved.feature_spread import spread


def of(patches_ND: np.ndarray) -> dict[str, float]:
    mean_D = patches_ND.mean(0)
    return spread(torch.from_numpy(mean_D), torch.from_numpy(np.cov(patches_ND, rowvar=False, bias=True)))


def plain(patches_ND: np.ndarray) -> dict[str, float]:
    """From the patches, by the definitions."""
    mean_D = patches_ND.mean(0)
    singular = np.linalg.svd(patches_ND - mean_D, compute_uv=False)
    share = singular / singular.sum()
    share = share[share > 1e-3]
    return {
        "common_share": float((mean_D**2).sum() / (patches_ND**2).sum(1).mean()),
        "effective_rank": float(np.exp(-(share * np.log(share)).sum())),
    }


@given(st.integers(0, 1000), st.integers(1, 12), st.floats(0, 20))
def test_spread_is_that_of_the_patches(seed: int, rank: int, shift: float) -> None:
    random = np.random.default_rng(seed)
    patches_ND = random.normal(size=(200, rank)) @ np.linalg.qr(random.normal(size=(12, rank)))[0].T + shift * random.normal(size=12)
    assert of(patches_ND) == pytest.approx(plain(patches_ND), rel=1e-6)


def test_directions_that_weigh_the_same_count_one_each() -> None:
    corners = np.concatenate([np.eye(5), -np.eye(5)])
    assert of(corners) == pytest.approx({"common_share": 0.0, "effective_rank": 5.0}, abs=1e-9)


def test_a_vector_that_all_share_shows_in_the_share_alone() -> None:
    patches_ND = np.random.default_rng(0).normal(size=(500, 8))
    far = of(patches_ND + 100)
    assert far["common_share"] > 0.999 and far["effective_rank"] == pytest.approx(of(patches_ND)["effective_rank"], rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_equal_patches_have_no_rank(value: float) -> None:
    found = of(np.full((10, 4), value))
    assert found == {"common_share": float(value > 0), "effective_rank": 0.0}
