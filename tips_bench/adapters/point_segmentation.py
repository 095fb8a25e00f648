"""The task family `point-segmentation`: labelled scans, features lifted from their frames, a linear head, integer counts of points.

Axes: N points, D feature, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.scoring import Scored, score_samples
from tips_bench.cards import ProtocolCard, TaskCard
from tips_bench.data.scans import ScanReader
from tips_bench.data.split import Split, Splits
from tips_bench.features.context import RunContext
from tips_bench.features.lifted import LiftedScan, lifted_scans
from tips_bench.metrics.points import PointCounts, count
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.panels import pca_basis
from tips_bench.pictures.point_clouds import Cloud, cloud_panel, save_cloud
from tips_bench.probes.linear_head import LinearHead
from tips_bench.registry import PROBES

CHUNK_POINTS = 1 << 14
BASIS_POINTS = 4000  # of each scan, from which the components of its pictures are found
NOTES = ("scored_frames", "scored_frames_without_pose", "scored_points", "scored_points_unseen")


class PointSegmentationAdapter:
    """Joins readers, probe and metric for one protocol."""

    needs_text = False
    observed = True

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task = task
        self.probe: Any = PROBES.get(str(protocol.probe.get("type")))(protocol.probe, f"protocol {protocol.name}")

    def open(self, root: Path, limit: int | None) -> Splits[ScanReader]:
        """Both splits."""
        return Splits.open(self.task.data, root, limit, train=True)

    def score(self, context: RunContext, splits: Splits[ScanReader], head: LinearHead, beside: dict[str, SampleCounts]) -> Scores:
        """Counts of every scan of the test split, and the numbers of NOTES over all of them."""
        reader, classes = splits.test.reader, splits.test.reader.classes

        def outcomes(indices: list[int]) -> Iterator[Scored]:
            for found in self._lifted(context, splits.test, indices):
                visible_N, predicted_N = (found.number_N > 0).cpu().numpy(), predict(head, found)
                where = f"{reader.name}: {found.scan.id}"
                counts_23C = count(predicted_N, found.scan.labels_N, visible_N, len(classes), where=where)
                notes = found.frames, found.skipped, len(visible_N), int(np.count_nonzero(~visible_N))
                yield Scored(found.index, found.scan, counts_23C, predicted_N, notes)

        return score_samples(context, splits.test, PointCounts.for_classes(classes), beside, outcomes, NOTES)

    def draw(self, context: RunContext, splits: Splits[ScanReader], head: LinearHead, indices: list[int]) -> list[Picture]:
        """Cloud | truth | prediction | PCA of the features.

        Beside each picture of a scan lies a PLY of the same name: truth, prediction and PCA as three colored clouds in a row.
        """
        reader, clouds, features = splits.test.reader, [], []
        for found in self._lifted(context, splits.test, indices):
            clouds.append(Cloud.of(found.scan, predict(head, found)))
            features.append(found.features_ND[torch.from_numpy(clouds[-1].drawn_M)].half().cpu().numpy())
        basis = pca_basis([features_MD[:: max(1, len(features_MD) // BASIS_POINTS)] for features_MD in features])
        pictures = []
        for cloud, features_MD in zip(clouds, features, strict=True):
            pca_M3 = basis.colors(features_MD)
            save = partial(save_cloud, cloud, pca_M3, reader.palette)
            pictures.append(Picture(cloud_panel(cloud, pca_M3, reader.palette, reader.classes), save))
        return pictures

    def _lifted(self, context: RunContext, test: Split[ScanReader], indices: list[int]) -> Any:
        return lifted_scans(test.reader, indices, context.extractor, self.probe.options.lifting)


def predict(head: LinearHead, found: LiftedScan) -> np.ndarray:
    """predicted_N, uint8: the class with the greatest logit, the lowest index on a tie."""
    parts = [head(features_MD[:, None, None])[:, :, 0, 0].argmax(1) for features_MD in found.features_ND.split(CHUNK_POINTS)]
    return torch.cat(parts).to(torch.uint8).cpu().numpy()
