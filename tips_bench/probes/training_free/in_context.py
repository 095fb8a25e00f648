"""The probe `in-context`: a patch gets the labels of the most similar training patches, and nothing is fitted.

"Towards In-Context Scene Understanding" (Balažević et al., 2023), the evaluation called Hummingbird; the rule is _cross_attention of
vpariza/open-hummingbird-eval 5e79da2, hbird/hbird_eval.py:575-612. The cosines of the k nearest patches go through a softmax with a
temperature, and weight the share that each class has in the area of those patches. For depth and normals they weight the patches' means.

Axes: N windows, h w token grid, D feature, Q patches, k neighbors, V classes or values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tips_bench.cards import parse
from tips_bench.data.split import Split
from tips_bench.features.affinity import NOTHING
from tips_bench.features.context import RunContext
from tips_bench.features.geometry import Kind
from tips_bench.features.image_embeddings import follow, point_to
from tips_bench.features.patch_search import PatchSearch, SearchCard, build_index, read_index, save_index
from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.base import Fit
from tips_bench.probes.pixel_targets import PixelTarget
from tips_bench.probes.training_free.patch_memory import ClassVotes, MemoryOptions, ValueVotes, Votes, fill_memory

INDEX = "memory.faiss"


class InContextHead:
    """A memory that votes. votes_NV: counts of classes where `shares` is true, else values. k, temperature: as in MemoryOptions."""

    interpolation: ClassVar[Kind] = "bilinear"

    def __init__(self, search: PatchSearch, votes_NV: np.ndarray, *, shares: bool, k: int, temperature: float | None) -> None:
        self.search, self.votes_NV, self.shares, self.k, self.temperature = search, votes_NV, shares, k, temperature

    def __call__(self, features_NhwD: Tensor) -> Tensor:
        """[N,V,h,w] in float32, on the features' device."""
        found = self.search.nearest(features_NhwD.flatten(0, 2), min(self.k, len(self.search.rows_M)))
        near_Qk, rows_Qk = found.similarities_Qk, found.rows_Qk
        weight_Qk = (near_Qk / self.temperature).softmax(1) if self.temperature else _alike(rows_Qk)
        stored = self.votes_NV[rows_Qk.clamp(min=0).cpu().numpy().ravel()]
        votes_QkV = torch.from_numpy(stored.astype(np.float32)).to(near_Qk.device).view(*rows_Qk.shape, -1)
        if self.shares:
            votes_QkV = votes_QkV / votes_QkV.sum(-1, keepdim=True)
        means_QV = torch.einsum("qk,qkv->qv", weight_Qk, votes_QkV)
        return means_QV.view(*features_NhwD.shape[:3], -1).permute(0, 3, 1, 2)

    def save(self, path: Path) -> None:
        """Write all but the memory, which stays where it is, as .npz, atomically; an index lies beside it."""
        search = self.search
        if search.index is not None and not path.with_name(INDEX).is_file():
            save_index(search.index, path.with_name(INDEX))
        every = len(search.rows_M) == len(search.features_ND)
        save_npz(
            path,
            **point_to(search.features_ND, path),
            **point_to(self.votes_NV, path, "votes"),
            rows=np.empty(0, np.int64) if every else search.rows_M,
            search=np.array(search.card.model_dump_json()),
            distance=np.array(search.distance),
            shares=np.array(self.shares),
            k=np.array(self.k),
            temperature=np.array(self.temperature or np.nan),
        )

    @classmethod
    def load(cls, path: Path) -> InContextHead:
        """Read what `save` wrote. Errors: a broken file, a memory that is not there any more."""

        def head(data: Any) -> InContextHead:
            features_ND, card = follow(data, path), SearchCard.model_validate_json(str(data["search"]))
            rows_M = data["rows"] if len(data["rows"]) else np.arange(len(features_ND))
            index = None if card.type == "exact" else read_index(path.with_name(INDEX), card)
            search = PatchSearch(features_ND, rows_M, card, str(data["distance"]), index)  # type: ignore[arg-type]
            temperature = None if np.isnan(data["temperature"]) else float(data["temperature"])
            votes_NV, shares = follow(data, path, "votes"), bool(data["shares"])
            return cls(search, votes_NV, shares=shares, k=int(data["k"]), temperature=temperature)

        return read_npz(path, "probe", head)


def _alike(rows_Qk: Tensor) -> Tensor:
    """The same weight for each neighbor that there is."""
    there_Qk = (rows_Qk != NOTHING).float()
    return there_Qk / there_Qk.sum(1, keepdim=True)


class InContextProbe:
    """Built from a card's `probe` mapping, and, where a patch has values in place of classes, for a target."""

    reads_train = True
    is_memory = True
    load = staticmethod(InContextHead.load)

    def __init__(self, options: dict[str, Any], where: object, target: PixelTarget | None = None) -> None:
        self.options, self.target = parse(MemoryOptions, options, where=where, prefix="probe."), target

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Remember the training patches, and index them where the card says so."""
        options, target = self.options, self.target
        votes: Votes = ClassVotes(len(train.reader.classes), options.unlabeled) if target is None else ValueVotes(target)
        memory = fill_memory(context, train, options, votes)
        exact = PatchSearch(memory.features_ND, memory.rows_M, options.search, options.distance)
        search = context.extractor.world.first(lambda: _indexed(exact, context.folder / INDEX))
        report: dict[str, Any] = {"patches": len(memory.rows_M), "images": len(train), "k": options.k, "search": options.search.type}
        warnings = []
        if search.index is not None:
            report["recall"] = context.extractor.world.gather(search.recall(options.k))[0]
            warnings.append(f"neighbors are found by {options.search.type}, which finds {report['recall']:.1%} of the {options.k} nearest")
        if options.k > len(memory.rows_M):
            warnings.append(f"k = {options.k} is more than the {len(memory.rows_M)} patches of the memory, which all vote then")
        head = InContextHead(search, memory.votes_NV, shares=target is None, k=options.k, temperature=options.temperature)
        return Fit(head, report, None, warnings)


def _indexed(search: PatchSearch, path: Path) -> PatchSearch:
    """With the index that is there, or a new one."""
    if search.card.type == "exact":
        return search
    if not path.is_file():
        save_index(build_index(search), path)
    index = read_index(path, search.card)
    return PatchSearch(search.features_ND, search.rows_M, search.card, search.distance, index)
