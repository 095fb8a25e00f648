"""Pieces set down in a room become one triangle soup with a class, an instance and a material for every triangle.

V vertices, M triangles. World frame: metres, z up, the floor at z = 0, the room between (0, 0) and (width, depth).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tips_bench.rooms.drawing.classes import IDS
from tips_bench.rooms.drawing.materials import Material, MaterialTable
from tips_bench.rooms.drawing.mesh import Mesh, joined, rotate
from tips_bench.rooms.drawing.piece import Piece


@dataclass(frozen=True)
class Instance:
    """One object. parent: the number of the instance it lies on, or -1; centre in metres."""

    kind: str
    word: str
    color: str
    parent: int
    center: tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """What lights the room. spread_23: two half axes of its area in metres; zero for a lamp's, which is a ball of `radius`.

    normal: the side an area gives light to; zero for a lamp. power: linear RGB, irradiance at one metre facing it; for the
    sun (kind "sun") irradiance, and `place` is the direction to it.
    """

    kind: str
    place: np.ndarray
    spread_23: np.ndarray
    radius: float
    normal: np.ndarray
    power: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A furnished room: geometry, what each triangle is, what lights it. ambient: linear RGB irradiance from everywhere."""

    kind: str
    size: tuple[float, float, float]
    points_V3: np.ndarray
    normals_V3: np.ndarray
    uv_V2: np.ndarray
    triangles_M3: np.ndarray
    material_M: np.ndarray
    class_M: np.ndarray
    instance_M: np.ndarray
    materials: list[Material]
    instances: list[Instance]
    lights: list[Light]
    ambient: np.ndarray


@dataclass
class Assembly:
    """Collects what is set down in a room."""

    table: MaterialTable
    meshes: list[Mesh] = field(default_factory=list)
    materials: list[np.ndarray] = field(default_factory=list)
    classes: list[np.ndarray] = field(default_factory=list)
    owners: list[np.ndarray] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    lights: list[Light] = field(default_factory=list)

    def put(self, piece: Piece, place: tuple[float, float, float], yaw: float = 0.0, parent: int = -1) -> int:
        """Set a piece and all it carries at a place, turned by yaw degrees; returns its instance number."""
        number = len(self.instances)
        corners = []
        self.instances.append(Instance(piece.kind, piece.word, piece.color, parent, place))
        for mesh, material in piece.parts():
            moved = mesh.turned("z", yaw).moved(*place)
            corners += [moved.points_V3.min(0), moved.points_V3.max(0)]
            self.meshes.append(moved)
            self.materials.append(material)
            self.classes.append(np.full(len(material), IDS[piece.kind]))
            self.owners.append(np.full(len(material), number))
        if corners:
            middle = (np.min(corners, 0) + np.max(corners, 0)) / 2
            self.instances[number] = Instance(piece.kind, piece.word, piece.color, parent, tuple(float(c) for c in middle))
        for glow in piece.glows:
            at = rotate(np.array([glow.place]), "z", yaw)[0] + place
            power = np.array(glow.color) * glow.intensity
            self.lights.append(Light("lamp", at, np.zeros((2, 3)), glow.radius * 0.5, np.zeros(3), power))
        for child, offset, turn in piece.children:
            at = rotate(np.array([offset]), "z", yaw)[0] + place
            self.put(child, tuple(float(c) for c in at), yaw + turn, number)
        return number

    def scene(self, kind: str, size: tuple[float, float, float], ambient: np.ndarray) -> Scene:
        """All that was set down, as arrays."""
        mesh = joined(self.meshes)
        return Scene(
            kind,
            size,
            mesh.points_V3.astype(np.float32),
            mesh.normals_V3.astype(np.float32),
            mesh.uv_V2.astype(np.float32),
            mesh.triangles_M3.astype(np.uint32),
            np.concatenate(self.materials).astype(np.int32),
            np.concatenate(self.classes).astype(np.uint8),
            np.concatenate(self.owners).astype(np.uint16),
            self.table.items,
            self.instances,
            self.lights,
            ambient.astype(np.float32),
        )
