"""The keys of the greatest cosine with each query, in blocks: found by products in bfloat16, put in order by products in float32.

A processor that multiplies bfloat16 needs half the time of float32 for it, or less. Such products are off by no more than a bound that
follows from what rounding took from the vectors. A key whose product is below the k-th greatest by more than that is not among the k
nearest. The few others are multiplied with the query once more, in float32 and pair by pair, and only these products decide. So the
matches are those of float32, for every size of block, and a processor without bfloat16 finds the same.

Keys are rounded as differences from a vector in their middle. A query's product with that vector is the same for all keys, and shorter
vectors lose less. That matters where all features of an encoder are alike.

Axes: Q queries, N keys, D feature, k matches of a query, P pairs of a query and a key; small letters q and n: of a block.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tips_bench.features.affinity import GROUP, NOTHING, Matches, Tile, Window, by_tiles, greatest, window_matches

PRODUCTS = 1 << 22  # at once, and so the most pairs that are multiplied twice at once, where all keys are the same


def coarse_type() -> torch.dtype:
    """Of the products that find candidates: bfloat16 where the processor multiplies it faster than float32."""
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast and torch.backends.mkldnn.is_available() else torch.float32


@dataclass(frozen=True)
class KeyBlock:
    """unit_nD: keys of length 1, float32, on a CPU. middle_D: what is taken from them before they are rounded; None = they are not."""

    unit_nD: Tensor
    middle_D: Tensor | None

    @cached_property
    def coarse_nE(self) -> Tensor:
        """The keys for products with `coarse_queries`."""
        if self.middle_D is None:
            return self.unit_nD
        away_nD = self.unit_nD - self.middle_D
        return torch.cat([away_nD.to(coarse_type()), _halves(away_nD @ self.middle_D)], 1)

    @cached_property
    def lengths(self) -> tuple[float, float]:
        """The greatest length of a key for coarse products, and of what rounding took from one."""
        if self.middle_D is None or not len(self.unit_nD):
            return 1.0, 0.0
        away_nD = self.unit_nD - self.middle_D
        return float(away_nD.norm(dim=1).max()), float((away_nD - away_nD.to(coarse_type())).norm(dim=1).max())

    @cached_property
    def apart(self) -> float:
        """The most that rounding took from a key's product with the middle."""
        if self.middle_D is None or not len(self.unit_nD):
            return 0.0
        with_middle_n = (self.unit_nD - self.middle_D) @ self.middle_D
        return float((with_middle_n - _halves(with_middle_n).float().sum(1)).abs().max())


def _halves(value_n: Tensor) -> Tensor:
    """[n,2] of the coarse type, whose sums are the values but for a little."""
    high_n = value_n.to(coarse_type())
    return torch.stack([high_n, (value_n - high_n).to(coarse_type())], 1)


def coarse_queries(unit_qD: Tensor, middle_D: Tensor | None) -> Tensor:
    """[q,E]: products with coarse keys x are (q - middle) (x - middle) + middle (x - middle) = q x - q middle."""
    if middle_D is None:
        return unit_qD
    return torch.cat([(unit_qD - middle_D).to(coarse_type()), torch.ones(len(unit_qD), 2, dtype=coarse_type())], 1)


def middle_of(unit_nD: Tensor) -> Tensor | None:
    """What to take from keys of length 1 before they are rounded; None where they are not to be."""
    rounded = unit_nD.device.type == "cpu" and unit_nD.dtype == torch.float32 and coarse_type() != torch.float32
    return unit_nD.mean(0) if rounded else None


def key_blocks(blocks: Iterable[Tensor]) -> Iterator[KeyBlock]:
    """Keys [n,D] of length 1 and float32, ready for `cosine_matches`. Their middle is taken to be that of the first block."""
    middle_D = None
    for unit_nD in blocks:
        middle_D = middle_of(unit_nD) if middle_D is None else middle_D
        yield KeyBlock(unit_nD, middle_D)


def cosine_matches(unit_QD: Tensor, blocks: Iterable[KeyBlock], k: int) -> Matches:
    """The k keys of the greatest product with each query, of equal ones the lower row. unit_QD: float32, of length 1 or 0, on a CPU."""
    found = Matches(torch.full((len(unit_QD), k), -torch.inf), torch.full((len(unit_QD), k), NOTHING))
    first, space = 0, torch.empty(0, dtype=coarse_type())
    for block in blocks:
        keys = len(block.unit_nD)
        step = min(len(unit_QD), max(1, PRODUCTS // max(1, keys)))
        if len(space) < step * keys:  # made once: to get memory from the system for each block takes as long as the products
            space = space.new_empty(step * keys)
        for queries in (slice(start, start + step) for start in range(0, len(unit_QD), max(1, step))):
            unit_qD = unit_QD[queries]
            products_qn = space[: len(unit_qD) * keys].view(len(unit_qD), keys)
            torch.mm(coarse_queries(unit_qD, block.middle_D), block.coarse_nE.T, out=products_qn)
            best = Matches(found.similarities_Qk[queries], found.rows_Qk[queries])
            better = _better(unit_qD, block, first, best, products_qn)
            found.similarities_Qk[queries], found.rows_Qk[queries] = better.similarities_Qk, better.rows_Qk
        first += keys
    return found


def window_cosines(unit_hwD: Tensor, frames: Sequence[KeyBlock], k: int, radius: float, shape: Window) -> Matches:
    """As `window_matches`, of features of length 1 or 0. frames: the keys of each, which have one middle."""
    grid, middle_D = (unit_hwD.shape[0], unit_hwD.shape[1]), frames[0].middle_D
    if middle_D is None:
        return window_matches(unit_hwD, torch.stack([frame.unit_nD for frame in frames]).unflatten(1, grid), k, radius, shape)
    keys_KD = torch.cat([frame.unit_nD for frame in frames])
    longest, lost, apart = (max(parts) for parts in zip(*((*frame.lengths, frame.apart) for frame in frames), strict=True))
    coarse = [frame.coarse_nE.unflatten(0, grid) for frame in frames]

    def of_tile(tile: Tile, rows_n: Tensor) -> Matches:
        unit_qD = unit_hwD[tile.queries].flatten(0, 1)
        coarse_nE = torch.stack([coarse_hwE[tile.box] for coarse_hwE in coarse]).flatten(0, 2)
        products_qn = coarse_queries(unit_qD, middle_D) @ coarse_nE.T
        products_qn.unflatten(1, (len(frames), -1)).masked_fill_(~tile.near_Qm[:, None], -torch.inf)
        none = Matches(unit_qD.new_full((len(unit_qD), k), -torch.inf), torch.full((len(unit_qD), k), NOTHING))
        maxima_qg = _maxima(products_qn)
        least_q = _least(unit_qD, middle_D, (longest, lost), apart, none.similarities_Qk, maxima_qg)
        query_P, key_P = _pairs(products_qn, maxima_qg, least_q)
        return _ranked(unit_qD, keys_KD, 0, none, query_P, rows_n[key_P])

    return by_tiles(unit_hwD, len(frames), k, radius, shape, of_tile)


def _better(unit_qD: Tensor, block: KeyBlock, first: int, best: Matches, products_qn: Tensor) -> Matches:
    """The best so far and those of a block, whose first row is `first`. products_qn: the coarse products."""
    maxima_qg = _maxima(products_qn)
    least_q = _least(unit_qD, block.middle_D, block.lengths, block.apart, best.similarities_Qk, maxima_qg)
    query_P, key_P = _pairs(products_qn, maxima_qg, least_q)
    return _ranked(unit_qD, block.unit_nD, first, best, query_P, key_P)


def _ranked(unit_qD: Tensor, keys_nD: Tensor, first: int, best: Matches, query_P: Tensor, key_P: Tensor) -> Matches:
    """The best so far and the pairs, which are in the order of queries, then of keys, by products in float32."""
    counts_q = torch.bincount(query_P, minlength=len(unit_qD))
    starts_q = torch.cat([counts_q.new_zeros(1), counts_q.cumsum(0)])
    place_P = torch.arange(len(query_P)) - starts_q[query_P]
    near_qm = torch.full((len(unit_qD), int(counts_q.max())), -torch.inf)
    row_qm = torch.full(near_qm.shape, NOTHING)
    near_qm[query_P, place_P], row_qm[query_P, place_P] = _exact(unit_qD, keys_nD, starts_q, key_P), key_P + first
    near_qm, row_qm = torch.cat([best.similarities_Qk, near_qm], 1), torch.cat([best.rows_Qk, row_qm], 1)
    found = greatest(near_qm, torch.arange(near_qm.shape[1]), best.rows_Qk.shape[1])
    rows_qk = row_qm.gather(1, found.rows_Qk.clamp(min=0))
    return Matches(found.similarities_Qk, rows_qk.masked_fill(found.rows_Qk == NOTHING, NOTHING))


def _least(
    unit_qD: Tensor, middle_D: Tensor | None, lengths: tuple[float, float], apart: float, best_qk: Tensor, maxima_qg: Tensor
) -> Tensor:
    """[q] of the type of coarse products: the least one of a key that can be among the k nearest.

    middle_D, lengths, apart: of the keys. best_qk: products so far, descending, minus infinity where there are fewer. maxima_qg: coarse
    products of g keys. With q and x less the middle, a coarse product is off by no more than |q - q'| |x| + |q'| |x - x'| + apart, beside
    rounding: of itself, and of sums of D terms in float32, each off by less than D 2^-24 times the lengths of both vectors.
    """
    dim, away_qD = unit_qD.shape[1], unit_qD if middle_D is None else unit_qD - middle_D
    coarse_qD = away_qD.to(maxima_qg.dtype).float()
    length_q, (longest, lost) = coarse_qD.norm(dim=1), lengths
    sums_q = (2 + (length_q + 2) * longest) * (dim + 2) * 2.0**-24
    off_q = (away_qD - coarse_qD).norm(dim=1) * longest + length_q * lost + apart + sums_q
    least_q, k = best_qk[:, -1], best_qk.shape[1]
    if middle_D is not None:
        least_q = least_q - unit_qD @ middle_D
    if (least_q == -torch.inf).any() and maxima_qg.shape[1] >= k:
        least_q = torch.maximum(least_q, _lowered(maxima_qg.topk(k).values[:, -1]) - off_q)
    least_q = _lowered((least_q - off_q).to(maxima_qg.dtype)).to(maxima_qg.dtype)
    return least_q.clamp(min=torch.finfo(least_q.dtype).min)  # products of minus infinity are of pairs that may not match


def _lowered(value_q: Tensor) -> Tensor:
    """[q] float32: less the most that rounding to its type changes, whichever way it rounds."""
    return value_q.float() - value_q.float().abs() * torch.finfo(value_q.dtype).eps


def _grouped(products_qn: Tensor) -> Tensor:
    """[q,GROUP,g]: products in groups, less those that fill none."""
    groups = products_qn.shape[1] // GROUP
    return products_qn[:, : groups * GROUP].unflatten(1, (GROUP, groups))


def _maxima(products_qn: Tensor) -> Tensor:
    """[q,g]: the greatest of each group. In bfloat16, if it is not positive, any of the group."""
    grouped_qGg = _grouped(products_qn)
    if products_qn.dtype != torch.bfloat16:
        return grouped_qGg.amax(1)
    return grouped_qGg.view(torch.int16).amax(1).view(torch.bfloat16)  # positive numbers have the order of their bits: a sixth of the time


def _pairs(products_qn: Tensor, maxima_qg: Tensor, least_q: Tensor) -> tuple[Tensor, Tensor]:
    """(queries_P, keys_P) of all products that reach the least one, in the order of queries, then of keys."""
    grouped_qGg, keys, groups = _grouped(products_qn), products_qn.shape[1], maxima_qg.shape[1]
    low_q = least_q <= 0
    if low_q.any():
        maxima_qg[low_q] = grouped_qGg[low_q].amax(1)
    query_P, group_P = (maxima_qg >= least_q[:, None]).nonzero(as_tuple=True)
    which_P, member_P = (grouped_qGg[query_P, :, group_P] >= least_q[query_P, None]).nonzero(as_tuple=True)
    rest_P, column_P = (products_qn[:, groups * GROUP :] >= least_q[:, None]).nonzero(as_tuple=True)
    of_groups_P = query_P[which_P] * keys + member_P * groups + group_P[which_P]
    code_P = torch.from_numpy(np.sort(torch.cat([of_groups_P, rest_P * keys + column_P + groups * GROUP]).numpy()))
    return code_P // keys, code_P % keys


def _exact(queries_qD: Tensor, keys_nD: Tensor, starts_q: Tensor, key_P: Tensor) -> Tensor:
    """[P]: the product of each pair in float32. starts_q: where the keys of each query begin in key_P, and their number."""
    with warnings.catch_warnings():  # that torch's sparse tensors may still change
        warnings.simplefilter("ignore", UserWarning)
        pairs = torch.sparse_csr_tensor(starts_q, key_P, torch.zeros(len(key_P)), (len(queries_qD), len(keys_nD)), check_invariants=False)
        return torch.sparse.sampled_addmm(pairs, queries_qD, keys_nD.T, beta=0.0).values()
