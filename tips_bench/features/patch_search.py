"""The nearest patches of a memory that may be larger than the main memory: exactly, or by an index of faiss whose recall is measured.

An index finds candidates; their cosines are always computed again from the features as stored, so that what a neighbor weighs does not
depend on how it was found.

Axes: Q queries, N patches of the memory, M those of them that may be found, D feature, k neighbors, R candidates; n, q: of a block.
"""

from __future__ import annotations

import importlib
import importlib.util
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from tips_bench.cards import Strict
from tips_bench.errors import UserError
from tips_bench.features.affinity import KEY_ROWS, NOTHING, Matches, top_matches, unit
from tips_bench.features.cache import from_disk
from tips_bench.features.cosine_matches import KeyBlock, cosine_matches, key_blocks
from tips_bench.files import atomic

RESIDENT_BYTES = 1 << 31  # of keys in float32 that are held; larger memories are read again for each image
QUANTIZED = 8  # bits of a code
TRAIN_ROWS = 1 << 17  # at most, that cells and codes are fitted on
CANDIDATE_VALUES = 1 << 24  # features of candidates that are held at once
RECALL_QUERIES = 1000
INDEX_KINDS = {"ivf": ("lists", "probes"), "hnsw": ("links", "explored"), "ivf-pq": ("lists", "probes", "code_bytes")}


class SearchCard(Strict):
    """How the nearest patches are found.

    type: "exact" compares a patch with all of the memory. "ivf" compares it with the patches in the `probes` nearest of `lists` cells.
    "hnsw" follows a graph with `links` links a patch, and looks at `explored` patches. "ivf-pq" is "ivf" on codes of `code_bytes` bytes a
    patch. candidates: how many an index finds, the nearest of which are taken by their exact cosines; null = k.
    """

    type: Literal["exact", "ivf", "hnsw", "ivf-pq"] = "exact"
    lists: int | None = Field(None, gt=0)
    probes: int | None = Field(None, gt=0)
    links: int | None = Field(None, gt=0)
    explored: int | None = Field(None, gt=0)
    code_bytes: int | None = Field(None, gt=0)
    candidates: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _has_its_numbers(self) -> SearchCard:
        needed = INDEX_KINDS.get(self.type, ())
        for name in ("lists", "probes", "links", "explored", "code_bytes"):
            if (getattr(self, name) is None) == (name in needed):
                raise ValueError(f"{self.type} {'needs' if name in needed else 'has no'} {name}")
        if self.type == "exact" and self.candidates is not None:
            raise ValueError("exact has no candidates: it looks at all patches")
        return self


@dataclass(frozen=True)
class Standard:
    """mean_D, deviation_D: float64, of the features that are brought to mean 0 and deviation 1."""

    mean_D: Tensor
    deviation_D: Tensor

    def __call__(self, features_ND: Tensor) -> Tensor:
        """[N,D] float32."""
        device = features_ND.device
        return ((features_ND.double() - self.mean_D.to(device)) / self.deviation_D.to(device)).float()


@dataclass(frozen=True)
class PatchSearch:
    """A memory to look in. features_ND: as stored; a memory map will do. rows_M: the rows that may be found, ascending.

    distance: by which neighbors are chosen; "euclidean" is that of the features as they are. index: of faiss, over rows_M; None = exact.
    standard: what is done to features and queries before anything else; None = nothing.
    """

    features_ND: np.ndarray
    rows_M: np.ndarray
    card: SearchCard = field(default_factory=SearchCard)
    distance: Literal["cosine", "euclidean"] = "cosine"
    index: Any = None
    standard: Standard | None = None

    def nearest(self, queries_QD: Tensor, k: int) -> Matches:
        """The k nearest of each query: cosines, descending, and rows of features_ND; NOTHING where there are fewer."""
        try:
            return self._nearest(self._seen(queries_QD), k)
        finally:
            self._let_go()

    def ranked(self, queries_QD: Tensor, k: int) -> Tensor:
        """[Q,k] rows of features_ND, the nearest by `distance` first; NOTHING where there are fewer. Only of an exact search."""
        try:
            return self._exact(self._seen(queries_QD), k).rows_Qk
        finally:
            self._let_go()

    def _seen(self, features_ND: Tensor) -> Tensor:
        """Features as they are compared, before they are brought to length 1."""
        return features_ND if self.standard is None else self.standard(features_ND)

    def _nearest(self, queries_QD: Tensor, k: int) -> Matches:
        if self.index is not None:
            return self._reordered(unit(queries_QD), self._candidates(queries_QD, max(k, self.card.candidates or 0)), k)
        found = self._exact(queries_QD, k)
        return found if self.distance == "cosine" else self._reordered(unit(queries_QD), found.rows_Qk, k)

    def _exact(self, queries_QD: Tensor, k: int) -> Matches:
        """The nearest of all by `distance`: products that are the greater the nearer, and rows of features_ND."""
        if self.distance == "euclidean":  # |q - x|^2 = |q|^2 - 2 (q x - |x|^2 / 2), the least where the product in brackets is the greatest
            queries_QD = queries_QD.float()
            found = top_matches(torch.cat([queries_QD, torch.ones_like(queries_QD[:, :1])], 1), self._keys(queries_QD.device), k)
        elif queries_QD.device.type == "cpu":
            found = cosine_matches(unit(queries_QD), self._resident_blocks if self._held else key_blocks(self._read()), k)
        else:
            found = top_matches(unit(queries_QD), self._keys(queries_QD.device), k)
        return Matches(found.similarities_Qk, self._named(found.rows_Qk))

    def recall(self, k: int) -> float:
        """The share of the k nearest that an index finds, of up to RECALL_QUERIES patches of the memory, each without itself."""
        rows_q = self.rows_M[np.linspace(0, len(self.rows_M) - 1, min(RECALL_QUERIES, len(self.rows_M))).astype(np.int64)]
        queries_qD = self._stored(rows_q)
        exact = PatchSearch(self.features_ND, self.rows_M, standard=self.standard)
        return found_share(*(_without(search.nearest(queries_qD, k + 1).rows_Qk, rows_q, k) for search in (self, exact)))

    def _let_go(self) -> None:
        """Give back the pages of a large memory map that were read: the disk has them."""
        pages = getattr(self.features_ND, "_mmap", None)
        if pages is not None and not self._held:
            pages.madvise(mmap.MADV_DONTNEED)

    @property
    def _held(self) -> bool:
        """Whether the keys stay in the main memory."""
        return self.features_ND.shape[1] * len(self.rows_M) * 4 <= RESIDENT_BYTES

    def _named(self, places_Qk: Tensor) -> Tensor:
        """Places in rows_M as rows of features_ND."""
        rows_M = torch.from_numpy(self.rows_M).to(places_Qk.device)
        return torch.where(places_Qk == NOTHING, NOTHING, rows_M[places_Qk.clamp(min=0)])

    def _keys(self, device: torch.device) -> Iterator[Tensor]:
        """Blocks [n,D] of what may be found, or [n,D+1] for Euclidean distances."""
        return (keys_nD.to(device) for keys_nD in (self._resident if self._held else self._read()))

    @cached_property
    def _resident(self) -> list[Tensor]:
        return list(self._read())

    @cached_property
    def _resident_blocks(self) -> list[KeyBlock]:
        return list(key_blocks(self._resident))

    def _read(self) -> Iterator[Tensor]:
        for start in range(0, len(self.rows_M), KEY_ROWS):
            keys_nD = self._seen(self._stored(self.rows_M[start : start + KEY_ROWS]))
            if self.distance == "cosine":
                yield unit(keys_nD)
            else:
                yield torch.cat([keys_nD, -keys_nD.square().sum(1, keepdim=True) / 2], 1)
            self._let_go()

    def _stored(self, rows_n: np.ndarray) -> Tensor:
        """Features in float32. Rows that follow each other are read in one piece."""
        together = len(rows_n) > 0 and rows_n[-1] - rows_n[0] + 1 == len(rows_n)
        stored_nD = np.array(self.features_ND[rows_n[0] : rows_n[-1] + 1]) if together else self._scattered(rows_n)
        return from_disk(stored_nD).float()

    def _scattered(self, rows_n: np.ndarray) -> np.ndarray:
        """Rows as stored. Those of a large memory map are read one by one: to touch a page may map megabytes around it."""
        if self._held or not isinstance(self.features_ND, np.memmap) or self.features_ND.filename is None:
            return np.array(self.features_ND[rows_n])
        found_nD = np.empty((len(rows_n), self.features_ND.shape[1]), self.features_ND.dtype)
        row_bytes = found_nD.dtype.itemsize * found_nD.shape[1]
        with open(self.features_ND.filename, "rb", buffering=0) as file:
            for place, row in enumerate(rows_n.tolist()):
                file.seek(self.features_ND.offset + row * row_bytes)
                file.readinto(found_nD[place].data)
        return found_nD

    def _candidates(self, queries_QD: Tensor, count: int) -> Tensor:
        """[Q,R] rows of features_ND."""
        _, places_QR = self.index.search(np.ascontiguousarray(unit(queries_QD).cpu().numpy()), min(count, len(self.rows_M)))
        return self._named(torch.from_numpy(places_QR)).to(queries_QD.device)

    def _reordered(self, unit_QD: Tensor, rows_QR: Tensor, k: int) -> Matches:
        """The candidates' k greatest cosines, the lower row first where they are equal."""
        rows_QR, parts = rows_QR.sort(1).values, []
        step = max(1, CANDIDATE_VALUES // max(1, rows_QR.shape[1] * unit_QD.shape[1]))
        for unit_qD, rows_qR in zip(unit_QD.split(step), rows_QR.split(step), strict=True):
            stored = self._scattered(rows_qR.clamp(min=0).cpu().numpy().ravel())
            keys_qRD = unit(self._seen(from_disk(stored))).to(unit_qD.device).view(*rows_qR.shape, -1)
            near_qR = torch.einsum("qd,qrd->qr", unit_qD, keys_qRD).masked_fill(rows_qR == NOTHING, -torch.inf)
            near_qk, order_qk = (found[:, :k] for found in near_qR.sort(dim=1, descending=True, stable=True))
            parts.append((near_qk, rows_qR.gather(1, order_qk)))
        near_Qk, rows_Qk = (torch.cat(halves) for halves in zip(*parts, strict=True))
        return Matches(near_Qk, rows_Qk)


def found_share(found_Qk: Tensor, true_Qk: Tensor) -> float:
    """The share of the true neighbors that are among those that were found. Rows, NOTHING where there are fewer."""
    there_Qk = true_Qk != NOTHING
    hits_Qk = (found_Qk[:, :, None] == true_Qk[:, None, :]).any(1) & there_Qk
    return float(hits_Qk.sum() / max(1, int(there_Qk.sum())))


def _without(rows_qk: Tensor, itself_q: np.ndarray, k: int) -> Tensor:
    """The first k rows of each line that are not the query's own."""
    other_qk = rows_qk != torch.from_numpy(itself_q)[:, None]
    places_qk = other_qk.int().sort(dim=1, descending=True, stable=True).indices[:, :k]
    return rows_qk.gather(1, places_qk).masked_fill(~other_qk.gather(1, places_qk), NOTHING)


def build_index(search: PatchSearch) -> Any:
    """The index that the card names, over the rows that may be found; None for an exact search. Errors: faiss is not installed, cells."""
    card, dim = search.card, search.features_ND.shape[1]
    if card.type == "exact":
        return None
    faiss, rows = _faiss(), len(search.rows_M)
    if card.lists is not None and card.lists > rows:
        raise UserError(f"{card.lists} lists for {rows} patches", where="probe.search", fix="Use fewer lists than patches.")
    index = _empty(faiss, card, dim)
    if card.lists is not None:
        chosen = search.rows_M[np.linspace(0, rows - 1, min(TRAIN_ROWS, rows)).astype(np.int64)]
        index.train(unit(search._seen(search._stored(chosen))).numpy())
        index.nprobe = min(card.probes or 1, card.lists)
    threads = faiss.omp_get_max_threads()
    if card.type == "hnsw":
        faiss.omp_set_num_threads(1)  # several would make another graph each time
    try:
        for keys_nD in search._read():
            index.add(keys_nD.numpy())
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def _empty(faiss: Any, card: SearchCard, dim: int) -> Any:
    if card.type == "hnsw":
        index = faiss.IndexHNSWFlat(dim, card.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efSearch = card.explored
        return index
    cells = faiss.IndexFlatIP(dim)
    if card.type == "ivf":
        index = faiss.IndexIVFFlat(cells, dim, card.lists, faiss.METRIC_INNER_PRODUCT)
    elif dim % (card.code_bytes or 1):
        fix = f"Choose a number that divides {dim}."
        raise UserError(f"code_bytes = {card.code_bytes} does not divide {dim} features into equal parts", where="probe.search", fix=fix)
    else:
        index = faiss.IndexIVFPQ(cells, dim, card.lists, card.code_bytes, QUANTIZED, faiss.METRIC_INNER_PRODUCT)
    return index


def save_index(index: Any, path: Path) -> None:
    """Write it, atomically."""
    with atomic(path) as temporary:
        _faiss().write_index(index, str(temporary))


def read_index(path: Path, card: SearchCard) -> Any:
    """What `save_index` wrote, with the card's effort. Errors: a file that is not there or broken."""
    try:
        index = _faiss().read_index(str(path))
    except RuntimeError as error:
        raise UserError("not a saved index, or a broken one", where=path, fix="Delete its folder and run again.") from error
    if card.type == "hnsw":
        index.hnsw.efSearch = card.explored
    else:
        index.nprobe = min(card.probes or 1, card.lists or 1)
    return index


def _faiss() -> Any:
    """Errors: it is not installed."""
    if importlib.util.find_spec("faiss") is None:
        fix = "Install it: `pip install 'tips-bench[faiss]'`, or search exactly: --set probe.search.type=exact."
        raise UserError("an approximate search needs faiss, which is not installed", where="probe.search", fix=fix)
    return importlib.import_module("faiss")
