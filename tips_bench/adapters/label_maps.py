"""Predicted label maps, counted and drawn; what the families with a class a pixel share.

Axes: H W pixels of the labels, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tips_bench.adapters.base import Split
from tips_bench.features.cache import FeatureCache
from tips_bench.features.inference import Prediction
from tips_bench.metrics.segmentation import SegmentationCounts, count
from tips_bench.pictures.panels import contact_sheet, panel, pca_basis, save_png
from tips_bench.progress import bar
from tips_bench.registry import METRICS

# Predictions of samples of a split, in any order; the first map of each is meant.
Predict = Callable[[list[int]], Iterator[Prediction]]


def count_maps(predict: Predict, test: Split, family: str, work: FeatureCache) -> SegmentationCounts:
    """Counts of every sample of the test split; what an earlier try counted is taken up from `work`."""
    reader, classes = test.reader, len(test.reader.classes)
    store = work.open("counts", [1] * len(test.indices), {"counts": ((3, classes), "int64")})
    position = {index: place for place, index in enumerate(test.indices)}
    missing = store.missing()
    with bar("scoring", len(test.indices)) as advance:
        advance(len(test.indices) - len(missing))
        for found in predict([test.indices[place] for place in missing]):
            counts_3C = count(found.predicted_SHW[0], found.sample.labels_HW, classes, where=f"{reader.name}: {found.sample.id}")
            store.write(position[found.index], counts=counts_3C)
            advance()
    result: SegmentationCounts = METRICS.get(family)(classes)
    for place, index in enumerate(test.indices):
        result.update(reader.ids[index], reader.groups[index], store.read(place, "counts")[0])
    store.close()
    return result


def draw_maps(predict: Predict, test: Split, number: int, stem: Path) -> list[str]:
    """Image | truth | prediction | PCA of the features, for `number` samples, and a sheet of all; returns the file names."""
    reader, chosen = test.reader, test.pick(number)
    found = sorted(predict(chosen), key=lambda prediction: chosen.index(prediction.index))
    features = [prediction.features_NhwD[0].float().cpu().numpy() for prediction in found]
    basis = pca_basis(features)
    panels: list[np.ndarray] = []
    for prediction, features_hwD in zip(found, features, strict=True):
        image_HW3, truth_HW = prediction.sample.image_HW3, prediction.sample.labels_HW
        colors = {"palette": reader.palette, "classes": reader.classes, "basis": basis}
        panels.append(panel(image_HW3, truth_HW, prediction.predicted_SHW[0], features_hwD, **colors))
    names = [f"{stem.name}-sheet.png", *(f"{stem.name}-{position}.png" for position in range(1, len(panels) + 1))]
    for name, picture in zip(names, [contact_sheet(panels), *panels], strict=True):
        save_png(picture, stem.with_name(name))
    return names
