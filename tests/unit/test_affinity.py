"""Matches of patches: against the whole matrix in numpy, with ties, windows and blocks of every size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tips_bench.features import affinity
from tips_bench.features.affinity import NOTHING, grid_window, mutual, top_matches, unit, window_matches


def plain(products_QK: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and rows of the k greatest, the lower row first, by a sort of everything."""
    order_QK = np.argsort(-products_QK, axis=1, kind="stable")[:, :k]
    values_Qk = np.take_along_axis(products_QK, order_QK, 1)
    return values_Qk, np.where(values_Qk == -np.inf, NOTHING, order_QK)


@given(
    queries=st.integers(0, 7),
    keys=st.integers(0, 60),
    k=st.integers(1, 12),
    key_rows=st.integers(1, 9),
    block=st.integers(1, 60),
    group=st.integers(1, 4),
    windowed=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_matches_are_those_of_the_whole_matrix_with_ties_in_order(
    queries: int, keys: int, k: int, key_rows: int, block: int, group: int, windowed: bool, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    queries_QD, keys_KD = draw.integers(-1, 2, (queries, 3)), draw.integers(-1, 2, (keys, 3))  # whole numbers: many ties
    allowed_QK = draw.random((queries, keys)) < 0.4 if windowed else np.ones((queries, keys), bool)
    values_Qk, rows_Qk = plain(np.where(allowed_QK, queries_QD @ keys_KD.T, -np.inf), k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(affinity, "KEY_ROWS", key_rows)
        patch.setattr(affinity, "GROUP", group)
        patch.setattr(affinity, "BLOCK_VALUES", block)
        found = top_matches(
            torch.tensor(queries_QD, dtype=torch.float32),
            torch.tensor(keys_KD, dtype=torch.float32),
            k,
            allowed=(lambda q, n: torch.from_numpy(allowed_QK)[q][:, n]) if windowed else None,
        )
    assert found.rows_Qk.shape == (queries, k)
    np.testing.assert_array_equal(found.rows_Qk[:, : rows_Qk.shape[1]], rows_Qk)
    np.testing.assert_array_equal(found.similarities_Qk[:, : rows_Qk.shape[1]], values_Qk)
    assert (found.rows_Qk[:, rows_Qk.shape[1] :] == NOTHING).all()


def test_keys_may_come_in_blocks_and_in_half_precision() -> None:
    keys_KD = torch.randn(50, 8).bfloat16()
    queries_QD = torch.randn(9, 8)
    whole, parts = top_matches(queries_QD, keys_KD, 3), top_matches(queries_QD, iter(keys_KD.split(7)), 3)
    assert torch.equal(whole.rows_Qk, parts.rows_Qk)


def test_a_unit_feature_has_length_one_and_zero_stays_zero() -> None:
    assert torch.allclose(unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]])), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_a_match_is_mutual_if_each_is_the_others_nearest() -> None:
    assert mutual(torch.tensor([1, 0, NOTHING, 1]), torch.tensor([1, 3])).tolist() == [False, True, False, True]


@pytest.mark.parametrize("shape", ["square", "circle"])
def test_a_window_admits_the_patches_within_its_radius_in_every_frame(shape: str) -> None:
    height, width, frames, radius = 5, 7, 3, 2
    allowed_QK = grid_window((height, width), radius, shape)(torch.arange(height * width), torch.arange(frames * height * width))
    for query in range(height * width):
        for key in range(frames * height * width):
            down, right = query // width - key % (height * width) // width, query % width - key % width
            near = down**2 + right**2 <= radius**2 if shape == "circle" else max(abs(down), abs(right)) <= radius
            assert allowed_QK[query, key] == near


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    frames=st.integers(1, 3),
    k=st.integers(1, 8),
    radius=st.sampled_from([0.0, 1.0, 1.5, 2.0, 20.0]),
    shape=st.sampled_from(["square", "circle"]),
    tile=st.integers(1, 5),
    group=st.integers(1, 4),
    block=st.integers(1, 200),
    seed=st.integers(0, 2**16),
)
def test_matches_in_a_window_are_those_of_all_keys_with_a_window_laid_over(
    height: int, width: int, frames: int, k: int, radius: float, shape: str, tile: int, group: int, block: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    queries_hwD, keys_ThwD = (
        torch.tensor(draw.integers(-1, 2, (*size, height, width, 3)), dtype=torch.float32) for size in ((), (frames,))
    )
    whole = top_matches(queries_hwD.flatten(0, 1), keys_ThwD.flatten(0, 2), k, allowed=grid_window((height, width), radius, shape))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(affinity, "TILE", tile)
        patch.setattr(affinity, "GROUP", group)
        patch.setattr(affinity, "BLOCK_VALUES", block)
        near = window_matches(queries_hwD, keys_ThwD, k, radius, shape)
    assert torch.equal(near.rows_Qk, whole.rows_Qk) and torch.equal(near.similarities_Qk, whole.similarities_Qk)
