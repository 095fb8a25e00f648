"""The task family `normals`: readers of surface normals, a head of vectors, sums of each image."""

from __future__ import annotations

import numpy as np

from tips_bench.adapters.pixel_values import PixelValuesAdapter
from tips_bench.cards import TaskCard
from tips_bench.data.base import NormalsSample
from tips_bench.errors import UserError
from tips_bench.metrics.normals import NormalsCounts, known
from tips_bench.pictures.dense import normals_panel
from tips_bench.pictures.panels import PcaBasis
from tips_bench.probes.pixel_targets import NormalsTarget


class NormalsAdapter(PixelValuesAdapter):
    """A task has no options."""

    counts = NormalsCounts

    def target_of(self, task: TaskCard) -> NormalsTarget:
        """Unit vectors."""
        if task.options:
            raise UserError(f"options = {sorted(task.options)}: the family normals has no options", where=f"task {task.name}")
        return NormalsTarget()

    def panel(self, sample: NormalsSample, values_THW: np.ndarray, features_hwD: np.ndarray, basis: PcaBasis) -> np.ndarray:
        """The picture of one map of normals and its prediction."""
        truth_HW3 = sample.normals_HW3
        return normals_panel(sample.image_HW3, truth_HW3, known(truth_HW3), np.moveaxis(values_THW, 0, -1), features_hwD, basis)
