"""Many linear classifiers of whole images trained on one stream of frozen features, with SGD, at the cost of one backbone pass.

Heads with the same inputs are one matrix product. The gradient of softmax cross-entropy of an affine map is written out, so that no graph
is kept: d loss / d logits = (softmax - one-hot) / B. All heads of the same inputs start from the same weights.

Axes: B batch, F features of an image, D inputs of a head, L heads of the same inputs (one a learning rate), C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tips_bench.probes.image_heads import Affine

INITIAL_DEVIATION = 0.01  # of the weights, DINOv2 (dinov2/eval/linear.py, LinearClassifier)


@dataclass(frozen=True)
class Inputs:
    """What a head reads. blocks: how many of the last layers' tokens. mean: the mean of the last layer's patches after them."""

    blocks: int
    mean: bool

    def columns(self, dim: int, layers: int) -> np.ndarray:
        """Columns of features that are the tokens of `layers` layers, dim each, and the mean."""
        tokens = np.arange((layers - self.blocks) * dim, layers * dim)
        return np.concatenate([tokens, np.arange(layers * dim, (layers + 1) * dim)]) if self.mean else tokens


class ClassifierSweep:
    """Heads for each of `inputs` (their columns of the features) and each learning rate; SGD with momentum, no weight decay."""

    def __init__(
        self, columns: list[np.ndarray], lr_L: list[float], classes: int, *, momentum: float, seed: int, device: torch.device | str
    ) -> None:
        self.columns, self.momentum = columns, momentum
        self.lr_L = torch.tensor(lr_L, device=device)
        heads = len(lr_L)
        self.weights, self.biases = [], []
        for columns_D in columns:
            generator = torch.Generator().manual_seed(seed)
            weight_CD = torch.randn(classes, len(columns_D), generator=generator) * INITIAL_DEVIATION
            self.weights.append(weight_CD.to(device).repeat(heads, 1, 1))
            self.biases.append(torch.zeros(heads, classes, device=device))
        self.velocities = [torch.zeros_like(values) for values in (*self.weights, *self.biases)]

    @torch.no_grad()
    def step(self, features_BF: Tensor, labels_B: Tensor, factor: float) -> Tensor:
        """One step of every head; returns the losses before it, one a head in the order of `heads`. factor: on the learning rates."""
        gradients, losses, image_B = [], [], torch.arange(len(labels_B), device=labels_B.device)
        for columns_D, weight_LCD, bias_LC in zip(self.columns, self.weights, self.biases, strict=True):
            inputs_BD = features_BF[:, columns_D]
            log_LBC = torch.log_softmax(inputs_BD @ weight_LCD.mT + bias_LC[:, None], -1)
            losses.append(-log_LBC[:, image_B, labels_B].mean(1))
            error_LBC = log_LBC.exp_()
            error_LBC[:, image_B, labels_B] -= 1
            error_LBC /= len(labels_B)
            gradients.append((error_LBC.mT @ inputs_BD, error_LBC.sum(1)))
        values = [*self.weights, *self.biases]
        slopes = [*(weight for weight, _ in gradients), *(bias for _, bias in gradients)]
        for value, slope, velocity in zip(values, slopes, self.velocities, strict=True):
            velocity.mul_(self.momentum).add_(slope)
            value.sub_(velocity * (self.lr_L * factor).view(-1, *[1] * (value.ndim - 1)))
        return torch.cat(losses)

    def heads(self) -> list[Affine]:
        """The heads as they are, on the CPU."""
        return [
            Affine(columns_D, weight_LCD.cpu().clone(), bias_LC.cpu().clone())
            for columns_D, weight_LCD, bias_LC in zip(self.columns, self.weights, self.biases, strict=True)
        ]

    def state(self) -> dict[str, list[Tensor]]:
        """What `restore` takes."""
        return {"weights": self.weights, "biases": self.biases, "velocities": self.velocities}

    def restore(self, state: dict[str, list[Tensor]]) -> None:
        """Go on from a saved state."""
        for name, values in self.state().items():
            for value, saved in zip(values, state[name], strict=True):
                value.copy_(saved)
