"""The task family `segmentation`: readers of label maps, a head of class logits, integer counts of pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.label_maps import count_maps, draw_maps
from tips_bench.cards import ProtocolCard, TaskCard
from tips_bench.data.base import SegmentationReader
from tips_bench.data.split import Splits
from tips_bench.features.context import RunContext
from tips_bench.features.inference import Inference, PixelHead
from tips_bench.metrics.samples import SampleCounts
from tips_bench.probes.base import Probe
from tips_bench.registry import PROBES


class SegmentationAdapter:
    """Joins readers, probe and metric for one protocol."""

    needs_text = False
    observed = True

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task = task
        self.probe: Probe = PROBES.get(str(protocol.probe.get("type")))(protocol.probe, f"protocol {protocol.name}")

    def open(self, root: Path, limit: int | None) -> Splits[SegmentationReader]:
        """No train split for a released head."""
        return Splits.open(self.task.data, root, limit, train=self.probe.reads_train)

    def score(self, context: RunContext, splits: Splits[SegmentationReader], head: PixelHead, beside: dict[str, SampleCounts]) -> Scores:
        """Counts of every image of the test split."""
        test = splits.test
        return count_maps(context, test, lambda indices: context.inference.predict(test.reader, indices, [head]), beside)

    def map_of(self, inference: Inference, head: PixelHead, image_HW3: np.ndarray, outer: tuple[int, int]) -> np.ndarray:
        """[H,W] uint8 class indices."""
        return inference.classes_of(image_HW3, head, outer).cpu().numpy()

    def draw(self, context: RunContext, splits: Splits[SegmentationReader], head: PixelHead, indices: list[int]) -> list[Picture]:
        """Image | truth | prediction | PCA of the features."""
        reader = splits.test.reader
        return draw_maps(lambda indices: context.inference.predict(reader, indices, [head]), reader, indices)
