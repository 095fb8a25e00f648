"""Points of one view matched with those of another, by features of maps that are enlarged to a grid of points.

As mbanani/probe3d a1f1464 does it (evals/utils/correspondence.py:63-161,214-263): both maps are enlarged, features at points are made unit,
each point's two nearest are found, and the matches of least ratio between both distances are kept, the distance being 1 - cosine. DINOv3
(arXiv 2508.10104, appendix D.3) keeps those of greatest cosine instead.
Enlarging is linear, so all cosines follow from the products of patches, and no enlarged map is made: products are enlarged over the
second view, then some lines at a time over the first, where a bound tells which points of the second view can be nearest. What is held is
patches x points, never points x points.

Axes: N points of the first view, M of the second, h w token grid, H W grid of points, D feature, k matches that are kept; n points of L
lines, c patches with a weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tips_bench.features.affinity import mutual
from tips_bench.features.geometry import CHUNK_ELEMENTS, Kind, interpolation
from tips_bench.features.point_matching import enlarged_norms

GROUP = 64  # points of the second view that lie side by side, and are looked at together or not at all
Surest = Literal["ratio", "cosine"]
LEAST = 1e-9  # a distance is no less where ratios are taken (calculate_ratio_test)


@dataclass(frozen=True)
class ViewMatches:
    """first_k, second_k: places line by line on the grids of both views, the surest first. weights_k: how sure each is, by what it
    was kept for: 1 - ratio of distances, or cosine.
    """

    first_k: Tensor
    second_k: Tensor
    weights_k: Tensor


@dataclass(frozen=True)
class Enlarged:
    """A map on the grid of points, as the weights that make it of patches. rows_Hh, columns_Ww: along both axes.

    places_N: the places that have a point, line by line. scale_N: 1 / the length of the feature there.
    """

    features_hwD: Tensor
    rows_Hh: Tensor
    columns_Ww: Tensor
    places_N: Tensor
    scale_N: Tensor

    @classmethod
    def of(cls, features_hwD: Tensor, known_HW: Tensor, kind: Kind) -> Enlarged:
        """known_HW: which places have a point."""
        rows_Hh, columns_Ww = (
            interpolation(patches, size, kind).to(features_hwD)
            for patches, size in zip(features_hwD.shape[:2], known_HW.shape, strict=True)
        )
        places_N = known_HW.flatten().nonzero()[:, 0]
        lengths_N = enlarged_norms(features_hwD, rows_Hh, columns_Ww).flatten()[places_N]
        return cls(features_hwD, rows_Hh, columns_Ww, places_N, lengths_N.clamp(min=1e-12).reciprocal())

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) patches."""
        return self.rows_Hh.shape[1], self.columns_Ww.shape[1]

    def at_points(self, values_xhw: Tensor) -> Tensor:
        """[x,N]: values of the patches enlarged, at the points, divided by the lengths there."""
        values_xHW = self.rows_Hh @ (values_xhw @ self.columns_Ww.T)
        return values_xHW.flatten(1).index_select(1, self.places_N).mul_(self.scale_N)


def match_views(
    first_hwD: Tensor,
    second_hwD: Tensor,
    known_2HW: Tensor,
    matches: int,
    *,
    kind: Kind = "bicubic",
    both_ways: bool = False,
    surest: Surest = "ratio",
) -> ViewMatches:
    """The surest matches of points of the first view, at most so many; none where a view has too few points.

    known_2HW: bool, where each view has a point. kind: how maps are enlarged to H x W. both_ways: keep only points that are each other's
    nearest. surest: what tells how sure a match is, the ratio of the distances to a point's two nearest or the cosine to its nearest. Of
    equally sure matches those of lower places are kept, and come first.
    """
    first, second = (Enlarged.of(map_hwD, known_HW, kind) for map_hwD, known_HW in zip((first_hwD, second_hwD), known_2HW, strict=True))
    needed = 2 if surest == "ratio" else 1
    if len(first.places_N) == 0 or len(second.places_N) < needed:
        none = first.places_N[:0]
        return ViewMatches(none, none, none.to(first_hwD))
    cosines_Nr, rows_Nr = nearest(first, second, needed)
    weights_N = 1 - ratios(cosines_Nr) if surest == "ratio" else cosines_Nr[:, 0]
    rows_N, points_N = rows_Nr[:, 0], torch.arange(len(rows_Nr), device=rows_Nr.device)
    if both_ways:
        kept_N = mutual(rows_N, nearest(second, first, 1)[1][:, 0])
        weights_N, rows_N, points_N = weights_N[kept_N], rows_N[kept_N], points_N[kept_N]
    weights_k, order_k = weights_N.sort(descending=True, stable=True)
    order_k = order_k[:matches]
    return ViewMatches(first.places_N[points_N[order_k]], second.places_N[rows_N[order_k]], weights_k[:matches])


def ratios(cosines_N2: Tensor) -> Tensor:
    """[N]: of the distances to a point's nearest and to the one after it."""
    distances_N2 = (1 - cosines_N2).clamp(min=LEAST)
    return distances_N2[:, 0] / distances_N2[:, 1]


def nearest(first: Enlarged, second: Enlarged, k: int) -> tuple[Tensor, Tensor]:
    """(cosines [N,k], numbers among the points of the second view [N,k]) of the nearest to each point of the first, the nearest first.

    Of equal ones the lower number comes first.
    """
    found = [_nearest_of(lines, len(second.places_N), k) for lines in _lines(first, second)]
    values_Nk, numbers_Nk = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values_Nk * first.scale_N[:, None], numbers_Nk


@dataclass(frozen=True)
class _Lines:
    """Some lines of the first view with n points. line_n, column_n: of each point.

    cosines_LwGg: of which a point's `weights_Ww` make its cosines with those of the second view, times the length of its feature, which
    changes no order among them. They lie in G groups of g points side by side; zeros at the end. rounding: by what values may be off.
    """

    line_n: Tensor
    column_n: Tensor
    weights_Ww: Tensor
    cosines_LwGg: Tensor
    rounding: Tensor


def _lines(first: Enlarged, second: Enlarged) -> Iterator[_Lines]:
    """All lines of the first view that have points, as many at once as may be held."""
    products_hwP = first.features_hwD @ second.features_hwD.flatten(0, 1).T
    points, device = len(second.places_N), first.scale_N.device
    products_hwM = products_hwP.new_zeros(*first.grid, points + -points % GROUP)
    for products_wP, products_wM in zip(products_hwP, products_hwM, strict=True):
        products_wM[:, :points] = second.at_points(products_wP.unflatten(1, second.grid))
    rounding = 16 * torch.finfo(products_hwM.dtype).eps * products_hwM.abs().max()
    line_N, column_N = first.places_N // len(first.columns_Ww), first.places_N % len(first.columns_Ww)
    at_once = max(1, CHUNK_ELEMENTS.get(device.type, CHUNK_ELEMENTS["cpu"]) // products_hwM[0].numel())
    for start in range(0, len(first.rows_Hh), at_once):
        own_n = ((line_N >= start) & (line_N < start + at_once)).nonzero()[:, 0]
        if len(own_n):
            weights_Lh = first.rows_Hh[start : start + at_once]
            used = weights_Lh.any(0).nonzero()[:, 0]
            rows = slice(int(used[0]), int(used[-1]) + 1)
            cosines_LwGg = (weights_Lh[:, rows] @ products_hwM[rows].flatten(1)).view(len(weights_Lh), first.grid[1], -1, GROUP)
            yield _Lines(line_N[own_n] - start, column_N[own_n], first.columns_Ww, cosines_LwGg, rounding)


def _nearest_of(lines: _Lines, points: int, k: int) -> tuple[Tensor, Tensor]:
    """(values [n,k], numbers [n,k]) of the nearest among so many points of the second view, the nearest first.

    A point's greatest value in a group is no more than the weighed greatest values of its patches there (the least ones where a weight is
    negative). Groups are looked at that may have one of the k nearest by this bound: no less than the k-th in the group of the greatest.
    """
    bound_LWG = lines.weights_Ww.clamp(min=0) @ lines.cosines_LwGg.amax(3)
    if (lines.weights_Ww < 0).any():
        bound_LWG += lines.weights_Ww.clamp(max=0) @ lines.cosines_LwGg.amin(3)
    bound_nG = bound_LWG[lines.line_n, lines.column_n]
    first_n = bound_nG.argmax(1)
    every_n = torch.arange(len(first_n), device=first_n.device)
    values_nk, _ = _in_groups(lines, points, every_n, first_n, k)
    likely_nG = bound_nG >= values_nk[:, -1:] - lines.rounding
    likely_nG[every_n, first_n] = True
    point_P, group_P = likely_nG.nonzero(as_tuple=True)
    values_Pk, numbers_Pk = _in_groups(lines, points, point_P, group_P, k)
    counts_n = torch.bincount(point_P, minlength=len(every_n))
    place_P = torch.arange(len(point_P), device=point_P.device) - (counts_n.cumsum(0) - counts_n)[point_P]
    values_nmk = values_Pk.new_full((len(every_n), int(counts_n.max()), k), -torch.inf)
    numbers_nmk = numbers_Pk.new_zeros(values_nmk.shape)
    values_nmk[point_P, place_P], numbers_nmk[point_P, place_P] = values_Pk, numbers_Pk
    values_nk, place_nk = _greatest(values_nmk.flatten(1), k)
    return values_nk, numbers_nmk.flatten(1).gather(1, place_nk)


def _in_groups(lines: _Lines, points: int, point_P: Tensor, group_P: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(values [P,k], numbers [P,k]) of the nearest to some points in one group each, of `points` points in all."""
    most = int((lines.weights_Ww != 0).sum(1).max())
    used_Wc = lines.weights_Ww.abs().topk(most).indices.sort(1).values
    weights_Wc, found = lines.weights_Ww.gather(1, used_Wc), []
    step = max(1, CHUNK_ELEMENTS.get(point_P.device.type, CHUNK_ELEMENTS["cpu"]) // (most * GROUP))
    for point_p, group_p in zip(point_P.split(step), group_P.split(step), strict=True):
        column_p = lines.column_n[point_p]
        parts_pcg = lines.cosines_LwGg[lines.line_n[point_p, None], used_Wc[column_p], group_p[:, None]]
        values_pg = (weights_Wc[column_p, None] @ parts_pcg)[:, 0]
        last_p = group_p == lines.cosines_LwGg.shape[2] - 1
        values_pg[last_p, points - (lines.cosines_LwGg.shape[2] - 1) * GROUP :] = -torch.inf
        values_pk, place_pk = _greatest(values_pg, k)
        found.append((values_pk, group_p[:, None] * GROUP + place_pk))
    values_Pk, numbers_Pk = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values_Pk, numbers_Pk


def _greatest(values_qm: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(values [q,k], columns [q,k]) of the k greatest of each line, the greatest first; of equal ones the lower column comes first.

    They are overwritten.
    """
    found = []
    for _ in range(k):
        column_q1 = values_qm.argmax(1, keepdim=True)
        found.append((values_qm.gather(1, column_q1), column_q1))
        values_qm.scatter_(1, column_q1, -torch.inf)
    values_k, columns_k = zip(*found, strict=True)
    return torch.cat(values_k, 1), torch.cat(columns_k, 1)
