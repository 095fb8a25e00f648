"""Matches by cosine: those of float32 products, whatever finds the candidates, with ties, alike keys and blocks of every size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tips_bench.features import affinity
from tips_bench.features import cosine_matches as module
from tips_bench.features.affinity import NOTHING, Matches, unit, window_matches
from tips_bench.features.cosine_matches import KeyBlock, cosine_matches, key_blocks, middle_of, window_cosines

COARSE = [torch.float32, torch.bfloat16]


def matches(
    queries_QD: torch.Tensor, keys_ND: torch.Tensor, k: int, coarse: torch.dtype, rows: int = 64, block: int = module.PRODUCTS
) -> Matches:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "coarse_type", lambda: coarse)
        patch.setattr(module, "PRODUCTS", block)
        return cosine_matches(unit(queries_QD), key_blocks(unit(keys_ND).split(rows)), k)


def assert_nearest(found: Matches, queries_QD: torch.Tensor, keys_ND: torch.Tensor, k: int) -> None:
    """That rows are named once, products are descending and those of their rows, and no other key is nearer than the last."""
    near_QN = (unit(queries_QD).double() @ unit(keys_ND).double().T).numpy()
    there_Qk, rows_Qk = found.rows_Qk.numpy() != NOTHING, found.rows_Qk.numpy()
    assert (there_Qk.sum(1) == min(k, len(keys_ND))).all()
    for near_N, rows_k, there_k, found_k in zip(near_QN, rows_Qk, there_Qk, found.similarities_Qk.numpy(), strict=True):
        rows = rows_k[there_k]
        assert len(set(rows)) == len(rows)
        np.testing.assert_allclose(found_k[there_k], near_N[rows], atol=1e-6)
        assert (np.diff(found_k[there_k]) <= 0).all()
        assert np.delete(near_N, rows).max(initial=-np.inf) <= near_N[rows].min(initial=np.inf) + 1e-6


@settings(max_examples=60, deadline=None)
@given(
    queries=st.integers(0, 6),
    keys=st.integers(1, 90),
    dim=st.integers(1, 9),
    k=st.integers(1, 12),
    rows=st.integers(5, 70),
    block=st.integers(20, 300),
    alike=st.sampled_from([0.0, 1.0, 1000.0]),
    coarse=st.sampled_from(COARSE),
    seed=st.integers(0, 2**16),
)
def test_matches_are_the_nearest_whatever_the_blocks_and_the_spread_of_keys(
    queries: int, keys: int, dim: int, k: int, rows: int, block: int, alike: float, coarse: torch.dtype, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    queries_QD, keys_ND = (torch.randn(number, dim, generator=draw) + alike for number in (queries, keys))
    found = matches(queries_QD, keys_ND, k, coarse, rows, block)
    assert found.rows_Qk.shape == (queries, k)
    assert_nearest(found, queries_QD, keys_ND, k)


@pytest.mark.parametrize("coarse", COARSE)
def test_of_equal_keys_the_lower_rows_are_found(coarse: torch.dtype) -> None:
    keys_ND = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).repeat(40, 1)
    found = matches(keys_ND[:5], keys_ND, 7, coarse)
    for query in range(5):
        assert found.rows_Qk[query].tolist() == list(range(query, 35, 5))


def test_bfloat16_and_the_size_of_blocks_change_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    queries_QD, keys_ND = torch.randn(50, 48, generator=draw), torch.randn(3000, 48, generator=draw)
    wanted = matches(queries_QD, keys_ND, 30, torch.float32, 3000)
    for coarse, rows, block in [(torch.bfloat16, 3000, module.PRODUCTS), (torch.bfloat16, 700, 9000), (torch.float32, 64, module.PRODUCTS)]:
        found = matches(queries_QD, keys_ND, 30, coarse, rows, block)
        assert torch.equal(found.rows_Qk, wanted.rows_Qk)
        assert torch.equal(found.similarities_Qk, wanted.similarities_Qk)


def test_few_keys_are_multiplied_twice() -> None:
    """Of keys that are nearly the same, too, for they are rounded as differences from their middle."""
    draw = torch.Generator().manual_seed(0)
    keys_ND = unit(torch.randn(4096, 64, generator=draw) + 20)
    (block,) = key_blocks([keys_ND])
    if block.middle_D is None:
        pytest.skip("this processor does not multiply bfloat16")
    longest, lost = block.lengths
    assert longest < 0.1
    assert lost < longest / 256


@settings(max_examples=40, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    frames=st.integers(1, 4),
    k=st.integers(1, 8),
    radius=st.sampled_from([0.0, 1.5, 2.0, 20.0]),
    shape=st.sampled_from(["square", "circle"]),
    alike=st.sampled_from([0.0, 1.0, 1000.0]),
    coarse=st.sampled_from(COARSE),
    tile=st.integers(1, 5),
    seed=st.integers(0, 2**16),
)
def test_matches_in_a_window_are_those_of_float32(
    grid: tuple[int, int], frames: int, k: int, radius: float, shape: str, alike: float, coarse: torch.dtype, tile: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    queries_hwD, keys_ThwD = (unit(torch.randn(*size, *grid, 6, generator=draw) + alike) for size in ((), (frames,)))
    keys_ThwD = torch.cat([keys_ThwD, keys_ThwD[:1]])  # equal keys
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "coarse_type", lambda: coarse)
        patch.setattr(affinity, "TILE", tile)
        keys = [frame_hwD.flatten(0, 1) for frame_hwD in keys_ThwD]
        found = window_cosines(queries_hwD, [KeyBlock(unit_nD, middle_of(keys[0])) for unit_nD in keys], k, radius, shape)
        wanted = window_matches(queries_hwD, keys_ThwD, k, radius, shape)
    near_QN = (queries_hwD.flatten(0, 1).double() @ torch.cat(keys).double().T).numpy()
    there_Qk = wanted.rows_Qk.numpy() != NOTHING
    np.testing.assert_array_equal(found.rows_Qk.numpy() != NOTHING, there_Qk)
    np.testing.assert_allclose(found.similarities_Qk, wanted.similarities_Qk, atol=1e-6)
    for near_N, rows_k, there_k, wanted_k in zip(near_QN, found.rows_Qk.numpy(), there_Qk, wanted.similarities_Qk.numpy(), strict=True):
        assert len(set(rows_k[there_k])) == there_k.sum()
        np.testing.assert_allclose(near_N[rows_k[there_k]], wanted_k[there_k], atol=1e-6)
    if coarse == torch.bfloat16:  # a pair has one product, wherever its key is; one of a matrix may round otherwise
        equal_Qk = there_Qk & (found.rows_Qk.numpy() >= frames * grid[0] * grid[1])  # of two equal keys the first comes first
        for query, place in zip(*np.nonzero(equal_Qk), strict=True):
            assert found.rows_Qk[query, place] - frames * grid[0] * grid[1] in found.rows_Qk[query, :place]
