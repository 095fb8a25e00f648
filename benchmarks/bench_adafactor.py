"""An Adafactor update of g's parameters, cut up over two ranks: all together, beside one parameter after another.

    torchrun --nproc-per-node 2 benchmarks/bench_adafactor.py [--width 24]

The towers have g's blocks at a smaller width, so that the time is that of so many tensors and not of their values. The plain update is
written with DTensor's operations, a parameter at a time, and is the reference that the other is compared with. Times are of the processor.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from tips_bench.training.adafactor import Adafactor
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.student import Student

RATE, DECAY, STEPS = 1e-3, -0.8, 4


class PlainAdafactor:
    """As the equations are written: one parameter, one operation after another. Without momentum, which rounds to bfloat16."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters, self.number = parameters, 0
        self.means: dict[int, list[Any]] = {}

    @torch.no_grad()
    def step(self) -> None:
        self.number += 1
        beta2 = min(1 - float(self.number) ** DECAY, 0.999)
        for index, parameter in enumerate(self.parameters):
            assert parameter.grad is not None
            squared = parameter.grad.square() + 1e-30
            found = [squared] if parameter.ndim < 2 else [whole(squared.mean(dim=-1)), whole(squared.mean(dim=-2))]
            means = self.means.setdefault(index, [torch.zeros_like(one) for one in found])
            for mean, new in zip(means, found, strict=True):
                mean.lerp_(new, 1 - beta2)
            update = parameter.grad * means[0].rsqrt() if parameter.ndim < 2 else self._of_matrix(parameter.grad, *means)
            size = whole((update.square().sum() / update.numel()).sqrt())
            parameter.add_(update / size.clamp(min=1.0), alpha=-RATE)

    def _of_matrix(self, grad: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        scaled = grad * (rows / rows.mean(dim=-1, keepdim=True)).rsqrt().unsqueeze(-1) * columns.rsqrt().unsqueeze(-2)
        return scaled.redistribute(placements=[Shard(0)]) if isinstance(scaled, DTensor) else scaled


def whole(tensor: Tensor) -> Tensor:
    return tensor.redistribute(placements=[Replicate()]) if isinstance(tensor, DTensor) else tensor


def shapes_of_g(width: int) -> list[torch.Size]:
    """Of the towers and heads of tipsv2-g14, at another width."""
    head = "{prototypes: 1024, layers: 3, hidden_dim: 128, bottleneck_dim: 32}"
    sizes = [f"model.vision.embed_dim={width}", f"model.vision.mlp_dim={width * 8 // 3}", f"model.text.embed_dim={width}"]
    heads = [f"method.{part}.head={head}" for part in ("self_distillation", "patches")]
    recipe = load_recipe("tipsv2-g14", [*sizes, f"model.text.mlp_dim={4 * width}", "model.text.vocab_size=2000", *heads])
    return [parameter.shape for parameter in Student(recipe).parameters()]


def measure(kind: str, shapes: list[torch.Size], mesh: DeviceMesh | None) -> tuple[float, list[Tensor]]:
    """Seconds of the processor for an update, the least of several, and the parameters after all."""
    generator = torch.Generator().manual_seed(0)

    def tensors(scale: float) -> list[Tensor]:
        values = [scale * torch.randn(shape, generator=generator) for shape in shapes]
        return values if mesh is None else [distribute_tensor(value, mesh, [Shard(0)]) for value in values]

    parameters = [nn.Parameter(value) for value in tensors(0.02)]
    plain = PlainAdafactor(parameters)
    optimizer = plain if kind == "plain" else Adafactor(parameters, lr=RATE, decay=DECAY, clip=1.0, beta1=None)
    times = []
    for _ in range(STEPS):
        for parameter, grad in zip(parameters, tensors(0.01), strict=True):
            parameter.grad = grad
        dist.barrier()
        start = time.process_time()
        optimizer.step()
        times.append(time.process_time() - start)
    return min(times[1:]), [parameter.full_tensor() if isinstance(parameter, DTensor) else parameter for parameter in parameters]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=24)
    shapes = shapes_of_g(parser.parse_args().width)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    found = {}
    for kind in ("plain", "ours"):
        for place, over in (("whole on each rank", None), ("cut up over ranks", mesh)):
            found[kind, place] = measure(kind, shapes, over)
    if dist.get_rank() == 0:
        print(f"{len(shapes)} parameters, {sum(shape.numel() for shape in shapes) / 1e6:.2f} M values")
        reference = found["plain", "whole on each rank"][1]
        for (kind, place), (seconds, values) in found.items():
            far = max((a - b).abs().max().item() for a, b in zip(values, reference, strict=True)) / RATE
            print(f"{kind:5} {place:18} {1e3 * seconds:7.1f} ms, at most {far:.1e} of a step from the plain one")
        ratio = found["plain", "cut up over ranks"][0] / found["ours", "cut up over ranks"][0]
        print(f"cut up over ranks, ours is {ratio:.1f} times as fast")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
