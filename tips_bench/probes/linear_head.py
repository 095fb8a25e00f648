"""The outcome of every linear probe: one affine map from patch features to class logits.

Axes: h w token grid, D feature, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from tips_bench.features.geometry import Kind
from tips_bench.npz import read_npz, save_npz

NEVER = -1e30  # the logit of a class that the training split does not show; finite, so that interpolation stays finite


@dataclass(frozen=True)
class LinearHead:
    """weight_CD, bias_C: float32; logits = weight @ feature + bias."""

    weight_CD: Tensor
    bias_C: Tensor
    interpolation: ClassVar[Kind] = "bilinear"

    def __call__(self, features_NhwD: Tensor) -> Tensor:
        """[N,C,h,w] logits in float32, on the features' device."""
        weight_CD = self.weight_CD.to(features_NhwD.device)
        logits_NhwC = torch.nn.functional.linear(features_NhwD.float(), weight_CD, self.bias_C.to(features_NhwD.device))
        return logits_NhwC.permute(0, 3, 1, 2)

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        save_npz(path, weight=self.weight_CD.numpy(), bias=self.bias_C.numpy())

    @classmethod
    def load(cls, path: Path) -> LinearHead:
        """Read what `save` wrote. Errors: a broken file."""
        return read_npz(path, "probe", lambda data: cls(torch.from_numpy(data["weight"]), torch.from_numpy(data["bias"])))
