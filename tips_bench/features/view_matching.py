"""Points of one view matched with those of another, by features of maps that are enlarged to a grid of points.

As mbanani/probe3d a1f1464 does it (evals/utils/correspondence.py:63-161,214-263): both maps are enlarged, features at points are made unit,
each point's two nearest are found, and the matches of least ratio between both distances are kept, the distance being 1 - cosine. DINOv3
(arXiv 2508.10104, appendix D.3) keeps those of greatest cosine instead.
Enlarging is linear, so the cosines of a point with all places of the other view are those with its few patches, enlarged: a fraction of the
products, and nothing of the size points x points is ever held.

Axes: N points of a view, h w token grid, H W grid of points, D feature, k matches that are kept, P patches; n and q a block of points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tips_bench.features.affinity import mutual, unit
from tips_bench.features.geometry import CHUNK_ELEMENTS, Kind, interpolation

BLOCK = 1 << 12  # points whose features are held twice
LINES = 16  # of a map that is enlarged at once
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
    """A map as it is on the grid of points. places_N: those that have a point, line by line. features_ND: there, of length 1.

    scale_N: 1 / the length that they had. rows_Hh, columns_Ww: weights of enlarging along both axes.
    """

    features_hwD: Tensor
    rows_Hh: Tensor
    columns_Ww: Tensor
    places_N: Tensor
    features_ND: Tensor
    scale_N: Tensor

    @classmethod
    def of(cls, features_hwD: Tensor, known_HW: Tensor, kind: Kind) -> Enlarged:
        """known_HW: which places have a point."""
        rows_Hh, columns_Ww = (
            interpolation(patches, size, kind).to(features_hwD)
            for patches, size in zip(features_hwD.shape[:2], known_HW.shape, strict=True)
        )
        across_hWD = torch.einsum("hwd,Ww->hWd", features_hwD, columns_Ww).contiguous()
        places_N = known_HW.flatten().nonzero()[:, 0]
        blocks = zip(rows_Hh.split(LINES), known_HW.split(LINES), strict=True)
        parts = [torch.tensordot(rows_lh, across_hWD, 1)[known_lW] for rows_lh, known_lW in blocks]
        raw_ND = torch.cat(parts)
        scale_N = raw_ND.norm(dim=1).clamp(min=1e-12).reciprocal()
        return cls(features_hwD, rows_Hh, columns_Ww, places_N, unit(raw_ND), scale_N)

    def on_grid(self, values_N: Tensor, elsewhere: float) -> Tensor:
        """[H,W]: values of the points at their places."""
        size = len(self.rows_Hh), len(self.columns_Ww)
        return values_N.new_full((size[0] * size[1],), elsewhere).scatter(0, self.places_N, values_N).view(size)


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
    rows_Nr = nearest(first, second, needed)
    cosines_Nr = torch.stack([products(first.features_ND, second.features_ND, rows_N) for rows_N in rows_Nr.T], 1)
    weights_N = 1 - ratios(cosines_Nr) if surest == "ratio" else cosines_Nr[:, 0]
    rows_N, points_N = rows_Nr[:, 0], torch.arange(len(rows_Nr), device=rows_Nr.device)
    if both_ways:
        kept_N = mutual(rows_N, nearest(second, first, 1)[:, 0])
        weights_N, rows_N, points_N = weights_N[kept_N], rows_N[kept_N], points_N[kept_N]
    weights_k, order_k = weights_N.sort(descending=True, stable=True)
    order_k = order_k[:matches]
    return ViewMatches(first.places_N[points_N[order_k]], second.places_N[rows_N[order_k]], weights_k[:matches])


def ratios(cosines_N2: Tensor) -> Tensor:
    """[N]: of the distances to a point's nearest and to the one after it."""
    distances_N2 = (1 - cosines_N2).clamp(min=LEAST)
    return distances_N2[:, 0] / distances_N2[:, 1]


def products(features_ND: Tensor, others_MD: Tensor, rows_N: Tensor) -> Tensor:
    """[N]: of each feature with the row of others that is named for it."""
    blocks = zip(features_ND.split(BLOCK), rows_N.split(BLOCK), strict=True)
    return torch.cat([(features_nD * others_MD[rows_n]).sum(1) for features_nD, rows_n in blocks])


def nearest(first: Enlarged, second: Enlarged, k: int) -> Tensor:
    """[N,k] numbers among the points of the second view of the nearest to each of the first, the nearest first; of equal ones the lower."""
    height, width = len(second.rows_Hh), len(second.columns_Ww)
    at_once = max(1, CHUNK_ELEMENTS.get(first.scale_N.device.type, CHUNK_ELEMENTS["cpu"]) // (height * width))
    scale_HW, bias_HW = second.on_grid(second.scale_N, 0.0), second.on_grid(torch.zeros_like(second.scale_N), -torch.inf)
    number_P = second.on_grid(torch.arange(len(second.places_N), device=second.places_N.device), -1).flatten()
    columns_wW, found = second.columns_Ww.T.contiguous(), []
    for products_qhw in patch_products(first, second.features_hwD, at_once):
        cosines_qHW = torch.matmul(second.rows_Hh, products_qhw.flatten(0, 1).matmul(columns_wW).unflatten(0, products_qhw.shape[:2]))
        found.append(greatest(cosines_qHW.mul_(scale_HW).add_(bias_HW), k))
    return number_P[torch.cat(found)]


def patch_products(first: Enlarged, other_hwD: Tensor, at_once: int) -> Iterator[Tensor]:
    """[q,h,w]: products of the first view's features, at its points line by line, with the patches of another; at most `at_once` a block.

    The features are as they are enlarged, not unit: that changes no order among the places of the other view.
    """
    (tokens_h, tokens_w), width = first.features_hwD.shape[:2], len(first.columns_Ww)
    products_hwP = (first.features_hwD.flatten(0, 1) @ other_hwD.flatten(0, 1).T).view(tokens_h, -1)
    lines = torch.bincount(first.places_N // width, minlength=len(first.rows_Hh)).tolist()
    for rows_1h, columns_q in zip(first.rows_Hh.split(1), (first.places_N % width).split(lines), strict=True):
        line_wP = (rows_1h @ products_hwP).view(tokens_w, -1)
        for part_q in columns_q.split(at_once) if len(columns_q) else ():
            yield (first.columns_Ww[part_q] @ line_wP).view(-1, *other_hwD.shape[:2])


def greatest(values_qHW: Tensor, k: int) -> Tensor:
    """[q,k] places, line by line, of the greatest values, which are overwritten; of equal ones the lower comes first."""
    best_qH, found = values_qHW.amax(2), []
    number_q = torch.arange(len(values_qHW), device=values_qHW.device)
    for _ in range(k):
        row_q = best_qH.argmax(1)
        line_qW = values_qHW[number_q, row_q]
        column_q = line_qW.argmax(1)
        found.append(row_q * values_qHW.shape[2] + column_q)
        line_qW[number_q, column_q] = -torch.inf
        values_qHW[number_q, row_q] = line_qW
        best_qH[number_q, row_q] = line_qW.amax(1)
    return torch.stack(found, 1)
