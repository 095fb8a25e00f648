"""A memory of training patches: the features of each, and what it votes for.

Which patches of an image are remembered follows "Towards In-Context Scene Understanding" (Balažević et al., 2023) as
vpariza/open-hummingbird-eval 5e79da2 has it (hbird/hbird_eval.py:487-511): a patch is the more likely taken, the fewer patches of the image
show its classes.

Axes: P patches of an image, V votes of a patch (a count of each class, or the mean of each value), D feature, N patches of the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from tips_bench.cards import Strict
from tips_bench.data.base import IGNORE
from tips_bench.data.crops.resized_labels import ResizedLabelsCard, resized_labels
from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.features.ahead import loaded
from tips_bench.features.cache import DISK_TYPES, to_disk
from tips_bench.features.context import RunContext
from tips_bench.features.patch_search import SearchCard
from tips_bench.features.store import ResumableArray
from tips_bench.files import digest
from tips_bench.probes.patch_labels import patch_counts
from tips_bench.probes.pixel_targets import PixelTarget
from tips_bench.probes.solved.patch_bank import choose
from tips_bench.probes.solved.sufficient_statistics import patch_targets
from tips_bench.progress import bar

SCANNED_ROWS = 1 << 16  # of votes, at once


class MemoryOptions(Strict):
    """What is remembered and how neighbors vote.

    k: neighbors of a patch. temperature: of the softmax of their cosines, by which their votes are weighted; null = all alike. memory:
    patches at most, the same number of each image; null = all. selection: which of an image: "rare", those of classes that few of its
    patches show, with a random factor; "even", any, those with labels first. distance: by which neighbors are chosen. passes: over the
    training split, each with other crops. augment: of the crops; null = whole images. unlabeled: pixels without a label count nowhere, or
    as the first class. search: how neighbors are found.
    """

    type: str
    k: int = Field(gt=0)
    temperature: float | None = Field(gt=0)
    memory: int | None = Field(gt=0)
    selection: Literal["rare", "even"]
    distance: Literal["cosine", "euclidean"] = "cosine"
    passes: int = Field(1, gt=0)
    augment: ResizedLabelsCard | None = None
    unlabeled: Literal["left-out", "first-class"] = "left-out"
    search: SearchCard = SearchCard()

    @model_validator(mode="after")
    def _fit_together(self) -> MemoryOptions:
        if self.passes > 1 and self.augment is None:
            raise ValueError("several passes need augment: without it all are the same")
        if self.distance == "euclidean" and self.search.type != "exact":
            raise ValueError("distance euclidean needs an exact search")
        return self


class Votes(Protocol):
    """What the patches of a kind of data vote for. number: V. type: of the stored array. augmented: whether crops can be made."""

    @property
    def number(self) -> int: ...

    @property
    def type(self) -> str: ...

    @property
    def augmented(self) -> bool: ...

    def of(self, sample: Any, grid: tuple[int, int], inner: tuple[int, int], padding: tuple[int, int, int, int]) -> np.ndarray:
        """votes_PV of one image. grid: (h, w). inner: network input in pixels. padding: (left, top, right, bottom) around it."""

    def there(self, votes_NV: np.ndarray) -> np.ndarray:
        """bool [N]: which patches have a vote at all."""


@dataclass(frozen=True)
class ClassVotes:
    """Pixels of each class in a patch. unlabeled: as in MemoryOptions."""

    number: int
    unlabeled: str
    type = "uint32"
    augmented = True

    def of(self, sample: Any, grid: tuple[int, int], inner: tuple[int, int], padding: tuple[int, int, int, int]) -> np.ndarray:
        labels_HW = sample.labels_HW
        if self.unlabeled == "first-class":
            labels_HW = np.where(labels_HW == IGNORE, np.uint8(0), labels_HW)
        return patch_counts(labels_HW, grid, inner, padding, self.number)

    def there(self, votes_NV: np.ndarray) -> np.ndarray:
        return np.asarray(votes_NV.any(1))


@dataclass(frozen=True)
class ValueVotes:
    """The mean of the known pixels of a patch, NaN where there are none."""

    target: PixelTarget
    type = "float32"
    augmented = False

    @property
    def number(self) -> int:
        return self.target.values

    def of(self, sample: Any, grid: tuple[int, int], inner: tuple[int, int], padding: tuple[int, int, int, int]) -> np.ndarray:
        found = patch_targets(*self.target.truth(sample), grid, inner, padding)
        return np.where(found.weight_P[:, None] > 0, found.mean_PT, np.nan)

    def there(self, votes_NV: np.ndarray) -> np.ndarray:
        return np.asarray(np.isfinite(votes_NV).all(1))


def rarity(votes_PV: np.ndarray) -> np.ndarray:
    """[P]: of how many patches the classes of a patch are, summed over its classes; a patch of rare classes has little."""
    shown_PV = (votes_PV > 0).astype(np.float64)
    return shown_PV @ shown_PV.sum(0)


def rare_first(id: str, votes_PV: np.ndarray, there_P: np.ndarray, quota: int) -> np.ndarray:
    """Indices of `quota` patches, ascending: those of the least rarity times a factor drawn from the id; without a vote last."""
    generator = np.random.Generator(np.random.Philox(key=int(digest("memory", id)[:32], 16)))
    score_P = np.where(there_P, rarity(votes_PV) * generator.random(len(votes_PV)), np.inf)
    return np.sort(np.argsort(score_P, kind="stable")[:quota])


@dataclass(frozen=True)
class PatchMemory:
    """features_ND, votes_NV: as stored. rows_M: of the patches that have a vote, ascending. starts: first row of each look at an image,
    and the number of rows.
    """

    features_ND: np.ndarray
    votes_NV: np.ndarray
    rows_M: np.ndarray
    starts: np.ndarray


def fill_memory(context: RunContext, train: Split, options: MemoryOptions, votes: Votes) -> PatchMemory:
    """Run the encoder over what is not remembered yet. Errors: more images than patches, no patch with a vote."""
    extractor, looks = context.extractor, options.passes * len(train)
    if options.memory is not None and options.memory < looks:
        problem = f"memory = {options.memory} is less than the {looks} images of all passes"
        raise UserError(problem, where="probe.memory", fix="Set it to at least one patch for each.")
    sizes = [extractor.inner_size(1, 1)] * len(train) if options.augment else [train.reader.size(index) for index in train.indices]
    patches = [int(np.prod(extractor.grid(*size))) for size in sizes] * options.passes
    quota = max(patches) if options.memory is None else options.memory // looks
    arrays = {"features": ((extractor.dim,), DISK_TYPES[extractor.encoder.dtype]), "votes": ((votes.number,), votes.type)}
    rows = [min(quota, number) for number in patches]
    store = context.scratch.open("memory", rows, arrays, digest(*train.ids), options.model_dump_json(), context.seed)
    missing = store.missing()
    with bar("memory of the training split", looks) as advance:
        advance(looks - len(missing))
        for items, samples, pixels_B3HW in _looked_at(context, train, options, votes, missing):
            _remember(context, store, items, samples, pixels_B3HW, options, votes)
            advance(len(items))
    store.join()
    features_ND, votes_NV = store.arrays["features"], store.arrays["votes"]
    store.close()  # the files stay for the head
    blocks = range(0, len(votes_NV), SCANNED_ROWS)
    rows_M = np.flatnonzero(np.concatenate([votes.there(votes_NV[start : start + SCANNED_ROWS]) for start in blocks]))
    if not len(rows_M):
        raise UserError("no training patch has a label", where=train.reader.name, fix="Check the split: `tips-bench data check`.")
    return PatchMemory(features_ND, votes_NV, rows_M, store.starts)


def _looked_at(
    context: RunContext, train: Split, options: MemoryOptions, votes: Votes, missing: list[int]
) -> Iterator[tuple[list[int], list[Any], Tensor]]:
    """(items, samples, pixels_B3HW in [0, 1]) of this rank's part of the missing items; item = pass x images + place."""
    extractor, card = context.extractor, options.augment
    if card is None:
        place_of = {index: place for place, index in enumerate(train.indices)}
        for batch, samples, pixels_B3HW in extractor.batches(train.reader, [train.indices[place] for place in missing]):
            yield [place_of[index] for index in batch], samples, pixels_B3HW
        return
    if extractor.image.shape == "aspect" or not votes.augmented:
        raise UserError("crops are made for segmentation and with image.shape square", where="probe.augment", fix="Set augment to null.")
    size = extractor.inner_size(1, 1)[0]

    def load(item: int) -> tuple[Any, Tensor]:
        sample = train.reader.load(train.indices[item % len(train)])
        return resized_labels(sample, card, size, context.seed, item)

    every = [missing[start : start + extractor.batch_size] for start in range(0, len(missing), extractor.batch_size)]
    chunks = extractor.world.share(every)
    for items, found in zip(
        chunks, loaded(load, chunks, extractor.workers, lambda one: one[1].nbytes, extractor.meter.waited), strict=True
    ):
        yield list(items), [sample for sample, _ in found], torch.stack([pixels_3HW for _, pixels_3HW in found])


def _remember(
    context: RunContext,
    store: ResumableArray,
    items: list[int],
    samples: list[Any],
    pixels_B3HW: Tensor,
    options: MemoryOptions,
    votes: Votes,
) -> None:
    """Write the chosen patches of a batch."""
    extractor = context.extractor.fresh() if options.augment else context.extractor
    found = extractor.encode(pixels_B3HW)
    inner, grid = (pixels_B3HW.shape[2], pixels_B3HW.shape[3]), (found.features_BhwD.shape[1], found.features_BhwD.shape[2])
    for item, sample, features_hwD in zip(items, samples, found.features_BhwD, strict=True):
        votes_PV = votes.of(sample, grid, inner, found.padding)
        quota, there_P = store.rows(item).stop - store.rows(item).start, votes.there(votes_PV)
        name = f"{sample.id} {item}" if options.augment else sample.id
        picked = rare_first(name, votes_PV, there_P, quota) if options.selection == "rare" else choose(name, there_P, quota)
        store.write(item, features=to_disk(features_hwD.flatten(0, 1)[picked]), votes=votes_PV[picked])
