"""What the task families `depth` and `normals` share: a head of values for every pixel, sums of each image, pictures.

Axes: H W pixels, T values of a pixel, N windows, D feature, S the sums of a sample.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tips_bench.adapters.base import Split, open_splits
from tips_bench.cards import ProtocolCard, TaskCard
from tips_bench.errors import UserError
from tips_bench.features.cache import FeatureCache
from tips_bench.features.inference import Inference, PixelHead
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.panels import PcaBasis, contact_sheet, pca_basis, save_png
from tips_bench.probes.base import Fit, FitContext
from tips_bench.probes.pixel_targets import PixelProbe, PixelTarget
from tips_bench.probes.training_free.released_head import ReleasedProbe
from tips_bench.progress import bar
from tips_bench.registry import METRICS, PIXEL_PROBES


class PixelValuesAdapter:
    """Joins readers, probe and metric for one protocol. A family sets `family` and gives `target_of` and `panel`."""

    needs_text = False
    family: ClassVar[str]

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task, self.target = task, self.target_of(task)
        where = f"protocol {protocol.name}"
        if protocol.image.shape == "center-crop":
            raise UserError("image.shape = center-crop would leave pixels without a value", where=where, fix="Use aspect or square.")
        self.probe: PixelProbe = PIXEL_PROBES.get(str(protocol.probe.get("type")))(protocol.probe, where, self.target)

    def target_of(self, task: TaskCard) -> PixelTarget:
        """What is learnt and scored, as the task's options say."""
        raise NotImplementedError

    def panel(self, sample: Any, values_THW: np.ndarray, features_hwD: np.ndarray, basis: PcaBasis) -> np.ndarray:
        """The picture of one sample and its finished values; uint8 RGB."""
        raise NotImplementedError

    def open(self, root: Path, limit: int | None) -> tuple[Split | None, Split]:
        """(train, test); no train split for a released head."""
        return open_splits(self.task.data, root, limit, train=not isinstance(self.probe, ReleasedProbe))

    def fit(self, context: FitContext) -> Fit:
        """The probe's fit on the training split."""
        return self.probe.fit(context)

    def load_head(self, path: Path) -> PixelHead:
        """The head that an earlier try saved."""
        return self.probe.load_head(path)

    def score(self, inference: Inference, test: Split, fit: Fit, work: FeatureCache) -> SampleCounts:
        """Sums of every sample of the test split; what an earlier try counted is taken up from `work`."""
        reader, target = test.reader, self.target
        result: SampleCounts = METRICS.get(self.family)()
        store = work.open("counts", [1] * len(test.indices), {"counts": (result.shape, np.dtype(result.dtype).name)})
        position = {index: place for place, index in enumerate(test.indices)}
        missing = store.missing()
        with bar("scoring", len(test.indices)) as advance:
            advance(len(test.indices) - len(missing))
            for found in inference.values(reader, [test.indices[place] for place in missing], [fit.head], target.unmirror):
                values_THW = target.finished(found.values_STHW[0]).cpu().numpy()
                sums_S = target.count(values_THW, found.sample, where=f"{reader.name}: {found.sample.id}")
                store.write(position[found.index], counts=sums_S)
                advance()
        for place, index in enumerate(test.indices):
            result.update(reader.ids[index], reader.groups[index], store.read(place, "counts")[0])
        store.close()
        return result

    def draw(self, inference: Inference, test: Split, fit: Fit, number: int, stem: Path) -> list[str]:
        """Image | truth | prediction | PCA of the features, for `number` samples, and a sheet of all."""
        reader, chosen = test.reader, test.pick(number)
        found = sorted(
            inference.values(reader, chosen, [fit.head], self.target.unmirror), key=lambda prediction: chosen.index(prediction.index)
        )
        features = [prediction.features_NhwD[0].float().cpu().numpy() for prediction in found]
        basis, panels = pca_basis(features), []
        for prediction, features_hwD in zip(found, features, strict=True):
            values_THW = self.target.finished(prediction.values_STHW[0]).cpu().numpy()
            panels.append(self.panel(prediction.sample, values_THW, features_hwD, basis))
        names = [f"{stem.name}-sheet.png", *(f"{stem.name}-{position}.png" for position in range(1, len(panels) + 1))]
        for name, picture in zip(names, [contact_sheet(panels), *panels], strict=True):
            save_png(picture, stem.with_name(name))
        return names
