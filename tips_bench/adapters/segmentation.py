"""The task family `segmentation`: readers of label maps, a linear head, integer counts of pixels."""

from __future__ import annotations

from pathlib import Path

from tips_bench.adapters.base import Split, open_splits
from tips_bench.adapters.label_maps import count_maps, draw_maps
from tips_bench.cards import ProtocolCard, TaskCard
from tips_bench.features.cache import FeatureCache
from tips_bench.features.inference import Inference
from tips_bench.metrics.segmentation import SegmentationCounts
from tips_bench.probes.base import Fit, FitContext, Probe
from tips_bench.probes.linear_head import LinearHead
from tips_bench.probes.training_free.released_head import ReleasedProbe
from tips_bench.registry import PROBES


class SegmentationAdapter:
    """Joins readers, probe and metric for one protocol."""

    needs_text = False

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task = task
        self.probe: Probe = PROBES.get(str(protocol.probe.get("type")))(protocol.probe, f"protocol {protocol.name}")

    def open(self, root: Path, limit: int | None) -> tuple[Split | None, Split]:
        """(train, test); no train split for a released head."""
        return open_splits(self.task.data, root, limit, train=not isinstance(self.probe, ReleasedProbe))

    def fit(self, context: FitContext) -> Fit:
        """The probe's fit on the training split."""
        return self.probe.fit(context)

    def load_head(self, path: Path) -> LinearHead:
        """The head that an earlier try saved."""
        return LinearHead.load(path)

    def score(self, inference: Inference, test: Split, fit: Fit, work: FeatureCache) -> SegmentationCounts:
        """Counts of every sample of the test split; what an earlier try counted is taken up from `work`."""
        return count_maps(lambda indices: inference.predict(test.reader, indices, [fit.head]), test, self.task.family, work)

    def draw(self, inference: Inference, test: Split, fit: Fit, number: int, stem: Path) -> list[str]:
        """Image | truth | prediction | PCA of the features, for `number` samples, and a sheet of all."""
        return draw_maps(lambda indices: inference.predict(test.reader, indices, [fit.head]), test, number, stem)
