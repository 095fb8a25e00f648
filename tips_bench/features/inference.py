"""Heads applied to a split: the whole image or windows, at several scales and mirrored where a protocol says so.

Axes: N windows of an image, h w token grid of a window, D feature, S heads, C classes, T values, H W pixels of the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from tips_bench.cards import WindowCard
from tips_bench.data.base import ImageReader, SegmentationReader, SegmentationSample
from tips_bench.features.extract import Extractor, Images
from tips_bench.features.geometry import Kind, Upsampling, Windows, greatest

HELD_BATCHES = 4  # of windows, whose features are held at once where an image has several


class PixelHead(Protocol):
    """What makes a map of features: a LinearHead, or any other whose map covers the same windows with cells of one size.

    interpolation: how the map is brought to the size of the image.
    """

    @property
    def interpolation(self) -> Kind: ...

    def __call__(self, features_NhwD: Tensor) -> Tensor:
        """[N,T,h',w'] in float32: T values for each cell of a grid of its own over the padded windows."""


def mirror(values_THW: Tensor) -> Tensor:
    """Left and right swapped."""
    return values_THW.flip(-1)


@dataclass(frozen=True)
class View:
    """One look at an image. inner: size of the network input in pixels. mirrored: left and right are swapped."""

    inner: tuple[int, int]
    mirrored: bool
    features_NhwD: Tensor


Encoded = tuple[int, Any, list[View]]  # (index, sample, views)


@dataclass(frozen=True)
class _OneImage:
    """An image that is in no data set. image_HW3: uint8 RGB."""

    image_HW3: np.ndarray

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image_HW3.shape[0], self.image_HW3.shape[1]

    def load(self, index: int) -> _OneImage:
        """The image itself."""
        return self


@dataclass(frozen=True)
class Prediction:
    """predicted_SHW: class indices, uint8. features_NhwD: of the windows of the first view."""

    index: int
    sample: SegmentationSample
    predicted_SHW: np.ndarray
    features_NhwD: Tensor


@dataclass(frozen=True)
class ValuePrediction:
    """values_STHW: float32, mean over the views. features_NhwD: of the windows of the first view."""

    index: int
    sample: Any
    values_STHW: Tensor
    features_NhwD: Tensor


@dataclass(frozen=True)
class Inference:
    """How a protocol applies heads."""

    extractor: Extractor
    window: WindowCard

    def predict(self, reader: SegmentationReader, indices: list[int], heads: Sequence[PixelHead]) -> Iterator[Prediction]:
        """Classes for all `indices`, in the order in which batches of one size are formed.

        Several views: the class of the greatest mean probability, each view's softmax taken at the labels' resolution.
        """
        for index, sample, views in self.features(reader, indices):
            outer = sample.labels_HW.shape
            maps = [self._argmax(head, views, outer).cpu().numpy() for head in heads]
            yield Prediction(index, sample, np.stack(maps), views[0].features_NhwD)

    def values(
        self, reader: ImageReader[Any], indices: list[int], heads: Sequence[PixelHead], unmirror: Callable[[Tensor], Tensor] = mirror
    ) -> Iterator[ValuePrediction]:
        """Values for all `indices` at the image's own resolution, in the order in which batches of one size are formed.

        unmirror: [T, H, W] values of a mirrored image -> those of the image.
        """
        for index, sample, views in self.features(reader, indices):
            outer = sample.image_HW3.shape[:2]
            means = [self._mean(head, views, outer, unmirror) for head in heads]
            yield ValuePrediction(index, sample, torch.stack(means), views[0].features_NhwD)

    def classes_of(self, image_HW3: np.ndarray, head: PixelHead, outer: tuple[int, int]) -> Tensor:
        """[H,W] uint8: the classes of one image that is in no data set, as `predict` gives them. outer: size of the map in pixels."""
        ((_, _, views),) = self.features(_OneImage(image_HW3), [0])
        return self._argmax(head, views, outer)

    def values_of(
        self, image_HW3: np.ndarray, head: PixelHead, outer: tuple[int, int], unmirror: Callable[[Tensor], Tensor] = mirror
    ) -> Tensor:
        """[T,H,W] float32: the values of one image that is in no data set, as `values` gives them. outer: size of the map in pixels."""
        ((_, _, views),) = self.features(_OneImage(image_HW3), [0])
        return self._mean(head, views, outer, unmirror)

    def _mean(self, head: PixelHead, views: list[View], outer: tuple[int, int], unmirror: Callable[[Tensor], Tensor]) -> Tensor:
        return cast(Tensor, sum(self._upsampled(head, view, outer, unmirror) for view in views)) / len(views)

    def _argmax(self, head: PixelHead, views: list[View], outer: tuple[int, int]) -> Tensor:
        if len(views) == 1 and not views[0].mirrored:
            logits_NChw = head(views[0].features_NhwD)
            upsampling, windows = self._upsampling(views[0], outer, logits_NChw, head.interpolation)
            return upsampling.argmax(windows.mosaic(logits_NChw))
        shares_CHW = reduce(torch.add, (torch.softmax(self._upsampled(head, view, outer, mirror), 0) for view in views))
        return greatest(shares_CHW, 0)

    def _upsampled(self, head: PixelHead, view: View, outer: tuple[int, int], unmirror: Callable[[Tensor], Tensor]) -> Tensor:
        """[T, H, W] of one view, not mirrored any more."""
        values_NThw = head(view.features_NhwD)
        upsampling, windows = self._upsampling(view, outer, values_NThw, head.interpolation)
        values_THW = upsampling(windows.mosaic(values_NThw))
        return unmirror(values_THW) if view.mirrored else values_THW

    def _upsampling(self, view: View, outer: tuple[int, int], maps_NThw: Tensor, kind: Kind) -> tuple[Upsampling, Windows]:
        windows, grid = Windows.of(view.inner, self.window), (maps_NThw.shape[-2], maps_NThw.shape[-1])
        return Upsampling.of(grid, self.extractor.padding(*windows.size), windows, outer, maps_NThw.device, kind), windows

    @property
    def _views(self) -> list[tuple[float, bool]]:
        """(scale, mirrored) of each view, the first at scale 1 and not mirrored wherever a protocol has that one."""
        return list(product(self.window.scales, (False, True) if self.window.flip else (False,)))

    def features(self, reader: Images, indices: list[int]) -> Iterator[Encoded]:
        """Features of the windows of this rank's part of `indices`, in the order in which batches are formed."""
        for batch, samples, pixels_B3HW in self.extractor.batches(reader, indices, whole=self.window.mode == "whole"):
            together = self._images_together((pixels_B3HW.shape[-2], pixels_B3HW.shape[-1]))
            for start in range(0, len(batch), together):
                part = slice(start, start + together)
                yield from zip(batch[part], samples[part], self._viewed(samples[part], pixels_B3HW[part]), strict=True)

    def _images_together(self, inner: tuple[int, int]) -> int:
        """How many images of a batch are held with all their windows: 168 windows of 512 px are gigabytes of features."""
        sizes = [(max(1, round(scale * inner[0])), max(1, round(scale * inner[1]))) for scale, _ in self._views]
        windows = sum(len(found.tops) * len(found.lefts) for found in (Windows.of(size, self.window) for size in sizes))
        return max(1, HELD_BATCHES * self.extractor.batch_size // windows)

    def _viewed(self, samples: list[Any], pixels_B3HW: Tensor) -> list[list[View]]:
        """All views of each image."""
        views: list[list[View]] = [[] for _ in samples]
        for scale, mirrored in self._views:
            seen = pixels_B3HW if scale == 1 else [self.extractor.pixels(sample.image_HW3, scale) for sample in samples]
            if mirrored:
                seen = [pixels_3HW.flip(-1) for pixels_3HW in seen]
            for found, view in zip(views, self._encode(seen, mirrored), strict=True):
                found.append(view)
        return views

    def _encode(self, images: Sequence[Tensor] | Tensor, mirrored: bool) -> Iterator[View]:
        """Views of the images; those of one size in one go. A batch that is encoded whole is not copied: it may lie in pinned memory."""
        sizes = {(image_3HW.shape[-2], image_3HW.shape[-1]) for image_3HW in images}
        groups = [images] if len(sizes) == 1 else [[image_3HW] for image_3HW in images]
        for group in groups:
            inner = (group[0].shape[-2], group[0].shape[-1])
            windows = Windows.of(inner, self.window)
            if isinstance(group, Tensor) and windows.size == inner:
                found = self.extractor.encode(group)
            else:
                found = self.extractor.encode(torch.cat([windows.cut(image_3HW) for image_3HW in group]))
            for features_NhwD in found.features_BhwD.split(len(windows.tops) * len(windows.lefts)):
                # One layout for every size of batch: a product may round otherwise where it reads along another axis.
                yield View(inner, mirrored, features_NhwD.contiguous())
