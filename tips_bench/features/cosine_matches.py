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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tips_bench.features.affinity import GROUP, NOTHING, Matches

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
    def coarse_nD(self) -> Tensor:
        """The keys for products that find candidates."""
        return self.unit_nD if self.middle_D is None else (self.unit_nD - self.middle_D).to(coarse_type())

    @cached_property
    def lengths(self) -> tuple[float, float]:
        """The greatest length of a key for coarse products, and of what rounding took from one."""
        if self.middle_D is None or not len(self.unit_nD):
            return 1.0, 0.0
        exact_nD = self.unit_nD - self.middle_D
        return float(exact_nD.norm(dim=1).max()), float((exact_nD - self.coarse_nD).norm(dim=1).max())


def key_blocks(blocks: Iterable[Tensor]) -> Iterator[KeyBlock]:
    """Keys [n,D] of length 1 and float32, ready for `cosine_matches`. Their middle is taken to be that of the first block."""
    middle_D = None
    for unit_nD in blocks:
        if middle_D is None and coarse_type() != torch.float32:
            middle_D = unit_nD.mean(0)
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
            torch.mm(unit_qD.to(space.dtype), block.coarse_nD.T, out=products_qn)
            best = Matches(found.similarities_Qk[queries], found.rows_Qk[queries])
            better = _better(unit_qD, block, first, best, products_qn)
            found.similarities_Qk[queries], found.rows_Qk[queries] = better.similarities_Qk, better.rows_Qk
        first += keys
    return found


def _better(unit_qD: Tensor, block: KeyBlock, first: int, best: Matches, products_qn: Tensor) -> Matches:
    """The best so far and those of a block, whose first row is `first`. products_qn: the coarse products."""
    query_P, key_P = _pairs(products_qn, _least(unit_qD, block, best.similarities_Qk, products_qn))
    counts_q = torch.bincount(query_P, minlength=len(unit_qD))
    starts_q = torch.cat([counts_q.new_zeros(1), counts_q.cumsum(0)])
    place_P = torch.arange(len(query_P)) - starts_q[query_P]
    near_qm = torch.full((len(unit_qD), int(counts_q.max())), -torch.inf)
    row_qm = torch.full(near_qm.shape, NOTHING)
    near_qm[query_P, place_P], row_qm[query_P, place_P] = _exact(unit_qD, block.unit_nD, starts_q, key_P), key_P + first
    near_qm, order_qm = torch.cat([best.similarities_Qk, near_qm], 1).sort(dim=1, descending=True, stable=True)
    k = best.rows_Qk.shape[1]
    return Matches(near_qm[:, :k], torch.cat([best.rows_Qk, row_qm], 1).gather(1, order_qm[:, :k]))


def _least(unit_qD: Tensor, block: KeyBlock, best_qk: Tensor, products_qn: Tensor) -> Tensor:
    """[q] of the type of products_qn: the least coarse product of a key that can be among the k nearest.

    best_qk: products so far, descending, minus infinity where there are fewer. A coarse product is off by no more than
    |q - q'| |x| + |q'| |x - x'|, beside rounding: of itself, and of up to three sums of D terms in float32. Such a sum, of vectors no
    longer than 2, is off by less than D 2^-23.
    """
    coarse_qD, (longest, lost) = unit_qD.to(products_qn.dtype).float(), block.lengths
    off_q = (unit_qD - coarse_qD).norm(dim=1) * longest + coarse_qD.norm(dim=1) * lost + 3 * unit_qD.shape[1] * 2.0**-23
    least_q, k = best_qk[:, -1], best_qk.shape[1]
    if block.middle_D is not None:
        least_q = least_q - unit_qD @ block.middle_D
    if (least_q == -torch.inf).any() and products_qn.shape[1] // GROUP >= k:  # the greatest of k groups are k keys
        sure_q = _lowered(_grouped(products_qn).amax(1).topk(k).values[:, -1]) - off_q
        least_q = torch.maximum(least_q, sure_q)
    return _lowered((least_q - off_q).to(products_qn.dtype)).to(products_qn.dtype)


def _lowered(value_q: Tensor) -> Tensor:
    """[q] float32: less the most that rounding to its type changes, whichever way it rounds."""
    return value_q.float() - value_q.float().abs() * torch.finfo(value_q.dtype).eps


def _grouped(products_qn: Tensor) -> Tensor:
    """[q,GROUP,g]: products in groups, less those that fill none."""
    groups = products_qn.shape[1] // GROUP
    return products_qn[:, : groups * GROUP].unflatten(1, (GROUP, groups))


def _pairs(products_qn: Tensor, least_q: Tensor) -> tuple[Tensor, Tensor]:
    """(queries_P, keys_P) of all products that reach the least one, in the order of queries, then of keys."""
    grouped_qGg, keys = _grouped(products_qn), products_qn.shape[1]
    groups = grouped_qGg.shape[2]
    query_P, group_P = (grouped_qGg.amax(1) >= least_q[:, None]).nonzero(as_tuple=True)
    which_P, member_P = (grouped_qGg[query_P, :, group_P] >= least_q[query_P, None]).nonzero(as_tuple=True)
    rest_P, column_P = (products_qn[:, groups * GROUP :] >= least_q[:, None]).nonzero(as_tuple=True)
    of_groups_P = query_P[which_P] * keys + member_P * groups + group_P[which_P]
    code_P = torch.cat([of_groups_P, rest_P * keys + column_P + groups * GROUP]).sort().values
    return code_P // keys, code_P % keys


def _exact(queries_qD: Tensor, keys_nD: Tensor, starts_q: Tensor, key_P: Tensor) -> Tensor:
    """[P]: the product of each pair in float32. starts_q: where the keys of each query begin in key_P, and their number."""
    with warnings.catch_warnings():  # that torch's sparse tensors may still change
        warnings.simplefilter("ignore", UserWarning)
        pairs = torch.sparse_csr_tensor(starts_q, key_P, torch.zeros(len(key_P)), (len(queries_qD), len(keys_nD)), check_invariants=False)
        return torch.sparse.sampled_addmm(pairs, queries_qD, keys_nD.T, beta=0.0).values()
