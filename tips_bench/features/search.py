"""Exact nearest neighbours by cosine similarity, in chunks: queries x index never becomes one matrix.

Candidates are found in float32, SPARE more than are asked for. Their similarities are then computed again in float64, one pair at a
time, so that neither the size of a chunk nor the library that found them can change an order. Where float32 cannot rule out that a
nearer image was left out (a crowd of near-equal similarities), that query is compared with the whole index in float64.

faiss finds the candidates where it is installed (IndexFlatIP, which is exhaustive, too), torch otherwise.

Axes: Q queries, N images of the index, D feature, k neighbours, R candidates.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.features.cache import from_disk

SPARE = 32
INDEX_ROWS = 1 << 14  # at once
QUERY_ROWS = 1 << 10
EXACT_VALUES = 1 << 24  # float64 values that a step of the exact part holds
WHOLE_VALUES = 1 << 24  # cosines with a whole index: 128 MiB
GRID = float(1 << 40)  # similarities that agree to twelve digits are equal

Relevance = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Neighbors:
    """similarities_Qk: float64 cosines, descending. rows_Qk: int64 rows of the index; k is less where the index is smaller."""

    similarities_Qk: np.ndarray
    rows_Qk: np.ndarray


@dataclass(frozen=True)
class Search:
    """An index to look in. index_ND: features as stored (a memory map will do), of any length but 0. device: where products are made.

    among_N: the rows that may be found, ascending; None = all.
    """

    index_ND: np.ndarray
    device: torch.device | str = "cpu"
    among_N: np.ndarray | None = None

    def nearest(
        self, queries_QD: np.ndarray, k: int, *, itself_Q: np.ndarray | None = None, relevant: Relevance | None = None
    ) -> Neighbors:
        """The k nearest of each query. Of equal similarities a row that is not relevant comes first, then the lower row.

        itself_Q: the row of the index that is the query's own image and is left out, -1 = it is not there. relevant: (queries [...],
        rows [...]) -> booleans [...]; None: rows alone decide.
        """
        among_N = np.arange(len(self.index_ND)) if self.among_N is None else self.among_N
        queries, rows = len(queries_QD), len(among_N)
        itself_Q = np.full(queries, -1) if itself_Q is None else itself_Q
        count = min(rows, k + SPARE + 1)  # one more, for it may be the query itself
        near_QR, rows_QR = self._candidates(queries_QD, among_N, count)
        k = min(k, rows - bool(np.isin(itself_Q, among_N).any()))
        doubt, least_Q = 2 * rounding(self.index_ND.shape[1]), np.full(queries, -np.inf)
        if count < rows and k:
            least_Q = near_QR[:, -1].double().numpy()
            contenders = int((near_QR >= near_QR[:, k : k + 1] - doubt).sum(1).max())  # the others cannot be among the k nearest
            near_QR, rows_QR = near_QR[:, :contenders], rows_QR[:, :contenders]
        found = Neighbors(np.empty((queries, k)), np.empty((queries, k), np.int64))
        step = max(1, EXACT_VALUES // (rows_QR.shape[1] * self.index_ND.shape[1]))
        for start in range(0, queries, step):
            part = np.arange(start, min(start + step, queries))
            self._order(found, part, self._exact(queries_QD[part], rows_QR[part]), rows_QR[part], itself_Q, relevant)
        unsure = np.flatnonzero(found.similarities_Qk[:, -1] <= least_Q + doubt) if k else np.empty(0, np.int64)
        for query in unsure:
            near_1N = self._whole(queries_QD[query], among_N)
            self._order(found, np.array([query]), near_1N, among_N[None], itself_Q, relevant)
        return found

    def similarities(self, queries_QD: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(place of a query, near_N: its float64 cosines with the whole index, equal where twelve digits agree), for every query in turn.

        No more than WHOLE_VALUES cosines are held at a time. `among_N` must be None.
        """
        step = max(1, WHOLE_VALUES // max(1, len(self.index_ND)))
        for start in range(0, len(queries_QD), step):
            unit_Dq = self._unit64(queries_QD[start : start + step]).T
            parts = [
                self._unit64(self.index_ND[first : first + INDEX_ROWS]) @ unit_Dq for first in range(0, len(self.index_ND), INDEX_ROWS)
            ]
            near_Nq = np.concatenate([part.cpu().numpy() for part in parts])
            yield from enumerate((np.round(near_Nq * GRID) / GRID).T, start)

    def _unit64(self, features_ND: np.ndarray) -> Tensor:
        return F.normalize(from_disk(np.array(features_ND)).to(self.device).double(), dim=-1)

    def _candidates(self, queries_QD: np.ndarray, among_N: np.ndarray, count: int) -> tuple[Tensor, np.ndarray]:
        """(similarities_QR float32, rows_QR), descending, on the CPU."""
        near_QR, rows_QR = torch.empty(len(queries_QD), 0), torch.empty(len(queries_QD), 0, dtype=torch.int64)
        unit_QD = unit(queries_QD).to(self.device)
        for start in range(0, len(among_N), INDEX_ROWS):
            rows_n = among_N[start : start + INDEX_ROWS]
            near_Qr, places_Qr = _top(unit_QD, unit(self.index_ND[rows_n]), min(count, len(rows_n)), self.device)
            near_QR, rows_QR = torch.cat([near_QR, near_Qr], 1), torch.cat([rows_QR, torch.from_numpy(rows_n)[places_Qr]], 1)
            if near_QR.shape[1] > count:
                near_QR, places_QR = near_QR.topk(count)
                rows_QR = rows_QR.gather(1, places_QR)
        return near_QR, rows_QR.numpy()

    def _exact(self, queries_qD: np.ndarray, rows_qR: np.ndarray) -> np.ndarray:
        """Cosines in float64 of each query and its candidates, [q,R]."""
        query_q1D = F.normalize(from_disk(np.array(queries_qD)).double(), dim=-1)[:, None]
        candidates_qRD = F.normalize(from_disk(self.index_ND[rows_qR]).double(), dim=-1)
        return (query_q1D * candidates_qRD).sum(-1).numpy()

    def _whole(self, query_D: np.ndarray, among_N: np.ndarray) -> np.ndarray:
        """Cosines in float64 of one query and the whole index, [1,N]."""
        parts = [among_N[None, start : start + INDEX_ROWS] for start in range(0, len(among_N), INDEX_ROWS)]
        return np.concatenate([self._exact(query_D[None], rows_1n) for rows_1n in parts], 1)

    @staticmethod
    def _order(
        found: Neighbors, part: np.ndarray, near_qR: np.ndarray, rows_qR: np.ndarray, itself_Q: np.ndarray, relevant: Relevance | None
    ) -> None:
        """Put candidates in order and keep the first k of the queries `part`."""
        near_qR = np.where(rows_qR == itself_Q[part][:, None], -np.inf, np.round(near_qR * GRID) / GRID)
        later_qR = np.zeros(rows_qR.shape, bool) if relevant is None else relevant(np.broadcast_to(part[:, None], rows_qR.shape), rows_qR)
        order_qk = np.lexsort((rows_qR, later_qR, -near_qR))[:, : found.rows_Qk.shape[1]]
        found.similarities_Qk[part] = np.take_along_axis(near_qR, order_qk, 1)
        found.rows_Qk[part] = np.take_along_axis(rows_qR, order_qk, 1)


def unit(features_ND: np.ndarray) -> Tensor:
    """Stored features at length 1, float32; zero stays zero."""
    return F.normalize(from_disk(np.array(features_ND)).float(), dim=-1)


def rounding(dim: int) -> float:
    """What a float32 cosine of D features is off at most: 16 standard deviations of a random walk of D roundings by 2^-24."""
    return 16 * dim**0.5 * 2.0**-24


def _top(queries_QD: Tensor, index_nD: Tensor, count: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """The `count` greatest products of each query with a part of the index, and their rows."""
    if torch.device(device).type == "cpu" and (faiss := _faiss()):
        flat = faiss.IndexFlatIP(index_nD.shape[1])
        flat.add(index_nD.numpy())
        near_QR, rows_QR = flat.search(queries_QD.numpy(), count)
        return torch.from_numpy(near_QR), torch.from_numpy(rows_QR)
    # Where a caller lets products be taken in TF32, those of float64 are the ones that `rounding` holds for.
    dtype = torch.float32 if torch.get_float32_matmul_precision() == "highest" else torch.float64
    index_Dn = index_nD.to(device, dtype).T
    found = [(block_qD.to(device, dtype) @ index_Dn).topk(count) for block_qD in queries_QD.split(QUERY_ROWS)]
    return torch.cat([near.float().cpu() for near, _ in found]), torch.cat([rows.cpu() for _, rows in found])


@cache
def _faiss() -> Any:
    """The module, or None where it is not installed."""
    return importlib.import_module("faiss") if importlib.util.find_spec("faiss") else None
