"""The patch bank: features and soft labels of a bounded, reproducible choice of patches from every training image.

Axes: P patches of an image, D feature, C classes, N patches of the bank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.features.cache import DISK_TYPES, to_disk
from tips_bench.features.context import RunContext
from tips_bench.features.store import ResumableArray
from tips_bench.files import digest
from tips_bench.probes.patch_labels import patch_counts
from tips_bench.progress import bar


@dataclass(frozen=True)
class Bank:
    """A filled store. indices: the reader's samples, in the order of the store's items. beside: arrays that are not in the store."""

    store: ResumableArray
    indices: list[int]
    beside: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arrays(self) -> Mapping[str, Any]:
        """All of them, a row a patch."""
        return {**self.store.arrays, **self.beside}

    def rows(self, indices: list[int]) -> np.ndarray:
        """The bank's rows of some of its samples, ascending."""
        item = {index: position for position, index in enumerate(self.indices)}
        slices = [self.store.rows(item[index]) for index in sorted(indices, key=item.__getitem__)]
        return np.concatenate([np.arange(part.start, part.stop) for part in slices])


def choose(id: str, labeled_P: np.ndarray, quota: int) -> np.ndarray:
    """Indices of `quota` patches in an order drawn from the sample's id, labelled ones first; ascending."""
    generator = np.random.Generator(np.random.Philox(key=int(digest("patches", id)[:32], 16)))
    order = generator.permutation(len(labeled_P))
    order = np.concatenate([order[labeled_P[order]], order[~labeled_P[order]]])
    return np.sort(order[:quota])


def fill(context: RunContext, train: Split, max_patches: int, patches_per_image: int, *, labeled_first: bool = True) -> Bank:
    """Run the encoder over the samples that are not in the bank yet; the same number of patches is taken from each sample.

    labeled_first: patches without a label are taken only where there are not enough others. Errors: more samples than patches.
    """
    extractor, reader, indices = context.extractor, train.reader, train.indices
    classes = len(reader.classes)
    quota = min(patches_per_image, max_patches // len(indices))
    if quota == 0:
        problem = f"max_patches = {max_patches} is less than the number of images, {len(indices)}"
        raise UserError(problem, fix="Set probe.max_patches to at least one patch per image.")
    sizes = [reader.size(index) for index in indices]
    rows = [min(quota, int(np.prod(extractor.grid(*size)))) for size in sizes]
    most_pixels = max(size[0] * size[1] / np.prod(extractor.grid(*size)) for size in sizes)
    counts_type = "uint16" if 2 * most_pixels < 1 << 16 else "uint32"
    arrays = {
        "features": ((extractor.dim,), DISK_TYPES[extractor.encoder.dtype]),
        "counts": ((classes,), counts_type),
        "area": ((), "uint32"),
    }
    store = context.scratch.open("bank", rows, arrays, digest(*train.ids), quota)
    item = {index: position for position, index in enumerate(indices)}
    missing = store.missing()
    with bar("features of the training split", len(indices)) as advance:
        advance(len(indices) - len(missing))
        for batch, samples, pixels_B3HW in extractor.batches(reader, [indices[position] for position in missing]):
            found = extractor.encode(pixels_B3HW)
            inner, grid = (pixels_B3HW.shape[2], pixels_B3HW.shape[3]), (found.features_BhwD.shape[1], found.features_BhwD.shape[2])
            for index, sample, features_hwD in zip(batch, samples, found.features_BhwD, strict=True):
                counts_PC = patch_counts(sample.labels_HW, grid, inner, found.padding, classes)
                area_P = patch_counts(np.zeros_like(sample.labels_HW), grid, inner, found.padding, 1)[:, 0]
                preferred_P = counts_PC.sum(1) > 0 if labeled_first else np.ones(len(counts_PC), bool)
                picked = choose(sample.id, preferred_P, store.rows(item[index]).stop - store.rows(item[index]).start)
                features_PD = features_hwD.flatten(0, 1)[picked]
                store.write(item[index], features=to_disk(features_PD), counts=counts_PC[picked], area=area_P[picked])
            advance(len(batch))
    return Bank(store.join(), indices)
