"""A piece of furniture in its own frame: parts with materials, surfaces that carry things, things that lie on it, lamps in it.

The frame: origin at the middle of the footprint on the floor, x to the right, y towards the front (the back, at -depth/2, stands
against the wall), z up. Metres.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from tips_bench.rooms.drawing import materials
from tips_bench.rooms.drawing.mesh import Mesh, boxes

T = TypeVar("T")


@dataclass(frozen=True)
class Top:
    """A level rectangle that can carry things, with the free height above it."""

    x0: float
    x1: float
    y0: float
    y1: float
    z: float
    room: float = 0.5


@dataclass(frozen=True)
class Glow:
    """A lamp bulb: place, radius of its shade, linear colour and intensity (irradiance at one metre)."""

    place: tuple[float, float, float]
    radius: float
    color: tuple[float, float, float]
    intensity: float


@dataclass
class Piece:
    """One object of a class, with what it carries. size is (width, depth, height)."""

    kind: str
    size: tuple[float, float, float]
    word: str = ""
    color: str = ""
    meshes: list[tuple[Mesh, np.ndarray]] = field(default_factory=list)
    tops: list[Top] = field(default_factory=list)
    glows: list[Glow] = field(default_factory=list)
    children: list[tuple[Piece, tuple[float, float, float], float]] = field(default_factory=list)
    _pending: dict[float, list[tuple[tuple[float, ...], tuple[float, ...], int]]] = field(default_factory=dict)

    def box(self, material: int, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], bevel: float = 0.0) -> None:
        """Add a box spanning x, y and z."""
        self._pending.setdefault(bevel, []).append(((x[0], y[0], z[0]), (x[1], y[1], z[1]), material))

    def add(self, material: int, *meshes: Mesh) -> None:
        """Add meshes of one material."""
        for mesh in meshes:
            self.meshes.append((mesh, np.full(len(mesh.triangles_M3), material)))

    def carry(self, piece: Piece, x: float, y: float, z: float, yaw: float = 0.0) -> None:
        """Put another piece on this one, turned by yaw degrees."""
        self.children.append((piece, (x, y, z), yaw))

    def parts(self) -> Iterable[tuple[Mesh, np.ndarray]]:
        """All meshes with the material of each triangle, boxes included."""
        yield from self.meshes
        for bevel, items in self._pending.items():
            mesh = boxes(np.array([i[0] for i in items]), np.array([i[1] for i in items]), bevel)
            yield mesh, np.repeat([i[2] for i in items], len(mesh.triangles_M3) // len(items))


@dataclass
class Kit:
    """What a maker of furniture draws from: the random numbers, colours and material table of one scene."""

    rng: np.random.Generator
    theme: materials.Theme
    table: materials.MaterialTable

    def material(self, *kinds: str) -> int:
        """A new material of one of the kinds, in the colours of the room."""
        return self.table.add(materials.sample(self.rng, self.theme, *kinds))

    def uniform(self, low: float, high: float) -> float:
        """A number between low and high."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return bool(self.rng.random() < probability)

    def choose(self, *options: T) -> T:
        """One of the options."""
        return options[int(self.rng.integers(0, len(options)))]

    def count(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def piece(self, kind: str, size: tuple[float, float, float], main: int) -> Piece:
        """An empty piece whose words come from its main material."""
        material = self.table.items[main]
        return Piece(kind, size, material.word, material.color)
