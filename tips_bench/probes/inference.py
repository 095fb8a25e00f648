"""Heads applied to a split: the whole image or windows, upsampled to the labels' own resolution.

Axes: N windows of an image, h w token grid of a window, D feature, S heads, H W pixels of the labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tips_bench.cards import WindowCard
from tips_bench.data.base import SegmentationReader, SegmentationSample
from tips_bench.encoders.base import padding_of
from tips_bench.features.extract import Extractor
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.features.store import DISK_TYPES, Shelf, from_disk, to_disk
from tips_bench.probes.head import LinearHead

# (index, sample, size of the network input, features_NhwD)
Encoded = tuple[int, Any, tuple[int, int], Tensor]


@dataclass(frozen=True)
class Prediction:
    """predicted_SHW: class indices, uint8. features_NhwD: of the sample's windows."""

    index: int
    sample: SegmentationSample
    predicted_SHW: np.ndarray
    features_NhwD: Tensor


@dataclass(frozen=True)
class Inference:
    """How a protocol applies heads. shelf: where whole-image features are kept if it is a cache; a work folder keeps none."""

    extractor: Extractor
    window: WindowCard
    shelf: Shelf | None = None

    def predict(self, reader: SegmentationReader, indices: list[int], heads: list[LinearHead]) -> Iterator[Prediction]:
        """Predictions for all `indices`, in the order in which batches of one size are formed."""
        for index, sample, inner, features_NhwD in self.features(reader, indices):
            windows = Windows.of(inner, self.window)
            spec = self.extractor.encoder.spec
            padding = padding_of(*windows.size, spec.patch_size, spec.pad)
            grid, outer = tuple(features_NhwD.shape[1:3]), sample.labels_HW.shape
            upsampling = Upsampling.of(grid, padding, windows, outer, features_NhwD.device)
            maps = [upsampling.argmax(windows.mosaic(head(features_NhwD))).cpu().numpy() for head in heads]
            yield Prediction(index, sample, np.stack(maps), features_NhwD)

    def features(self, reader: Any, indices: list[int]) -> Iterator[Encoded]:
        """Features of the windows of all `indices`, from the cache where there is one; in the order in which batches are formed."""
        if self.shelf is None or self.shelf.identity is None or self.window.mode != "whole" or not indices:
            yield from self._encoded(reader, indices)
        else:
            yield from self._cached(reader, indices, self.shelf)

    def _encoded(self, reader: Any, indices: list[int]) -> Iterator[Encoded]:
        for batch, samples, pixels_B3HW in self.extractor.batches(reader, indices):
            inner = tuple(pixels_B3HW.shape[-2:])
            windows = Windows.of(inner, self.window)
            found = self.extractor.encode(torch.cat([windows.cut(pixels_3HW) for pixels_3HW in pixels_B3HW]))
            per_image = found.features_BhwD.split(len(windows.tops) * len(windows.lefts))
            yield from ((index, sample, inner, features) for index, sample, features in zip(batch, samples, per_image, strict=True))

    def _cached(self, reader: Any, indices: list[int], shelf: Shelf) -> Iterator[Encoded]:
        extractor, device = self.extractor, self.extractor.encoder.device
        grids = [extractor.grid(*reader.size(index)) for index in range(len(reader))]
        arrays: dict[str, Any] = {"features": ((extractor.dim,), DISK_TYPES[extractor.encoder.dtype])}
        store = shelf.open("whole", [rows * columns for rows, columns in grids], arrays, reader.split)
        missing = sorted(set(store.missing()) & set(indices))
        for index, sample, inner, features_NhwD in self._encoded(reader, missing):
            store.write(index, features=to_disk(features_NhwD.flatten(0, 2)))
            yield index, sample, inner, features_NhwD
        for index in sorted(set(indices) - set(missing)):
            sample = reader.load(index)
            features_NhwD = from_disk(store.read(index, "features")).view(1, *grids[index], -1).to(device)
            yield index, sample, extractor.inner_size(*sample.image_HW3.shape[:2]), features_NhwD
        shelf.finish(store)
