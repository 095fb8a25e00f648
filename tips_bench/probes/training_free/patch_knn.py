"""The probe `patch-knn`: each pixel gets the label that most of the nearest training patches show at its place in the patch.

The k-NN segmentation of CAPI (facebookresearch/capi 98b4fa1, eval_segmentation.py:70-278, 384-443): features are standardized, a patch of
the memory keeps the labels of all its pixels, neighbors vote alike, and their number and the distance are chosen on a held-out part of
the training images by the mIoU at the size of the network input.

Axes: N windows or patches of the memory, h w token grid, D feature, Q patches, k neighbors, V pixels of a patch, C classes, S grid points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tips_bench.cards import Strict, parse
from tips_bench.data.base import IGNORE
from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.features.cache import from_disk
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor
from tips_bench.features.geometry import Kind
from tips_bench.features.image_embeddings import follow, point_to
from tips_bench.features.patch_search import PatchSearch, Standard
from tips_bench.metrics import segmentation
from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.base import Choice, Fit
from tips_bench.probes.training_free.patch_memory import MemoryOptions, PatchMemory, fill_memory

Distance = Literal["cosine", "euclidean"]
TOGETHER = 16  # held-out images that look through the memory at once
QUERIES = 256  # whose votes are counted at once


class PatchKnnOptions(Strict):
    """k, distance: numbers of neighbors and distances to choose from, the first of equally good ones."""

    type: Literal["patch-knn"]
    k: list[int] = Field(min_length=1)
    distance: list[Distance] = Field(min_length=1)

    @property
    def grid(self) -> list[tuple[int, Distance]]:
        """In the order of the source."""
        return [(k, distance) for k in self.k for distance in self.distance]


@dataclass(frozen=True)
class PixelBlocks:
    """The label of each pixel of a patch, at the size of the network input. side: of a patch in pixels."""

    side: int
    classes: int
    type = "uint8"
    augmented = False

    @classmethod
    def of_grid(cls, extractor: Extractor, classes: int) -> PixelBlocks:
        """Patches as the features have them."""
        return cls(extractor.patch_size // (extractor.upsampler.factor if extractor.upsampler else 1), classes)

    @property
    def number(self) -> int:
        """V."""
        return self.side**2

    def of(self, sample: Any, grid: tuple[int, int], inner: tuple[int, int], padding: tuple[int, int, int, int]) -> np.ndarray:
        """labels_PV, nearest pixels; IGNORE in the padding. Errors: patches that are not whole."""
        left, top, right, bottom = padding
        if (inner[0] + top + bottom, inner[1] + left + right) != (grid[0] * self.side, grid[1] * self.side):
            problem = f"{grid[0]} x {grid[1]} patches of {self.side} px do not cover an input of {inner[0]} x {inner[1]} px"
            raise UserError(problem, where="image.fit", fix="Use fit: pad.")
        rows, columns = (
            (2 * np.arange(size) + 1) * length // (2 * size) for size, length in zip(inner, sample.labels_HW.shape, strict=True)
        )
        labels_HW = np.pad(sample.labels_HW[rows[:, None], columns], ((top, bottom), (left, right)), constant_values=IGNORE)
        blocks = labels_HW.reshape(grid[0], self.side, grid[1], self.side).swapaxes(1, 2)
        return blocks.reshape(-1, self.number)

    def there(self, votes_NV: np.ndarray) -> np.ndarray:
        """bool [N]: where a class has more pixels than have none."""
        bins = self.classes + 1
        codes_NV = np.arange(len(votes_NV))[:, None] * bins + np.minimum(votes_NV, self.classes)
        counts_NC = np.bincount(codes_NV.ravel(), minlength=len(votes_NV) * bins).reshape(-1, bins)
        return np.asarray(counts_NC[:, :-1].max(1) > counts_NC[:, -1])


def pixel_votes(blocks_QkV: Tensor, classes: int) -> Tensor:
    """[Q,C,V] float32: how many neighbors show a class at a pixel; where none shows any, how many pixels of all neighbors show it."""
    known_QkV = blocks_QkV.long().clamp(max=classes)
    votes_QCV = torch.zeros(len(known_QkV), classes + 1, known_QkV.shape[2], device=known_QkV.device)
    votes_QCV = votes_QCV.scatter_add_(1, known_QkV, torch.ones_like(known_QkV, dtype=torch.float32))[:, :-1]
    return torch.where(votes_QCV.any(1, keepdim=True), votes_QCV, votes_QCV.sum(2, keepdim=True))


class PatchKnnHead:
    """A memory that votes pixel by pixel. blocks_NV: labels of the pixels of its patches. k: as in PatchKnnOptions, the chosen one."""

    interpolation: ClassVar[Kind] = "nearest"

    def __init__(self, search: PatchSearch, blocks_NV: np.ndarray, classes: int, k: int) -> None:
        self.search, self.blocks_NV, self.classes, self.k = search, blocks_NV, classes, k

    def __call__(self, features_NhwD: Tensor) -> Tensor:
        """[N,C,h*side,w*side] in float32, on the features' device: votes of each pixel."""
        windows, height, width, _ = features_NhwD.shape
        rows_Qk = self.search.ranked(features_NhwD.flatten(0, 2), min(self.k, len(self.search.rows_M)))
        side = round(self.blocks_NV.shape[1] ** 0.5)
        votes = self.votes(rows_Qk).view(windows, height, width, self.classes, side, side)
        return votes.permute(0, 3, 1, 4, 2, 5).reshape(windows, self.classes, height * side, width * side)

    def votes(self, rows_Qk: Tensor) -> Tensor:
        """[Q,C,V] of neighbors."""
        stored = self.blocks_NV[rows_Qk.cpu().numpy().ravel()]
        return pixel_votes(torch.from_numpy(stored).to(rows_Qk.device).view(*rows_Qk.shape, -1), self.classes)

    def save(self, path: Path) -> None:
        """Write all but the memory, which stays where it is, as .npz, atomically."""
        standard = self.search.standard
        assert standard is not None, "made by PatchKnnProbe"
        save_npz(
            path,
            **point_to(self.search.features_ND, path),
            **point_to(self.blocks_NV, path, "blocks"),
            rows=self.search.rows_M,
            distance=np.array(self.search.distance),
            mean=standard.mean_D.numpy(),
            deviation=standard.deviation_D.numpy(),
            classes=np.array(self.classes),
            k=np.array(self.k),
        )

    @classmethod
    def load(cls, path: Path) -> PatchKnnHead:
        """Read what `save` wrote. Errors: a broken file, a memory that is not there any more."""

        def head(data: Any) -> PatchKnnHead:
            standard = Standard(torch.from_numpy(data["mean"]), torch.from_numpy(data["deviation"]))
            distance: Any = str(data["distance"])
            search = PatchSearch(follow(data, path), data["rows"], distance=distance, standard=standard)
            return cls(search, follow(data, path, "blocks"), int(data["classes"]), int(data["k"]))

        return read_npz(path, "probe", head)


class PatchKnnProbe:
    """Built from a card's `probe` mapping."""

    reads_train = True
    is_memory = True
    load = staticmethod(PatchKnnHead.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(PatchKnnOptions, options, where=where, prefix="probe.")

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Remember all training patches; standardize by those that are not held out; choose k and the distance on those that are."""
        options, classes = self.options, len(train.reader.classes)
        kept, held = train.validation_places(context.selection)
        every = MemoryOptions(type=options.type, k=max(options.k), temperature=None, memory=None, selection="even")
        memory = fill_memory(context, train, every, PixelBlocks.of_grid(context.extractor, classes))
        standard, choice = standard_of(memory, kept), None
        if len(options.grid) > 1:
            of_kept = np.isin(np.searchsorted(memory.starts, memory.rows_M, side="right") - 1, kept)
            among = replace(memory, rows_M=memory.rows_M[of_kept])
            choice = choose(context, options, [head_of(among, standard, classes, *point) for point in options.grid], memory, held)
        head, patches = head_of(memory, standard, classes, *options.grid[choice.index if choice else 0]), len(memory.rows_M)
        report = {"patches": patches, "images": len(train), "k": head.k, "distance": head.search.distance}
        warnings = [f"k = {head.k} is more than the {patches} patches of the memory, which all vote then"] if head.k > patches else []
        return Fit(head, report, choice, warnings)


def head_of(memory: PatchMemory, standard: Standard, classes: int, k: int, distance: Distance) -> PatchKnnHead:
    """The head of a grid point."""
    search = PatchSearch(memory.features_ND, memory.rows_M, distance=distance, standard=standard)
    return PatchKnnHead(search, memory.votes_NV, classes, k)


def standard_of(memory: PatchMemory, places: list[int]) -> Standard:
    """Of all patches of these images, with and without labels; a feature that does not vary keeps its scale."""
    blocks = [slice(memory.starts[place], memory.starts[place + 1]) for place in places]
    number, dim = sum(block.stop - block.start for block in blocks), memory.features_ND.shape[1]
    total_D, square_D = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
    for block in blocks:
        total_D += _read(memory, block).double().sum(0)
    mean_D = total_D / number
    for block in blocks:
        square_D += (_read(memory, block).double() - mean_D).square().sum(0)
    deviation_D = (square_D / number).sqrt()
    flat_D = deviation_D <= torch.finfo(torch.float32).eps * mean_D.abs()
    return Standard(mean_D, deviation_D.masked_fill(flat_D, 1.0))


def choose(context: RunContext, options: PatchKnnOptions, heads: list[PatchKnnHead], memory: PatchMemory, held: list[int]) -> Choice:
    """By the mIoU of each head on the patches of the held-out images. Errors: none of their pixels has a label."""
    world, classes = context.extractor.world, heads[0].classes
    counts_S3C = np.zeros((len(heads), 3, classes), np.int64)
    for places in world.share([held[start : start + TOGETHER] for start in range(0, len(held), TOGETHER)]):
        rows_Q = np.concatenate([np.arange(*memory.starts[place : place + 2]) for place in places])
        counts_S3C += _counts(options, heads, memory, rows_Q, context.encoder.device)
    scores_S = segmentation.summary(sum(world.gather(counts_S3C)))["mIoU"]
    if np.isnan(scores_S).all():
        raise UserError("no held-out training image has a label", where="selection", fix="Use more training images.")
    grid = [{"k": float(k), "euclidean": float(distance == "euclidean")} for k, distance in options.grid]
    return Choice(grid, [float(score) for score in scores_S], int(np.nanargmax(scores_S)), len(held), "mIoU of the network input's pixels")


def _counts(
    options: PatchKnnOptions, heads: list[PatchKnnHead], memory: PatchMemory, rows_Q: np.ndarray, device: torch.device
) -> np.ndarray:
    """counts_S3C of patches of the memory; one search for each distance finds the neighbors for all numbers of them."""
    queries_QD, labels_QV = from_disk(memory.features_ND[rows_Q]).float().to(device), np.array(memory.votes_NV[rows_Q])
    searches = {head.search.distance: head.search for head in reversed(heads)}
    near = {distance: search.ranked(queries_QD, min(max(options.k), len(search.rows_M))) for distance, search in searches.items()}
    found = []
    for head in heads:
        predicted_QV = torch.cat([head.votes(rows_qk).argmax(1) for rows_qk in near[head.search.distance][:, : head.k].split(QUERIES)])
        found.append(segmentation.count(predicted_QV.cpu().numpy(), labels_QV, head.classes))
    return np.stack(found)


def _read(memory: PatchMemory, rows: slice) -> Tensor:
    return from_disk(np.array(memory.features_ND[rows])).float()
