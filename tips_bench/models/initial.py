"""Random weights from a seed: independent of the global random state, of the device and of the order of the parameters."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from tips_bench.models.layers import LayerScale

# Standard deviation of ViT and BERT initialisation, truncated at two of it.
STD = 0.02


@torch.no_grad()
def fill(module: nn.Module, seed: int) -> None:
    """Norms to one and zero, LayerScale to its initial value, biases and mask tokens to zero, all else to a truncated normal."""
    for owner_name, owner in module.named_modules():
        for name, parameter in owner.named_parameters(owner_name, recurse=False):
            parameter.copy_(_value(owner, name, parameter.shape, seed))


def _value(owner: nn.Module, name: str, shape: torch.Size, seed: int) -> torch.Tensor:
    leaf = name.rpartition(".")[2]
    if isinstance(owner, LayerScale):
        return torch.full(shape, owner.init_value)
    if isinstance(owner, nn.LayerNorm) and leaf == "weight":
        return torch.ones(shape)
    if leaf in ("bias", "mask_token"):
        return torch.zeros(shape)
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
    return nn.init.trunc_normal_(torch.empty(shape), std=STD, a=-2 * STD, b=2 * STD, generator=generator)
