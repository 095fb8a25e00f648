"""The task family `point-segmentation`: labelled scans, features lifted from their frames, a linear head, integer counts of points.

Axes: N points, D feature, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tips_bench.adapters.base import Split
from tips_bench.cards import ProtocolCard, TaskCard
from tips_bench.features.cache import FeatureCache
from tips_bench.features.inference import Inference
from tips_bench.features.lifted import LiftedScan, lifted_scans
from tips_bench.metrics.points import PointCounts, count
from tips_bench.pictures.panels import contact_sheet, pca_basis, save_png
from tips_bench.pictures.point_clouds import Cloud, cloud_panel, save_cloud
from tips_bench.probes.base import Fit, FitContext
from tips_bench.probes.linear_head import LinearHead
from tips_bench.progress import bar
from tips_bench.registry import METRICS, PROBES

CHUNK_POINTS = 1 << 14
BASIS_POINTS = 4000  # of each scan, from which the components of its pictures are found
NOTES = ("frames", "frames_without_pose", "points", "points_unseen")


class PointSegmentationAdapter:
    """Joins readers, probe and metric for one protocol."""

    needs_text = False

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task = task
        self.probe: Any = PROBES.get(str(protocol.probe.get("type")))(protocol.probe, f"protocol {protocol.name}")

    def open(self, root: Path, limit: int | None) -> tuple[Split, Split]:
        """(train, test)."""
        return Split.open(self.task.data, root, "train", limit), Split.open(self.task.data, root, "test", limit)

    def fit(self, context: FitContext) -> Fit:
        """The probe's fit on the training split."""
        return self.probe.fit(context)

    def load_head(self, path: Path) -> LinearHead:
        """The head that an earlier try saved."""
        return LinearHead.load(path)

    def score(self, inference: Inference, test: Split, fit: Fit, work: FeatureCache) -> PointCounts:
        """Counts of every scan of the test split; what an earlier try counted is taken up from `work`.

        The fit's report is given the numbers of NOTES over all scored scans.
        """
        reader, classes = test.reader, len(test.reader.classes)
        arrays = {"counts": ((2, 3, classes), "int64"), "notes": ((len(NOTES),), "int64")}
        store = work.open("counts", [1] * len(test.indices), arrays)
        position = {index: place for place, index in enumerate(test.indices)}
        missing = store.missing()
        with bar("scoring", len(test.indices), "scans") as advance:
            advance(len(test.indices) - len(missing))
            for found in self._lifted(inference, test, [test.indices[place] for place in missing]):
                visible_N, where = (found.number_N > 0).cpu().numpy(), f"{reader.name}: {found.scan.id}"
                counts_23C = count(predict(fit.head, found), found.scan.labels_N, visible_N, classes, where=where)
                notes = np.array([found.frames, found.skipped, len(visible_N), np.count_nonzero(~visible_N)])
                store.write(position[found.index], counts=counts_23C, notes=notes)
                advance()
        result: PointCounts = METRICS.get("point-segmentation")(classes)
        notes = np.zeros(len(NOTES), np.int64)
        for place, index in enumerate(test.indices):
            result.update(reader.ids[index], reader.groups[index], store.read(place, "counts")[0])
            notes += store.read(place, "notes")[0]
        fit.report.update({f"scored_{name}": int(value) for name, value in zip(NOTES, notes, strict=True)})
        store.close()
        return result

    def draw(self, inference: Inference, test: Split, fit: Fit, number: int, stem: Path) -> list[str]:
        """Cloud | truth | prediction | PCA of the features, for `number` scans, and a sheet of all.

        Beside each picture of a scan lies a PLY of the same name: truth, prediction and PCA as three coloured clouds in a row.
        """
        clouds, features = [], []
        for found in self._lifted(inference, test, test.pick(number)):
            clouds.append(Cloud.of(found.scan, predict(fit.head, found)))
            features.append(found.features_ND[torch.from_numpy(clouds[-1].drawn_M)].half().cpu().numpy())
        basis = pca_basis([features_MD[:: max(1, len(features_MD) // BASIS_POINTS)] for features_MD in features])
        colors = [basis.colors(features_MD) for features_MD in features]
        reader = test.reader
        panels = [cloud_panel(cloud, pca_M3, reader.palette, reader.classes) for cloud, pca_M3 in zip(clouds, colors, strict=True)]
        names = [f"{stem.name}-sheet.png", *(f"{stem.name}-{place}.png" for place in range(1, len(panels) + 1))]
        for name, picture in zip(names, [contact_sheet(panels), *panels], strict=True):
            save_png(picture, stem.with_name(name))
        for name, cloud, pca_M3 in zip(names[1:], clouds, colors, strict=True):
            save_cloud(cloud, pca_M3, reader.palette, stem.with_name(f"{name.removesuffix('.png')}.ply"))
        return names

    def _lifted(self, inference: Inference, test: Split, indices: list[int]) -> Any:
        return lifted_scans(test.reader, indices, inference.extractor, self.probe.options.lifting, inference.cache)


def predict(head: LinearHead, found: LiftedScan) -> np.ndarray:
    """predicted_N, uint8: the class with the greatest logit, the lowest index on a tie."""
    parts = [head(features_MD[:, None, None])[:, :, 0, 0].argmax(1) for features_MD in found.features_ND.split(CHUNK_POINTS)]
    return torch.cat(parts).to(torch.uint8).cpu().numpy()
