"""The task family `depth`: readers of depth maps, a head of metres, sums of each image."""

from __future__ import annotations

import numpy as np

from tips_bench.adapters.pixel_values import PixelValuesAdapter
from tips_bench.cards import ProtocolCard, TaskCard, parse
from tips_bench.data.base import DepthSample
from tips_bench.errors import UserError
from tips_bench.metrics.depth import DepthCounts, DepthRule
from tips_bench.pictures.dense import depth_panel
from tips_bench.pictures.panels import PcaBasis
from tips_bench.probes.pixel_targets import DepthTarget


class DepthAdapter(PixelValuesAdapter):
    """A task's options are the DepthRule that says which pixels are scored."""

    counts = DepthCounts
    target: DepthTarget

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        """Errors: a rotation where a part of the upright image is scored, or trained on."""
        super().__init__(task, protocol)
        changes = task.data.changes
        boxed = changes is not None and changes.refit and (protocol.probe.get("augment") or {}).get("box")
        if changes is not None and changes.rotate and (self.target.rule.crop != "none" or boxed):
            problem = "the crop of the depth maps is of upright images, and they are turned"
            raise UserError(problem, where=f"task {task.name}", fix="Leave +rotate out, or use --set task.options.crop=none.")

    def target_of(self, task: TaskCard) -> DepthTarget:
        """Metres, under the task's rule."""
        return DepthTarget(parse(DepthRule, task.options, where=f"task {task.name}", prefix="options."))

    def panel(self, sample: DepthSample, values_THW: np.ndarray, features_hwD: np.ndarray, basis: PcaBasis) -> np.ndarray:
        """The picture of one depth map and its prediction."""
        known_HW = self.target.rule.scored(sample.depth_HW, where=sample.id)
        return depth_panel(sample.image_HW3, sample.depth_HW, known_HW, values_THW[0], features_hwD, basis)
