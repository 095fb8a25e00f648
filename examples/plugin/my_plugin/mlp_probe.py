"""A segmentation probe that is not linear: one hidden layer on patch features, trained with Adam on a bank of patches.

Axes: N windows or patches, h w token grid, D feature, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from tips_bench.cards import Strict, parse
from tips_bench.data.split import Split
from tips_bench.features.cache import from_disk
from tips_bench.features.context import RunContext
from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.base import Fit
from tips_bench.probes.solved.patch_bank import fill


class MlpOptions(Strict):
    """hidden: width of the hidden layer. epochs: passes over the bank. patches_per_image, max_patches: of the bank."""

    type: str
    hidden: int = Field(gt=0)
    epochs: int = Field(gt=0)
    lr: float = Field(gt=0)
    max_patches: int = Field(gt=0)
    patches_per_image: int = Field(gt=0)


@dataclass(frozen=True)
class MlpHead:
    """What tips-bench applies to the features of images; interpolation: how its map is brought to their size."""

    network: nn.Sequential
    interpolation = "bilinear"

    def __call__(self, features_NhwD: Tensor) -> Tensor:
        """[N,C,h,w] logits in float32."""
        return self.network.to(features_NhwD.device)(features_NhwD.float()).permute(0, 3, 1, 2)

    def save(self, path: Path) -> None:
        save_npz(path, **{name: tensor.cpu().numpy() for name, tensor in self.network.state_dict().items()})

    @classmethod
    def load(cls, path: Path) -> MlpHead:
        def head(data: Any) -> MlpHead:
            network = build(data["0.weight"].shape[1], len(data["0.weight"]), len(data["2.weight"]))
            network.load_state_dict({name: torch.from_numpy(data[name]) for name in data.files})
            return cls(network.requires_grad_(False))

        return read_npz(path, "probe", head)


def build(dim: int, hidden: int, classes: int) -> nn.Sequential:
    """The network with PyTorch's own initial weights."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, classes))


class MlpProbe:
    """Built from a card's `probe` mapping."""

    reads_train = True
    load = staticmethod(MlpHead.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(MlpOptions, options, where=where, prefix="probe.")

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Each patch through the encoder once; the loss is the cross-entropy to the share of each class in a patch."""
        options, device = self.options, context.encoder.device
        bank = fill(context, train, options.max_patches, options.patches_per_image)
        features_ND = from_disk(np.array(bank.arrays["features"])).float().to(device)
        counts_NC = torch.from_numpy(np.array(bank.arrays["counts"], dtype=np.float32)).to(device)
        labeled_N = counts_NC.sum(1) > 0
        features_ND, counts_NC = features_ND[labeled_N], counts_NC[labeled_N]
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            network = build(features_ND.shape[1], options.hidden, counts_NC.shape[1]).to(device)
            loss = self._train(network, features_ND, counts_NC / counts_NC.sum(1, keepdim=True))
        context.scratch.finish(bank.store)
        return Fit(MlpHead(network.requires_grad_(False)), {"epochs": options.epochs, "loss": loss})

    def _train(self, network: nn.Sequential, features_ND: Tensor, shares_NC: Tensor) -> float:
        optimizer, loss = torch.optim.Adam(network.parameters(), lr=self.options.lr), torch.tensor(torch.nan)
        for _ in range(self.options.epochs):
            for rows in torch.randperm(len(features_ND), device=features_ND.device).split(1024):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(network(features_ND[rows]), shares_NC[rows])
                loss.backward()
                optimizer.step()
        return float(loss)
