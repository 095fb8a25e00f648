"""Triangle meshes of simple solids, with smooth normals and texture coordinates in metres. z points up.

V vertices, M triangles. Every primitive is deterministic: elementwise arithmetic, no global state.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass
class Mesh:
    """points_V3 in metres, unit normals_V3 for shading, uv_V2 in metres, triangles_M3 of vertex indices."""

    points_V3: np.ndarray
    normals_V3: np.ndarray
    uv_V2: np.ndarray
    triangles_M3: np.ndarray

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
        """The mesh shifted by (x, y, z) metres."""
        return Mesh(self.points_V3 + np.array([x, y, z]), self.normals_V3, self.uv_V2, self.triangles_M3)

    def turned(self, axis: str, degrees: float) -> Mesh:
        """The mesh rotated about an axis through the origin."""
        return Mesh(rotate(self.points_V3, axis, degrees), rotate(self.normals_V3, axis, degrees), self.uv_V2, self.triangles_M3)


def rotate(vectors_V3: np.ndarray, axis: str, degrees: float) -> np.ndarray:
    """Vectors rotated about x, y or z, right-handed."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    out = np.array(vectors_V3, dtype=np.float64)
    out[:, i] = c * vectors_V3[:, i] - s * vectors_V3[:, j]
    out[:, j] = s * vectors_V3[:, i] + c * vectors_V3[:, j]
    return out


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    offsets = np.cumsum([0] + [len(m.points_V3) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.points_V3 for m in meshes]),
        np.concatenate([m.normals_V3 for m in meshes]),
        np.concatenate([m.uv_V2 for m in meshes]),
        np.concatenate([m.triangles_M3 + offset for m, offset in zip(meshes, offsets, strict=True)]),
    )


def _cube_template() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Corner signs [24, 3], face normals [24, 3], the face axis of each vertex [24], triangles [12, 3]."""
    signs: list[list[int]] = []
    normals: list[list[int]] = []
    axes: list[int] = []
    triangles: list[list[int]] = []
    for axis in range(3):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        for side in (-1, 1):
            start = len(signs)
            for sa, sb in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                corner, normal = [0, 0, 0], [0, 0, 0]
                corner[axis], corner[a], corner[b] = side, sa, sb
                normal[axis] = side
                signs.append(corner)
                normals.append(normal)
                axes.append(axis)
            order = (0, 1, 2, 3) if side > 0 else (0, 3, 2, 1)
            triangles += [[start + order[0], start + order[1], start + order[2]], [start + order[0], start + order[2], start + order[3]]]
    return np.array(signs, float), np.array(normals, float), np.array(axes), np.array(triangles)


def _bevel_triangles(signs: np.ndarray, normals: np.ndarray, axes: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """The 12 face, 24 edge and 8 corner triangles of a cube whose faces were drawn in: [44, 3], wound outwards."""
    where = {(tuple(s.astype(int)), int(a)): i for i, (s, a) in enumerate(zip(signs, axes, strict=True))}
    extra = []
    for axis in range(3):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        for sa in (-1, 1):
            for sb in (-1, 1):
                ends = []
                for end in (-1, 1):
                    place = [0, 0, 0]
                    place[axis], place[a], place[b] = end, sa, sb
                    ends.append((where[tuple(place), a], where[tuple(place), b]))
                (p, q), (r, s) = ends
                extra += [[p, q, s], [p, s, r]]
    for corner in {tuple(s.astype(int)) for s in signs}:
        extra.append([where[corner, axis] for axis in range(3)])
    extra = sorted(extra)
    inset = signs - normals * 0 - 0.2 * np.sign(signs) * (1 - np.abs(normals))
    for t in extra:
        p, q, r = inset[t]
        if np.dot(np.cross(q - p, r - p), p + q + r) < 0:
            t[1], t[2] = t[2], t[1]
    return np.concatenate([flat, np.array(extra)])


_SIGNS, _NORMALS, _AXES, _FLAT = _cube_template()
_BEVEL = _bevel_triangles(_SIGNS, _NORMALS, _AXES, _FLAT)


def boxes(low_K3: ArrayLike, high_K3: ArrayLike, bevel: float = 0.0) -> Mesh:
    """K boxes between two corners each; bevel > 0 (metres) rounds their edges. Textures run along the longer side of a face.

    12 triangles a box, or 44 with a bevel, in the order of the boxes.
    """
    low, high = np.atleast_2d(np.asarray(low_K3, float)), np.atleast_2d(np.asarray(high_K3, float))
    half, center = (high - low) / 2, (high + low) / 2
    inset = np.minimum(bevel, half.min(1) * 0.95)[:, None, None] * (1 - np.abs(_NORMALS))
    local = _SIGNS * (half[:, None, :] - inset)
    points = local + center[:, None, :]
    a, b = (_AXES + 1) % 3, (_AXES + 2) % 3
    index = np.arange(24)
    along, across = points[:, index, a], points[:, index, b]
    swap = half[:, b] > half[:, a]
    uv = np.stack([np.where(swap, across, along), np.where(swap, along, across)], -1)
    count = len(low)
    template = _BEVEL if bevel > 0 else _FLAT
    triangles = template[None] + 24 * np.arange(count)[:, None, None]
    normals = np.broadcast_to(_NORMALS, (count, 24, 3))
    return Mesh(points.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), triangles.reshape(-1, 3))


def quad(corner: Sequence[float], along: Sequence[float], up: Sequence[float]) -> Mesh:
    """A rectangle from a corner and its two sides; uv in metres from that corner; the normal is along x up."""
    start, side, rise = np.array(corner, float), np.array(along, float), np.array(up, float)
    width, height = np.linalg.norm(side), np.linalg.norm(rise)
    normal = np.cross(side, rise) / (width * height)
    points = np.stack([start, start + side, start + side + rise, start + rise])
    uv = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    return Mesh(points, np.broadcast_to(normal, (4, 3)), uv, np.array([[0, 1, 2], [0, 2, 3]]))


def grid_mesh(points_RC3: np.ndarray, uv_RC2: np.ndarray, normals_RC3: np.ndarray) -> Mesh:
    """A mesh over an R x C net of points; triangles of no area (at poles) are dropped."""
    rows, columns = points_RC3.shape[:2]
    first = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    triangles = np.concatenate(
        [np.stack([first, first + 1, first + columns + 1], -1), np.stack([first, first + columns + 1, first + columns], -1)]
    )
    points = points_RC3.reshape(-1, 3)
    p, q, r = (points[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(q - p, r - p), axis=1)
    return Mesh(points, normals_RC3.reshape(-1, 3), uv_RC2.reshape(-1, 2), triangles[area > 1e-10])


def lathe(profile: Sequence[tuple[float, float]], segments: int = 14) -> Mesh:
    """A surface of revolution about z through (radius, z) points, from the bottom up; smooth but for right angles in the profile."""
    profile_R2 = np.array(profile, float)
    edges = np.diff(profile_R2, axis=0)
    length = np.maximum(np.linalg.norm(edges, axis=1), 1e-9)
    outward = np.stack([edges[:, 1], -edges[:, 0]], -1) / length[:, None]
    ring_list, normal_list, v, at = [], [], [], 0.0
    for i, (p, q) in enumerate(itertools.pairwise(profile_R2)):
        before = outward[i - 1] if i > 0 and outward[i - 1] @ outward[i] > 0.5 else outward[i]
        after = outward[i + 1] if i + 1 < len(outward) and outward[i + 1] @ outward[i] > 0.5 else outward[i]
        for point, neighbor, place in ((p, before, at), (q, after, at + length[i])):
            ring_list.append(point)
            normal_list.append((outward[i] + neighbor) / np.linalg.norm(outward[i] + neighbor))
            v.append(place)
        at += length[i]
    rings, normals = np.array(ring_list), np.array(normal_list)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    cos, sin = np.cos(angle), np.sin(angle)
    cos[-1], sin[-1] = cos[0], sin[0]
    points = np.stack([rings[:, :1] * cos, rings[:, :1] * sin, np.broadcast_to(rings[:, 1:], (len(rings), segments + 1))], -1)
    directions = np.stack([normals[:, :1] * cos, normals[:, :1] * sin, np.broadcast_to(normals[:, 1:], points.shape[:2])], -1)
    girth = profile_R2[:, 0].mean() * 2 * np.pi
    uv = np.stack(np.broadcast_arrays(angle / (2 * np.pi) * girth, np.array(v)[:, None]), -1)
    return grid_mesh(points, uv, directions)


def cylinder(radius: float, low: float, high: float, segments: int = 12, top_radius: float | None = None) -> Mesh:
    """A closed cylinder or truncated cone about z."""
    top = radius if top_radius is None else top_radius
    return lathe([(0, low), (radius, low), (top, high), (0, high)], segments)


def bar(start: Sequence[float], end: Sequence[float], radius: float, segments: int = 8) -> Mesh:
    """A round rod between two points."""
    axis = np.array(end, float) - np.array(start, float)
    length = float(np.linalg.norm(axis))
    mesh = cylinder(radius, 0, length, segments)
    tilt = np.degrees(np.arccos(np.clip(axis[2] / length, -1, 1)))
    return mesh.turned("y", tilt).turned("z", np.degrees(np.arctan2(axis[1], axis[0]))).moved(*start)


def blob(half: Sequence[float], power: float = 0.5, rows: int = 9, columns: int = 16) -> Mesh:
    """A superellipsoid about the origin with half axes in metres: power 1 is an ellipsoid, near 0 a box; pillows lie around 0.5."""
    axes = np.array(half, float)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rows)[:, None]
    longitude = np.linspace(-np.pi, np.pi, columns + 1)[None, :]

    def signed(x: np.ndarray, p: float) -> np.ndarray:
        x = np.where(np.abs(x) < 1e-9, 0.0, x)
        return np.sign(x) * np.abs(x) ** p

    cos_lat, sin_lat = np.cos(latitude), np.sin(latitude)
    cos_lon, sin_lon = np.cos(longitude), np.sin(longitude)
    cos_lon[0, -1], sin_lon[0, -1] = cos_lon[0, 0], sin_lon[0, 0]
    x = signed(cos_lat, 0.8) * signed(cos_lon, power)
    y = signed(cos_lat, 0.8) * signed(sin_lon, power)
    z = np.broadcast_to(signed(sin_lat, 0.8), x.shape)
    points = np.stack([x, y, z], -1) * axes
    nx = signed(cos_lat, 1.2) * signed(cos_lon, 2 - power)
    ny = signed(cos_lat, 1.2) * signed(sin_lon, 2 - power)
    nz = np.broadcast_to(signed(sin_lat, 1.2), x.shape)
    normals = np.stack([nx, ny, nz], -1) / axes
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    return grid_mesh(points, points[..., :2], normals)


def drape(width: float, height: float, folds: float, depth: float, phase: float, gather: float) -> Mesh:
    """A hanging cloth in the xz plane: folds run down it; `gather` in 0..1 narrows its waist, as a tied curtain."""
    columns, rows = int(10 * max(folds, 1)), 7
    u = np.linspace(0, 1, columns + 1)[None, :]
    v = np.linspace(0, 1, rows)[:, None]
    waist = 1 - gather * np.exp(-(((v - 0.4) / 0.18) ** 2))
    x = (u - 0.5) * width * waist
    wave = 2 * np.pi * folds * u + phase
    y = depth * np.sin(wave) * (1.15 - 0.4 * v)
    z = np.broadcast_to(v * height, x.shape)
    slope = depth * np.cos(wave) * 2 * np.pi * folds / width
    normals = np.stack(np.broadcast_arrays(-slope + 0 * v, np.ones_like(x), np.zeros_like(x)), -1)
    normals = normals / np.linalg.norm(normals, axis=-1, keepdims=True)
    uv = np.stack(np.broadcast_arrays(u * width * 1.4 + 0 * v, v * height + 0 * u), -1)
    return grid_mesh(np.stack([x, y, z], -1), uv, normals)


def leaves(
    base_K3: np.ndarray, yaw_K: np.ndarray, pitch_K: np.ndarray, length_K: np.ndarray, width: float, droop: float, segments: int = 4
) -> Mesh:
    """K leaf blades: each starts at base, leaves at `pitch` radians above level towards `yaw`, and bends down by `droop` radians."""
    t = np.linspace(0, 1, segments + 1)
    pitch = pitch_K[:, None] - droop * (t[None, :-1] + 0.5 / segments)
    stride = length_K[:, None] / segments
    out = np.concatenate([np.zeros((len(yaw_K), 1)), np.cumsum(np.cos(pitch) * stride, 1)], 1)
    up = np.concatenate([np.zeros((len(yaw_K), 1)), np.cumsum(np.sin(pitch) * stride, 1)], 1)
    half = width * np.sin(np.pi * np.clip(t * 0.9 + 0.08, 0, 1)) ** 0.8
    cos, sin = np.cos(yaw_K)[:, None], np.sin(yaw_K)[:, None]
    sides = []
    for sign in (-1, 1):
        x = base_K3[:, :1] + out * cos - sign * half * sin
        y = base_K3[:, 1:2] + out * sin + sign * half * cos
        sides.append(np.stack([x, y, base_K3[:, 2:] + up], -1))
    points = np.stack(sides, 2)
    bend = np.concatenate([pitch, pitch[:, -1:]], 1)
    normal = np.stack([-np.sin(bend) * cos, -np.sin(bend) * sin, np.cos(bend)], -1)
    normals = np.broadcast_to(normal[:, :, None, :], points.shape)
    uv = np.stack(np.broadcast_arrays(length_K[:, None, None] * t[None, :, None], np.array([0, 2 * width])[None, None, :]), -1)
    row = np.arange(segments)[:, None] * 2
    template = np.concatenate([row + np.array([0, 1, 3]), row + np.array([0, 3, 2])])
    triangles = template[None] + np.arange(len(yaw_K))[:, None, None] * (2 * (segments + 1))
    return Mesh(points.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), triangles.reshape(-1, 3))
