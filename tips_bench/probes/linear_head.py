"""The outcome of every linear probe: one affine map from patch features to class logits.

Axes: h w token grid, D feature, C classes.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tips_bench.errors import UserError
from tips_bench.features.geometry import Kind
from tips_bench.files import atomic

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
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, weight=self.weight_CD.numpy(), bias=self.bias_C.numpy())

    @classmethod
    def load(cls, path: Path) -> LinearHead:
        """Read what `save` wrote. Errors: a broken file."""
        try:
            with np.load(path, allow_pickle=False) as data:
                return cls(torch.from_numpy(data["weight"]), torch.from_numpy(data["bias"]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError("not a saved probe, or a broken one", where=path, fix="Delete it and run again.") from error
