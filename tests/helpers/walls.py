"""A small set of depth or normals in memory: walls whose colour tells how far away they are and where they face."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tips_bench.data.base import DepthSample, NormalsSample

SIZES = [(56, 70), (70, 56), (45, 63)]


@dataclass
class Walls:
    """A reader. kind: "depth" or "normals". Three images a group. unknown: share of pixels without a value."""

    kind: str
    images: int = 12
    seed: int = 0
    unknown: float = 0.2
    name: str = "walls"
    split: str = "train"
    classes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ids = [f"{self.seed}-{index:03d}" for index in range(self.images)]
        self.groups = [f"{self.seed}-{index // 3}" for index in range(self.images)]
        self.fingerprint = f"{self.kind}-{self.images}-{self.seed}"

    def __len__(self) -> int:
        return self.images

    def size(self, index: int) -> tuple[int, int]:
        return SIZES[index % len(SIZES)]

    def load(self, index: int) -> DepthSample | NormalsSample:
        rng = np.random.default_rng([self.seed, index])
        height, width = self.size(index)
        y, x = np.mgrid[:height, :width]
        slope_y, slope_x = rng.uniform(-1, 1, 2)
        depth = 3 + slope_y * y / height + slope_x * x / width + rng.uniform(-0.5, 0.5)
        image = np.stack([40 * depth, 128 + 100 * slope_y + 0 * depth, 128 + 100 * slope_x + 0 * depth], -1)
        image = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
        known = rng.random((height, width)) >= self.unknown
        if self.kind == "depth":
            return DepthSample(self.ids[index], self.groups[index], image, np.where(known, depth, 0).astype(np.float32))
        normal = np.array([slope_x, slope_y, -1.0])
        normals = np.broadcast_to(normal / np.linalg.norm(normal), (height, width, 3)) * known[..., None]
        return NormalsSample(self.ids[index], self.groups[index], image, normals.astype(np.float32))
