"""The light that leaves surface points towards the eye: textures, lamps, windows and sun with shadows, ambient light, gloss, mirrors.

N points. Light is linear RGB. A point that faces a lamp of intensity I at d metres gets the irradiance I cos / d^2; what leaves it is
albedo x irradiance, with the usual 1 / pi inside the lamps' units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tips_bench.rooms import materials, textures
from tips_bench.rooms.assembly import Light
from tips_bench.rooms.tracer import Hits, Tracer

MAX_LIGHTS = 4
AMBIENT_REACH = 0.9


@dataclass(frozen=True)
class Surface:
    """What the rays met, each array with one row a ray. normals are for shading, flat the triangle's own; both face the eye."""

    place_N3: np.ndarray
    normals_N3: np.ndarray
    flat_N3: np.ndarray
    toward_eye_N3: np.ndarray
    uv_N2: np.ndarray
    material_N: np.ndarray
    texel_N: np.ndarray


class Shader:
    """Materials and lights of one scene as arrays, ready to light points."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        scene = tracer.scene
        items = scene.materials
        self._texture = np.array([m.texture for m in items])
        self._colours = np.array([m.colours for m in items], np.float32)
        self._scale = np.array([m.scale for m in items], np.float32)
        self._gloss = np.array([m.gloss for m in items], np.float32)
        self._glow = np.array([m.glow for m in items], np.float32)
        self.mode = np.array([m.mode for m in items])
        strength = [float(light.power.sum()) * (2.0 if light.kind == "sun" else 1.0) for light in scene.lights]
        self.lights: list[Light] = [scene.lights[i] for i in sorted(np.argsort(strength, kind="stable")[::-1][:MAX_LIGHTS])]

    def surface(self, rays_N6: np.ndarray, hits: Hits, pixel_angle: float) -> Surface:
        """The surface points of hits; pixel_angle is the size of a pixel in radians, for the choice of texture level."""
        scene = self.tracer.scene
        corners = scene.triangles_M3[hits.triangle_N].astype(np.int64)
        b, c = hits.uv_N2[:, :1], hits.uv_N2[:, 1:]
        a = 1 - b - c
        p, q, r = corners[:, 0], corners[:, 1], corners[:, 2]
        normals = a * scene.normals_V3[p] + b * scene.normals_V3[q] + c * scene.normals_V3[r]
        uv = a * scene.uv_V2[p] + b * scene.uv_V2[q] + c * scene.uv_V2[r]
        direction = rays_N6[:, 3:]
        length = np.sqrt(dot(direction, direction))
        toward = -direction / length[:, None]
        flat = facing(hits.normals_N3, toward)
        normals = normals / np.maximum(np.sqrt(dot(normals, normals)), 1e-6)[:, None]
        normals = np.where((dot(normals, flat) < 0)[:, None], -normals, normals)
        t = np.where(np.isfinite(hits.t_N), hits.t_N, 0.0)
        texel = t * length * pixel_angle / np.sqrt(np.maximum(dot(flat, toward), 0.08))
        return Surface(rays_N6[:, :3] + direction * t[:, None], normals, flat, toward, uv, scene.material_M[hits.triangle_N], texel)

    def albedo(self, surface: Surface) -> np.ndarray:
        """Reflectance [N, 3] from textures, bilinear within the nearest level of detail."""
        material = surface.material_N
        scale = self._scale[material]
        level = np.log2(np.maximum(surface.texel_N / np.minimum(scale[:, 0], scale[:, 1]) * textures.SIZE, 1.0))
        level = np.minimum(np.rint(level), textures.LEVELS - 1).astype(np.int64)
        side = textures.SIZE >> level
        at = surface.uv_N2 / scale
        at = (at - np.floor(at)) * side[:, None] - 0.5
        low = np.floor(at)
        part = (at - low).astype(np.float32)
        base = self._texture[material] * textures.TEXELS + textures.LEVEL_STARTS[level]
        u0, v0 = (low[:, k].astype(np.int64) & (side - 1) for k in (0, 1))
        u1, v1 = (u0 + 1) & (side - 1), (v0 + 1) & (side - 1)
        bank = textures.flat_bank()
        pu, pv = part[:, :1], part[:, 1:]
        under = bank[base + v0 * side + u0] * (1 - pu) + bank[base + v0 * side + u1] * pu
        over = bank[base + v1 * side + u0] * (1 - pu) + bank[base + v1 * side + u1] * pu
        mix = (under * (1 - pv) + over * pv) * np.float32(1 / 255)
        first, second, third = (self._colours[material, k] for k in range(3))
        colour = first + (second - first) * mix[:, :1]
        return colour + (third - colour) * mix[:, 1:]

    def visibility(self, surface: Surface, jitter_N: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Share of each light, and last of the open surroundings, that one sampled ray each sees: [lights + 1, N] of 0 or 1.

        jitter_N: which of the sample directions [S, 5] each point takes: two numbers for areas, a unit vector for balls and surroundings.
        """
        origin = surface.place_N3 + surface.flat_N3 * 0.003
        draw = directions[jitter_N]
        seen = np.empty((len(self.lights) + 1, len(origin)), np.float32)
        for k, light in enumerate(self.lights):
            if light.kind == "sun":
                way, far = 20.0 * (light.place + light.radius * draw[:, 2:]), 1.0
            else:
                target = light.place + draw[:, :1] * light.spread_23[0] + draw[:, 1:2] * light.spread_23[1] + light.radius * draw[:, 2:]
                way, far = target - origin, 0.98
            seen[k] = ~self.tracer.blocked(origin, way, far)
        around = surface.normals_N3 + 0.99 * draw[:, 2:]
        around = around / np.sqrt(dot(around, around))[:, None]
        seen[-1] = ~self.tracer.blocked(origin, around, AMBIENT_REACH)
        return seen

    def radiance(self, surface: Surface, seen: np.ndarray) -> np.ndarray:
        """Linear RGB [N, 3] that leaves the surface towards the eye, given how much of each light it sees."""
        normal, material = surface.normals_N3, surface.material_N
        open_ = 0.3 + 0.7 * seen[-1]
        lit = self.tracer.scene.ambient * (open_ * (0.85 + 0.15 * normal[:, 2]))[:, None]
        shine = np.zeros_like(lit)
        glossy = np.flatnonzero(self._gloss[material] > 0)
        for k, light in enumerate(self.lights):
            way, strength = _toward(light, surface.place_N3)
            lit = lit + light.power.astype(np.float32) * (strength * np.maximum(dot(normal, way), 0) * seen[k])[:, None]
            half = way[glossy] + surface.toward_eye_N3[glossy]
            half = half / np.maximum(np.sqrt(dot(half, half)), 1e-6)[:, None]
            lobe = np.maximum(dot(half, normal[glossy]), 0) ** 60 * strength[glossy] * seen[k, glossy] * 6
            shine[glossy] += light.power.astype(np.float32) * lobe[:, None]
        gloss, glow = self._gloss[material][:, None], self._glow[material][:, None]
        colour, mode = self.albedo(surface), self.mode[material]
        emits = ((mode == materials.SKY) | (mode == materials.SCREEN))[:, None] & (glow > 0)
        return np.where(emits, colour * glow, colour * (lit * (1 - gloss) + glow) + gloss * (shine + 0.25 * lit))


def _toward(light: Light, place_N3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors to a light and the irradiance it gives, facing it, per unit of its power."""
    if light.kind == "sun":
        return np.broadcast_to(light.place.astype(np.float32), place_N3.shape), np.ones(len(place_N3), np.float32)
    way = light.place.astype(np.float32) - place_N3
    squared = np.maximum(dot(way, way), 1e-6)
    way = way / np.sqrt(squared)[:, None]
    extent = (light.spread_23**2).sum() if light.kind == "window" else light.radius**2 + 0.1
    strength = 1 / (squared + np.float32(extent))
    if light.kind == "window":
        strength = strength * np.maximum(-dot(way, light.normal.astype(np.float32)), 0.0)
    return way, strength


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row-wise inner product of [N, 3] with [N, 3] or [3]."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def facing(normals_N3: np.ndarray, toward_N3: np.ndarray) -> np.ndarray:
    """Normals turned to the side of `toward`."""
    return np.where((dot(normals_N3, toward_N3) < 0)[:, None], -normals_N3, normals_N3)
