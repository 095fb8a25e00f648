"""Points of one view matched with those of another, by features of maps that are enlarged to a grid of points.

As mbanani/probe3d a1f1464 does it (evals/utils/correspondence.py:63-161,214-263): both maps are enlarged, features at points are made unit,
each point's two nearest are found, and the matches of least ratio between both distances are kept, the distance being 1 - cosine. DINOv3
(arXiv 2508.10104, appendix D.3) keeps those of greatest cosine instead.
Enlarging is linear, so all cosines follow from the products of patches, and no enlarged map is made: products are enlarged over the
second view, then line by line over the first, and a point's two nearest are taken at once. What is held is patches x points, never points
x points.

Axes: N points of the first view, M of the second, h w token grid, H W grid of points, D feature, k matches that are kept, P patches of the
first view; q a block of points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.features.affinity import mutual
from tips_bench.features.geometry import CHUNK_ELEMENTS, Kind, interpolation
from tips_bench.features.point_matching import enlarged_norms

GROUP = 128  # columns whose greatest value is looked at first
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
    at_once = max(1, CHUNK_ELEMENTS.get(first.scale_N.device.type, CHUNK_ELEMENTS["cpu"]) // len(second.places_N))
    found = [
        greatest(columns_qw @ cosines_wM, k) for columns_nw, cosines_wM in lines(first, second) for columns_qw in columns_nw.split(at_once)
    ]
    values_Nk, numbers_Nk = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values_Nk * first.scale_N[:, None], numbers_Nk


def lines(first: Enlarged, second: Enlarged) -> Iterator[tuple[Tensor, Tensor]]:
    """For each line of the first view with points: their weights [n,w], and what they are weights of [w,M].

    Their product is the cosines of the line's points with those of the second view, times the lengths of the first ones' features: that
    changes no order among the second view's points.
    """
    products_hwP = first.features_hwD @ second.features_hwD.flatten(0, 1).T
    products_hwM = torch.stack([second.at_points(products_wP.unflatten(1, second.grid)) for products_wP in products_hwP])
    counts = torch.bincount(first.places_N // len(first.columns_Ww), minlength=len(first.rows_Hh)).tolist()
    columns = (first.places_N % len(first.columns_Ww)).split(counts)
    for weights_h, columns_n in zip(first.rows_Hh, columns, strict=True):
        if len(columns_n):
            rows = slice(int(weights_h.nonzero()[0]), int(weights_h.nonzero()[-1]) + 1)
            cosines_wM = weights_h[None, rows] @ products_hwM[rows].flatten(1)
            yield first.columns_Ww[columns_n], cosines_wM.view(products_hwM.shape[1:])


def greatest(values_qM: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(values [q,k], columns [q,k]) of the k greatest of each line, the greatest first; of equal ones the lower column comes first.

    The greatest of each group of columns are looked through, and then the group, whose values are overwritten.
    """
    groups_qGg = F.pad(values_qM, (0, -values_qM.shape[1] % GROUP), value=-torch.inf).unflatten(1, (-1, GROUP))
    best_qG, number_q, found = groups_qGg.amax(2), torch.arange(len(values_qM), device=values_qM.device), []
    for _ in range(k):
        group_q = best_qG.argmax(1)
        values_qg = groups_qGg[number_q, group_q]
        place_q = values_qg.argmax(1)
        found.append((values_qg[number_q, place_q], group_q * GROUP + place_q))
        values_qg[number_q, place_q] = -torch.inf
        groups_qGg[number_q, group_q] = values_qg
        best_qG[number_q, group_q] = values_qg.amax(1)
    values_k, columns_k = zip(*found, strict=True)
    return torch.stack(values_k, 1), torch.stack(columns_k, 1)
