"""Predicted label maps, counted and drawn; what the families with a class a pixel share.

Axes: H W pixels of the labels, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.scoring import Scored, score_samples
from tips_bench.data.base import SegmentationReader
from tips_bench.data.split import Split
from tips_bench.features.context import RunContext
from tips_bench.features.inference import Prediction
from tips_bench.metrics.samples import SampleCounts
from tips_bench.metrics.segmentation import SegmentationCounts, count
from tips_bench.pictures.panels import panel, pca_basis

# Predictions of samples of a split, in any order; the first map of each is meant.
Predict = Callable[[list[int]], Iterator[Prediction]]


def count_maps(context: RunContext, test: Split[SegmentationReader], predict: Predict, beside: dict[str, SampleCounts]) -> Scores:
    """Counts of every sample of the test split; what an earlier try counted is taken up."""
    reader, classes = test.reader, test.reader.classes

    def outcomes(indices: list[int]) -> Iterator[Scored]:
        for found in predict(indices):
            predicted_HW = found.predicted_SHW[0]
            counts_3C = count(predicted_HW, found.sample.labels_HW, len(classes), where=f"{reader.name}: {found.sample.id}")
            yield Scored(found.index, found.sample, counts_3C, predicted_HW)

    return score_samples(context, test, SegmentationCounts.for_classes(classes), beside, outcomes)


def draw_maps(predict: Predict, reader: SegmentationReader, indices: list[int]) -> list[Picture]:
    """Image | truth | prediction | PCA of the features."""
    found = sorted(predict(indices), key=lambda prediction: indices.index(prediction.index))
    features = [prediction.features_NhwD[0].float().cpu().numpy() for prediction in found]
    shown = partial(panel, palette=reader.palette, classes=reader.classes, basis=pca_basis(features))
    return [
        Picture(shown(one.sample.image_HW3, one.sample.labels_HW, one.predicted_SHW[0], features_hwD))
        for one, features_hwD in zip(found, features, strict=True)
    ]
