"""What the task families `depth` and `normals` share: a head of values for every pixel, sums of each image, pictures.

Axes: H W pixels, T values of a pixel, N windows, D feature, S the sums of a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.scoring import Scored, score_samples
from tips_bench.cards import ProtocolCard, TaskCard
from tips_bench.data.split import Splits
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.inference import Inference, PixelHead
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.panels import PcaBasis, pca_basis
from tips_bench.probes.pixel_targets import PixelProbe, PixelTarget
from tips_bench.registry import PIXEL_PROBES


class PixelValuesAdapter:
    """Joins readers, probe and metric for one protocol. A family sets `counts` and gives `target_of` and `panel`."""

    needs_text = False
    observed = True
    counts: ClassVar[type[SampleCounts]]

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task, self.target = task, self.target_of(task)
        where = f"protocol {protocol.name}"
        if protocol.image.crops or protocol.image.from_encoder:
            problem = "a crop of the image leaves pixels without a prediction"
            raise UserError(problem, where=f"{where}, image", fix="Use shape aspect or square, without crop, cut and from_encoder.")
        self.probe: PixelProbe = PIXEL_PROBES.get(str(protocol.probe.get("type")))(protocol.probe, where, self.target)

    def target_of(self, task: TaskCard) -> PixelTarget:
        """What is learnt and scored, as the task's options say."""
        raise NotImplementedError

    def panel(self, sample: Any, values_THW: np.ndarray, features_hwD: np.ndarray, basis: PcaBasis) -> np.ndarray:
        """The picture of one sample and its finished values; uint8 RGB."""
        raise NotImplementedError

    def open(self, root: Path, limit: int | None) -> Splits:
        """No train split for a released head."""
        return Splits.open(self.task.data, root, limit, train=self.probe.reads_train)

    def score(self, context: RunContext, splits: Splits, head: PixelHead, beside: dict[str, SampleCounts]) -> Scores:
        """Sums of every image of the test split."""
        reader, target = splits.test.reader, self.target

        def outcomes(indices: list[int]) -> Iterator[Scored]:
            for found in context.inference.values(reader, indices, [head], target.unmirror):
                values_THW = target.finished(found.values_STHW[0]).cpu().numpy()
                sums_S = target.count(values_THW, found.sample, where=f"{reader.name}: {found.sample.id}")
                yield Scored(found.index, found.sample, sums_S, values_THW)

        return score_samples(context, splits.test, self.counts.for_classes([]), beside, outcomes)

    def map_of(self, inference: Inference, head: PixelHead, image_HW3: np.ndarray, outer: tuple[int, int]) -> np.ndarray:
        """[T,H,W] float32: metres, or unit normals."""
        return self.target.finished(inference.values_of(image_HW3, head, outer, self.target.unmirror)).cpu().numpy()

    def draw(self, context: RunContext, splits: Splits, head: PixelHead, indices: list[int]) -> list[Picture]:
        """Image | truth | prediction | PCA of the features."""
        reader = splits.test.reader
        found = sorted(
            context.inference.values(reader, indices, [head], self.target.unmirror), key=lambda prediction: indices.index(prediction.index)
        )
        features = [prediction.features_NhwD[0].float().cpu().numpy() for prediction in found]
        basis, pictures = pca_basis(features), []
        for prediction, features_hwD in zip(found, features, strict=True):
            values_THW = self.target.finished(prediction.values_STHW[0]).cpu().numpy()
            pictures.append(Picture(self.panel(prediction.sample, values_THW, features_hwD, basis)))
        return pictures
