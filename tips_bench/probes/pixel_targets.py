"""What a probe of dense values learns and how it is scored: a depth or a normal for every pixel.

Probes, adapters and pictures of both families are one; all that tells depth from normals is here.

Axes: H W pixels, T values of a pixel (1 for a depth, 3 for a normal).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tips_bench.data.base import DepthSample, NormalsSample
from tips_bench.features.inference import mirror
from tips_bench.metrics import depth, normals
from tips_bench.probes.base import Probe


class PixelTarget(Protocol):
    """values: T. unit: of a value, as an error of the fit is told in. selection: the metric that chooses among heads; the least is best."""

    values: int
    unit: str
    selection: str

    def truth(self, sample: Any) -> tuple[np.ndarray, np.ndarray]:
        """(values_THW float32, known_HW bool): what a probe fits, and where the sample says it and it would be scored."""

    def unmirror(self, values_THW: Tensor) -> Tensor:
        """The values of an image from those of the mirrored image."""

    def finished(self, values_THW: Tensor) -> Tensor:
        """What is scored and drawn, from a head's values averaged over views."""

    def count(self, values_THW: np.ndarray, sample: Any, *, where: object) -> np.ndarray:
        """The sums of one sample, from finished values."""

    @property
    def summary(self) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        """Metrics of summed sums."""


class PixelProbe(Probe, Protocol):
    """A Probe that is built with a target, too, and whose head is a PixelHead."""

    def __init__(self, options: dict[str, Any], where: object, target: PixelTarget) -> None: ...


@dataclass(frozen=True)
class DepthTarget:
    """Metric depth, in metres. Pixels that would be scored are learnt from; predictions are capped to the scored range."""

    rule: depth.DepthRule
    values = 1
    unit = "m"
    selection = "RMSE"
    summary = staticmethod(depth.summary)

    def truth(self, sample: DepthSample) -> tuple[np.ndarray, np.ndarray]:
        """The depth map, known where the rule scores it."""
        return sample.depth_HW[None], self.rule.scored(sample.depth_HW, where=sample.id)

    def unmirror(self, values_THW: Tensor) -> Tensor:
        """Left and right swapped."""
        return mirror(values_THW)

    def finished(self, values_THW: Tensor) -> Tensor:
        """As it is: the metric caps it where the scale counts, and not where it is aligned first."""
        return values_THW

    def count(self, values_THW: np.ndarray, sample: DepthSample, *, where: object) -> np.ndarray:
        """The sums of one depth map."""
        return depth.count(values_THW[0], sample.depth_HW, self.rule, where=where)


@dataclass(frozen=True)
class NormalsTarget:
    """Unit normals towards the camera, in its frame: x right, y down, z forward."""

    values = 3
    unit = ""
    selection = "RMSE"
    summary = staticmethod(normals.summary)

    def truth(self, sample: NormalsSample) -> tuple[np.ndarray, np.ndarray]:
        """The normals, known where there is one."""
        return np.moveaxis(sample.normals_HW3, -1, 0), normals.known(sample.normals_HW3)

    def unmirror(self, values_THW: Tensor) -> Tensor:
        """Left and right swapped, so that x points the other way."""
        x_1HW, yz_2HW = mirror(values_THW).split((1, 2))
        return torch.cat([-x_1HW, yz_2HW])

    def finished(self, values_THW: Tensor) -> Tensor:
        """Of length 1."""
        return values_THW / values_THW.square().sum(0).sqrt().clamp(min=1e-12)  # torch's `normalize` takes 50 times as long on a CPU

    def count(self, values_THW: np.ndarray, sample: NormalsSample, *, where: object) -> np.ndarray:
        """The sums of one map of normals."""
        return normals.count(np.moveaxis(values_THW, 0, -1), sample.normals_HW3, where=where)
