"""Heads on features of whole images: class scores of one or several candidates, and the ranks of true classes.

Axes: N images, Q images of a block, F features of an image, S candidates, L candidates on the same inputs, C classes, D inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tips_bench.features.cache import from_disk
from tips_bench.metrics.classification import ranks
from tips_bench.npz import read_npz, save_npz
from tips_bench.progress import bar

BLOCK_VALUES = 1 << 25  # scores held at once


class ImageHead(Protocol):
    """What scores classes. classes: C. candidates: S. choice: the candidate that was chosen off the scored split; None = there is one.

    block: images at once, at most.
    """

    classes: int
    candidates: int
    choice: int | None
    block: int

    def scores(self, features_QF: np.ndarray) -> np.ndarray:
        """scores_SQC of stored features, greater is nearer; minus infinity = the class is not predicted."""

    def on(self, device: torch.device) -> ImageHead:
        """The same; products are made on this device from now on."""

    def save(self, path: Path) -> None:
        """Write to one file, atomically."""


def rank_all(head: ImageHead, features_NF: np.ndarray, labels_N: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """ranks_NS of the true classes. rows: which images, ascending; None = all."""
    rows = np.arange(len(features_NF)) if rows is None else rows
    step = max(1, min(head.block, BLOCK_VALUES // (head.candidates * head.classes)))
    found = []
    with bar("scoring", len(rows)) as advance:
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            scores_SQC = head.scores(features_NF[part])
            found.append(ranks(scores_SQC, np.broadcast_to(labels_N[part], scores_SQC.shape[:2])).T)
            advance(len(part))
    return np.concatenate(found)


def best_of(ranks_NS: np.ndarray) -> tuple[list[float | None], int]:
    """Top-1 accuracy of each candidate on held-out images in percent, and which is best, the first of equals."""
    accuracy_S = 100 * (ranks_NS < 1).mean(0)
    return [float(value) for value in accuracy_S], int(accuracy_S.argmax())


@dataclass(frozen=True)
class Affine:
    """Candidates on the same inputs. columns_D: which features. weight_LCD, bias_LC: float32."""

    columns_D: np.ndarray
    weight_LCD: Tensor
    bias_LC: Tensor

    def scores(self, features_QF: Tensor) -> Tensor:
        """[L,Q,C] of features on the same device."""
        return features_QF[:, self.columns_D] @ self.weight_LCD.mT + self.bias_LC[:, None]

    def on(self, device: torch.device) -> Affine:
        """The same on a device."""
        return Affine(self.columns_D, self.weight_LCD.to(device), self.bias_LC.to(device))


class AffineHeads:
    """Affine maps from features to class scores, in the order of the candidates."""

    block = 1 << 13

    def __init__(self, parts: list[Affine], choice: int | None) -> None:
        self.parts, self.choice, self.device = parts, choice, torch.device("cpu")
        self.classes = parts[0].bias_LC.shape[1]
        self.candidates = sum(len(part.bias_LC) for part in parts)

    def on(self, device: torch.device) -> AffineHeads:
        """The same; products are made on this device from now on."""
        self.parts, self.device = [part.on(device) for part in self.parts], device
        return self

    def scores(self, features_QF: np.ndarray) -> np.ndarray:
        """scores_SQC of stored features."""
        on_device_QF = from_disk(np.array(features_QF)).to(self.device).float()
        return torch.cat([part.scores(on_device_QF) for part in self.parts]).cpu().numpy()

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        arrays: dict[str, Any] = {"choice": -1 if self.choice is None else self.choice}
        for n, part in enumerate(self.parts):
            arrays |= {f"columns{n}": part.columns_D, f"weight{n}": part.weight_LCD.cpu().numpy(), f"bias{n}": part.bias_LC.cpu().numpy()}
        save_npz(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> AffineHeads:
        """Read what `save` wrote. Errors: a broken file."""

        def heads(data: Any) -> AffineHeads:
            choice, count = int(data["choice"]), sum(name.startswith("bias") for name in data.files)
            columns = [data[f"columns{n}"] for n in range(count)]
            weights, biases = ([torch.from_numpy(data[f"{name}{n}"]) for n in range(count)] for name in ("weight", "bias"))
            return cls([Affine(*part) for part in zip(columns, weights, biases, strict=True)], None if choice < 0 else choice)

        return read_npz(path, "probe", heads)
