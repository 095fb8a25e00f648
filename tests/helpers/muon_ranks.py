"""What each process of integration/test_muon_ranks.py does: steps of Muon on matrices that are cut up over ranks, and on whole ones.

torchrun --nproc-per-node 3 tests/helpers/muon_ranks.py
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from tips_bench import ranks
from tips_bench.training.muon import Muon

# Rows that three ranks cannot share equally, fewer rows than ranks, and more matrices than ranks.
SHAPES = [(7, 4), (4, 9), (12, 4), (2, 5)]
PARTS = [1, 2, 3, 1]


def made(parameters: list[nn.Parameter]) -> Muon:
    """Of all parameters; those of one axis are updated by AdamW."""
    plain = {"params": [one for one in parameters if one.ndim == 1], "name": "spared"}
    matrices = {"params": [one for one in parameters if one.ndim == 2], "name": "matrices", "parts": PARTS}
    return Muon(matrices, [plain], lr=0.1, momentum=0.9, betas=(0.9, 0.99), eps=1e-8)


def main() -> None:
    ranks.enter(torch.device("cpu"))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    torch.manual_seed(0)
    whole = [nn.Parameter(torch.randn(shape)) for shape in [*SHAPES, (5,)]]
    cut = [nn.Parameter(distribute_tensor(one.detach().clone(), mesh, [Shard(0)])) for one in whole]
    optimizers = [made(whole), made(cut)]
    for _ in range(3):
        for one, other in zip(whole, cut, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = distribute_tensor(one.grad.clone(), mesh, [Shard(0)])
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(whole, cut, strict=True):
        assert torch.equal(one, other.full_tensor()), one.shape
    ranks.leave()
    ranks.end()


if __name__ == "__main__":
    main()
