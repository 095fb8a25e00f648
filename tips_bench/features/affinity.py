"""Affinities of patches: which features of one set are nearest to those of another, in blocks of bounded memory.

Whatever matches patches rests on this: keypoints, labels that follow a video, a memory of labelled patches. A block of products is made,
its greatest are kept, and the block is forgotten; the whole matrix queries x keys never exists. What is found does not depend on how keys
are cut into blocks, as long as the products themselves do not: of equal products the lower row comes first.

Axes: Q queries, K keys, D feature, k matches of a query, T frames, h w a grid of patches; small letters q and n: a block of queries and of
keys.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

KEY_ROWS = 1 << 14  # keys of a block
BLOCK_VALUES = 1 << 24  # products of a block: 64 MB in float32
GROUP = 16  # keys whose maximum stands for them in a first look
TILE = 20  # patches a side, at most, of a square of queries that share their keys
NOTHING = -1  # the row of a match that is not there

Allowed = Callable[[Tensor, Tensor], Tensor]
Window = Literal["square", "circle"]


@dataclass(frozen=True)
class Matches:
    """similarities_Qk: products, descending, minus infinity where a query has fewer. rows_Qk: int64 rows of the keys, NOTHING there."""

    similarities_Qk: Tensor
    rows_Qk: Tensor


def unit(features: Tensor) -> Tensor:
    """Features [..., D] at length 1, in float32 at least; zero stays zero. Products of two such are cosines."""
    return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)


def top_matches(queries_QD: Tensor, keys: Tensor | Iterable[Tensor], k: int, *, allowed: Allowed | None = None) -> Matches:
    """The k keys of the greatest product with each query.

    keys: [K,D], or blocks [n,D] of them in their order, as they are read from a disk; they may be of another dtype or device. allowed:
    (rows of queries [q], rows of keys [n]) -> bool [q,n], which pairs may match; None = all.
    """
    best = Matches(queries_QD.new_full((len(queries_QD), 0), -torch.inf), torch.empty(len(queries_QD), 0, dtype=torch.int64))
    best = Matches(best.similarities_Qk, best.rows_Qk.to(queries_QD.device))
    first = 0
    for keys_nD in _blocks(keys):
        rows_n = torch.arange(first, first + len(keys_nD), device=queries_QD.device)
        found = _block(queries_QD, keys_nD.to(queries_QD), rows_n, k, allowed)
        best, first = _merge(best, found, k), first + len(keys_nD)
    return _filled(best, k)


def mutual(rows_Q: Tensor, back_K: Tensor) -> Tensor:
    """bool [Q]: whether a query is the nearest of its own nearest key. rows_Q: that key. back_K: the query nearest to each key."""
    there_Q = rows_Q != NOTHING
    return there_Q & (back_K[rows_Q.clamp(min=0)] == torch.arange(len(rows_Q), device=rows_Q.device))


def grid_window(grid_hw: tuple[int, int], radius: float, shape: Window) -> Allowed:
    """Pairs of patches that lie within `radius` patches of each other, the bound included, on maps of one size.

    Rows count patches line by line; keys may be the maps of several frames, one after the other.
    """
    height, width = grid_hw

    def allowed(queries_q: Tensor, keys_n: Tensor) -> Tensor:
        down_qn = (queries_q // width % height)[:, None] - (keys_n // width % height)
        right_qn = (queries_q % width)[:, None] - (keys_n % width)
        return _within(down_qn, right_qn, radius, shape)

    return allowed


def _within(down_x: Tensor, right_x: Tensor, radius: float, shape: Window) -> Tensor:
    """bool, of the shape that both give together: whether patches so far apart are in the window."""
    if shape == "circle":
        return down_x.square() + right_x.square() <= radius**2
    return (down_x.abs() <= radius) & (right_x.abs() <= radius)


def window_matches(queries_hwD: Tensor, keys_ThwD: Tensor, k: int, radius: float, shape: Window) -> Matches:
    """As `top_matches` with `grid_window`, of the patches of one map among those of several frames, which are rows one after the other.

    Only products of patches near each other are made: those of a tile of queries with the rectangle that its windows lie in.
    """

    def of_tile(tile: Tile, rows_n: Tensor) -> Matches:
        frames, keys_nD = len(keys_ThwD), keys_ThwD[:, *tile.box].flatten(0, 2)
        barred_Qm = torch.where(tile.near_Qm, 0.0, -torch.inf).to(queries_hwD)
        parts, size = [], max(1, BLOCK_VALUES // len(rows_n))
        for queries_qD, barred_qm in zip(queries_hwD[tile.queries].flatten(0, 1).split(size), barred_Qm.split(size), strict=True):
            products_qn = queries_qD @ keys_nD.T
            products_qn.unflatten(1, (frames, -1)).add_(barred_qm[:, None])
            parts.append(greatest(products_qn, rows_n, k))
        return _filled(_below_each_other(parts), k)

    return by_tiles(queries_hwD, len(keys_ThwD), k, radius, shape, of_tile)


@dataclass(frozen=True)
class Tile:
    """A square of queries, the box of patches that their windows lie in, and near_Qm, bool: which of them are in the window of each."""

    queries: tuple[slice, slice]
    box: tuple[slice, slice]
    near_Qm: Tensor


@lru_cache(maxsize=2)
def tiles(grid: tuple[int, int], radius: float, shape: Window, side: int) -> tuple[Tile, ...]:
    """A map in tiles of so many patches a side at most."""
    found = []
    for queries in itertools.product(_parts(grid[0], side), _parts(grid[1], side)):
        box = _around(queries[0], radius, grid[0]), _around(queries[1], radius, grid[1])
        found.append(Tile(queries, box, _inside(queries, box, radius, shape)))
    return tuple(found)


def by_tiles(queries_hwD: Tensor, frames: int, k: int, radius: float, shape: Window, of_tile: Callable[[Tile, Tensor], Matches]) -> Matches:
    """The matches of a whole map. of_tile: those of a tile, among the patches whose rows [n] it is given."""
    height, width = queries_hwD.shape[:2]
    rows_Thw = torch.arange(frames * height * width, device=queries_hwD.device).view(frames, height, width)
    values_hwk = queries_hwD.new_empty(height, width, k)
    found_hwk = rows_Thw.new_empty(height, width, k)
    for tile in tiles((height, width), radius, shape, TILE):
        found = of_tile(tile, rows_Thw[:, *tile.box].flatten())
        values_hwk[tile.queries] = found.similarities_Qk.unflatten(0, values_hwk[tile.queries].shape[:2])
        found_hwk[tile.queries] = found.rows_Qk.unflatten(0, found_hwk[tile.queries].shape[:2])
    return Matches(values_hwk.flatten(0, 1), found_hwk.flatten(0, 1))


def _parts(side: int, most: int) -> list[slice]:
    """One axis in parts of so many patches at most, as even as they can be."""
    number = -(-side // most)
    bounds = [part * side // number for part in range(number + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def _around(part: slice, radius: float, side: int) -> slice:
    """The patches of one axis that the windows of a part of it reach."""
    return slice(max(0, math.ceil(part.start - radius)), min(side, math.floor(part.stop - 1 + radius) + 1))


def _inside(tile: tuple[slice, slice], box: tuple[slice, slice], radius: float, shape: Window) -> Tensor:
    """bool [q,m]: which patches of a box lie in the windows of the patches of a tile."""
    down, right = (
        torch.arange(own.start, own.stop)[:, None] - torch.arange(reach.start, reach.stop) for own, reach in zip(tile, box, strict=True)
    )
    return _within(down[:, None, :, None], right[None, :, None, :], radius, shape).flatten(2).flatten(0, 1)


def _blocks(keys: Tensor | Iterable[Tensor]) -> Iterator[Tensor]:
    for part in (keys,) if isinstance(keys, Tensor) else keys:
        yield from part.split(KEY_ROWS)


def _block(queries_QD: Tensor, keys_nD: Tensor, rows_n: Tensor, k: int, allowed: Allowed | None) -> Matches:
    """The best of one block of keys for every query."""
    parts, first = [], 0
    for queries_qD in queries_QD.split(max(1, BLOCK_VALUES // max(1, len(keys_nD)))):
        products_qn = queries_qD @ keys_nD.T
        if allowed is not None:
            rows_q = torch.arange(first, first + len(queries_qD), device=queries_qD.device)
            products_qn.masked_fill_(~allowed(rows_q, rows_n), -torch.inf)
        parts.append(greatest(products_qn, rows_n, k))
        first += len(queries_qD)
    return _below_each_other(parts)


def _below_each_other(parts: list[Matches]) -> Matches:
    """The matches of blocks of queries, one after the other."""
    return Matches(torch.cat([part.similarities_Qk for part in parts]), torch.cat([part.rows_Qk for part in parts]))


def _filled(found: Matches, k: int) -> Matches:
    """With k matches for every query, those that are missing named so."""
    missing = k - found.rows_Qk.shape[1]
    return Matches(F.pad(found.similarities_Qk, (0, missing), value=-torch.inf), F.pad(found.rows_Qk, (0, missing), value=NOTHING))


def greatest(products_qn: Tensor, rows_n: Tensor, k: int) -> Matches:
    """The k greatest of each line, the lower column first where they are equal; fewer where there are fewer columns."""
    columns = products_qn.shape[1]
    if k == 1 and columns:  # the first of equal ones, by max's own word
        values_q, places_q = products_qn.max(1, keepdim=True)
        return _named(values_q, rows_n[places_q])
    values_qk, places_qk = _some_greatest(products_qn, min(k + 1, columns))
    if columns > k:
        torn_q = values_qk[:, k - 1] == values_qk[:, k]  # equal ones on both sides of the cut
        values_qk, places_qk = values_qk[:, :k].clone(), places_qk[:, :k].clone()
        if torn_q.any():
            values_tn, places_tn = products_qn[torn_q].sort(dim=1, descending=True, stable=True)
            values_qk[torn_q], places_qk[torn_q] = values_tn[:, :k], places_tn[:, :k]
    places_qk, by_place_qk = places_qk.sort(1)
    values_qk, order_qk = values_qk.gather(1, by_place_qk).sort(dim=1, descending=True, stable=True)
    return _named(values_qk, rows_n[places_qk.gather(1, order_qk)])


def _some_greatest(products_qn: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns of the k greatest of each line, descending, any of equal ones: those of the k groups with the greatest maximum."""
    columns = products_qn.shape[1]
    groups = columns // GROUP
    if groups <= 2 * k:
        return products_qn.topk(k)
    maxima_qg = products_qn[:, : groups * GROUP].unflatten(1, (GROUP, groups)).amax(1)
    chosen_qk = maxima_qg.topk(k).indices
    members_Gk = torch.arange(0, groups * GROUP, groups, device=products_qn.device)[:, None]
    rest_qr = torch.arange(groups * GROUP, columns, device=products_qn.device).expand(len(products_qn), -1)
    places_qm = torch.cat([(chosen_qk[:, None] + members_Gk).flatten(1), rest_qr], 1)
    values_qk, order_qk = products_qn.gather(1, places_qm).topk(k)
    return values_qk, places_qm.gather(1, order_qk)


def _named(values_qk: Tensor, rows_qk: Tensor) -> Matches:
    return Matches(values_qk, rows_qk.masked_fill(values_qk == -torch.inf, NOTHING))


def _merge(lower: Matches, higher: Matches, k: int) -> Matches:
    """The k greatest of two lists; rows of `lower` are lower than those of `higher`."""
    if not lower.rows_Qk.shape[1]:
        return higher
    values_Qk, order_Qk = torch.cat([lower.similarities_Qk, higher.similarities_Qk], 1).sort(dim=1, descending=True, stable=True)
    rows_Qk = torch.cat([lower.rows_Qk, higher.rows_Qk], 1).gather(1, order_Qk)
    return Matches(values_Qk[:, :k], rows_Qk[:, :k])
