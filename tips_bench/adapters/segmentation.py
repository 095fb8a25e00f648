"""The task family `segmentation`: readers of label maps, a linear head, integer counts of pixels.

Axes: H W pixels of the labels, C classes, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tips_bench.cards import DataCard, ProtocolCard
from tips_bench.data.base import SegmentationReader
from tips_bench.features.store import Shelf
from tips_bench.files import digest
from tips_bench.metrics.segmentation import SegmentationCounts, count
from tips_bench.probes.base import Fit, FitContext, Probe
from tips_bench.probes.inference import Inference
from tips_bench.progress import bar
from tips_bench.registry import METRICS, PROBES, READERS
from tips_bench.results.pictures import contact_sheet, panel, pca_basis, save_png


@dataclass(frozen=True)
class Split:
    """A reader and the samples of it that are used. fingerprint: of what is used."""

    name: str
    reader: SegmentationReader
    indices: list[int]

    @property
    def fingerprint(self) -> str:
        """The reader's, or one of the chosen ids too where not all samples are used."""
        if len(self.indices) == len(self.reader):
            return self.reader.fingerprint
        return digest(self.reader.fingerprint, *(self.reader.ids[index] for index in self.indices))


class SegmentationAdapter:
    """Joins readers, probe and metric for one protocol."""

    def __init__(self, protocol: ProtocolCard) -> None:
        probe = dict(protocol.probe)
        self.protocol = protocol
        self.probe: Probe = PROBES.get(str(probe.get("type")))(probe, f"protocol {protocol.name}")

    def open(self, data: DataCard, root: Path, limit: int | None) -> tuple[Split, Split]:
        """(train, test). limit: at most so many samples of each, by a hash of their ids."""
        train, test = (self._split(data, root, data.splits[role], limit) for role in ("train", "test"))
        return train, test

    def _split(self, data: DataCard, root: Path, name: str, limit: int | None) -> Split:
        reader = READERS.get(data.reader)(root, name, **data.options)
        indices = list(range(len(reader)))
        if limit is not None and limit < len(indices):
            indices = sorted(sorted(indices, key=lambda index: digest("limit", reader.ids[index]))[:limit])
        return Split(name, reader, indices)

    def fit(self, context: FitContext) -> Fit:
        """The probe's fit on the training split."""
        return self.probe.fit(context)

    def score(self, inference: Inference, test: Split, fit: Fit, work: Shelf) -> SegmentationCounts:
        """Counts of every sample of the test split; what an earlier try counted is taken up from `work`."""
        reader, classes = test.reader, len(test.reader.classes)
        store = work.open("counts", [1] * len(test.indices), {"counts": ((3, classes), "int64")})
        position = {index: place for place, index in enumerate(test.indices)}
        missing = store.missing()
        with bar("scoring", len(test.indices)) as advance:
            advance(len(test.indices) - len(missing))
            for found in inference.predict(reader, [test.indices[place] for place in missing], [fit.head]):
                counts_3C = count(found.predicted_SHW[0], found.sample.labels_HW, classes, where=f"{reader.name}: {found.sample.id}")
                store.write(position[found.index], counts=counts_3C)
                advance()
        result: SegmentationCounts = METRICS.get("segmentation")(classes)
        for place, index in enumerate(test.indices):
            result.update(reader.ids[index], reader.groups[index], store.read(place, "counts")[0])
        store.close()
        return result

    def draw(self, inference: Inference, test: Split, fit: Fit, number: int, stem: Path) -> list[str]:
        """Pictures of `number` samples, chosen by a hash of their ids, and a sheet of all; returns their file names."""
        reader = test.reader
        chosen = sorted(test.indices, key=lambda index: digest("picture", reader.ids[index]))[:number]
        found = sorted(inference.predict(reader, chosen, [fit.head]), key=lambda prediction: chosen.index(prediction.index))
        features = [prediction.features_NhwD[0].float().cpu().numpy() for prediction in found]
        basis = pca_basis(features)
        panels: list[np.ndarray] = []
        names: list[str] = []
        for prediction, features_hwD in zip(found, features, strict=True):
            sample = prediction.sample
            picture = panel(
                sample.image_HW3,
                sample.labels_HW,
                prediction.predicted_SHW[0],
                features_hwD,
                palette=reader.palette,
                classes=reader.classes,
                basis=basis,
            )
            panels.append(picture)
            names.append(f"{stem.name}-{len(names) + 1}.png")
            save_png(picture, stem.with_name(names[-1]))
        sheet = f"{stem.name}-sheet.png"
        save_png(contact_sheet(panels), stem.with_name(sheet))
        return [sheet, *names]
