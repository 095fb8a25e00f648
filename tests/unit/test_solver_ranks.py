"""The convex probes' solver gives the same bits for any number of ranks, each of which looks at its own part of the patches alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.rank_threads import by_ranks
from tips_bench.probes.solved.patches import CHUNK_ROWS, LEAST_ROWS, Patches, _lanes
from tips_bench.probes.solved.softmax_regression import SoftmaxRegression, Solution
from tips_bench.ranks import ALONE, LANES, World

ROWS = 9 * LEAST_ROWS + 5


def arrays(rows: int = ROWS, dim: int = 6, classes: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    counts_NC = random.multinomial(196, random.dirichlet(np.ones(classes) * 0.3, rows)).astype(np.uint16)
    features_ND = random.normal(size=(rows, dim)) + counts_NC[:, :1] / 196
    return {"features": features_ND.astype(np.float32), "counts": counts_NC, "area": np.full(rows, 196, np.uint32)}


def solved(world: World, rows: int = ROWS, resident: int = 10**9) -> list[Solution]:
    regression = SoftmaxRegression(Patches(arrays(rows), np.arange(rows), torch.device("cpu"), resident, world))
    near = regression.solve(1e-3, 1e-4, 100)
    return [near, regression.solve(1e-3, 1e-6, 100, (near.weight_KD, near.bias_K), torch.float64)]


def bits(solutions: list[Solution]) -> list[Any]:
    plain = [(one.loss, one.gradient, one.iterations, one.converged) for one in solutions]
    return [*plain, *(tensor.numpy().tobytes() for one in solutions for tensor in (one.weight_KD, one.bias_K))]


@pytest.mark.parametrize("resident", [10**9, 0], ids=["in memory", "from disk"])
@pytest.mark.parametrize("ranks", [2, 3, 9])
def test_any_number_of_ranks_finds_the_same_bits(ranks: int, resident: int) -> None:
    alone = solved(ALONE)
    assert alone[1].converged and alone[0].iterations > 2
    for found in by_ranks(ranks, lambda world: solved(world, resident=resident)):
        assert bits(found) == bits(alone)


def test_more_ranks_than_chunks_find_the_same_bits() -> None:
    alone = solved(ALONE, rows=200)
    assert all(bits(found) == bits(alone) for found in by_ranks(3, lambda world: solved(world, rows=200)))


def test_a_rank_sees_its_own_part_of_the_patches() -> None:
    def seen(world: World) -> int:
        own: list[int] = []

        def count(features_ND: torch.Tensor, shares_NC: torch.Tensor) -> torch.Tensor:
            own.append(len(features_ND))
            return torch.tensor([float(len(features_ND))], dtype=torch.float64)

        patches = Patches(arrays(), np.arange(ROWS), torch.device("cpu"), 0, world)
        assert patches.sums(1, count).tolist() == [ROWS]
        return sum(own)

    assert sum(by_ranks(2, seen)) == ROWS and max(by_ranks(2, seen)) < 0.6 * ROWS


@pytest.mark.parametrize("rows", [1, LEAST_ROWS, 61_440, 8 * CHUNK_ROWS, 8 * CHUNK_ROWS + 1, 2_000_000])
def test_lanes_hold_all_rows_in_their_order_in_chunks_of_nearly_one_size(rows: int) -> None:
    lanes = _lanes(np.arange(rows))
    chunks = [chunk for lane in lanes for chunk in lane]
    assert len(lanes) == LANES and np.array_equal(np.concatenate(chunks), np.arange(rows))
    assert max(map(len, chunks)) <= CHUNK_ROWS
    sizes = [sum(map(len, lane)) for lane in lanes]
    if rows >= 8 * LEAST_ROWS:
        assert max(sizes) - min(sizes) < 0.02 * max(sizes)
