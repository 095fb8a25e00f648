"""The light that leaves surface points towards the eye: textures, lamps, windows and sun with shadows, ambient light, gloss.

N points; vectors are [3, N], so that each operation runs over contiguous memory; L lights, S sample directions. Light is linear RGB.
A point that faces a lamp of power I at d metres gets the irradiance I cos / d^2; what leaves it is albedo x irradiance, the usual
1 / pi being inside the lamps' units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tips_bench.rooms.drawing import materials, textures
from tips_bench.rooms.drawing.assembly import Light
from tips_bench.rooms.drawing.tracer import Hits, Tracer

MAX_LIGHTS = 4
AMBIENT_REACH = 0.9
_FAINT = np.float32(0.004)


@dataclass(frozen=True)
class Surface:
    """What the rays met. normals are for shading, flat the triangle's own; both face the eye. texel: a pixel's size there in metres."""

    place_3N: np.ndarray
    normals_3N: np.ndarray
    flat_3N: np.ndarray
    toward_eye_3N: np.ndarray
    uv_2N: np.ndarray
    material_N: np.ndarray
    texel_N: np.ndarray


class Shader:
    """Materials and lights of one scene as arrays, ready to light points."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        scene, items = tracer.scene, tracer.scene.materials
        self._triangles_3M = np.ascontiguousarray(scene.triangles_M3.T.astype(np.int64))
        self._normals_3V, self._uv_2V = np.ascontiguousarray(scene.normals_V3.T), np.ascontiguousarray(scene.uv_V2.T)
        self._material_M = scene.material_M.astype(np.int64)
        self._texture = np.array([m.texture for m in items])
        self._colors = np.ascontiguousarray(np.array([m.colors for m in items], np.float32).transpose(1, 2, 0))
        self._scale = np.array([m.scale for m in items], np.float32).T.copy()
        self._gloss = np.array([m.gloss for m in items], np.float32)
        self._glow = np.array([m.glow for m in items], np.float32)
        self.mode = np.array([m.mode for m in items])
        strength = [float(light.power.sum()) * (2.0 if light.kind == "sun" else 1.0) for light in scene.lights]
        self.lights: list[Light] = [scene.lights[i] for i in sorted(np.argsort(strength, kind="stable")[::-1][:MAX_LIGHTS])]

    def surface(self, rays_N6: np.ndarray, hits: Hits, pixel_angle: float) -> Surface:
        """The surface points of hits; pixel_angle is the size of a pixel in radians, for the choice of texture level."""
        direction = np.ascontiguousarray(rays_N6[:, 3:].T)
        length = np.sqrt(dot(direction, direction))
        toward = -direction / length
        flat = facing(np.ascontiguousarray(hits.normals_N3.T), toward)
        b, c = hits.uv_N2[:, 0].copy(), hits.uv_N2[:, 1].copy()
        weights = (1 - b - c, b, c)
        corners = [corner[hits.triangle_N] for corner in self._triangles_3M]
        normals = sum(w * self._normals_3V[:, k] for w, k in zip(weights, corners, strict=True))
        uv = sum(w * self._uv_2V[:, k] for w, k in zip(weights, corners, strict=True))
        normals = facing(normals / np.maximum(np.sqrt(dot(normals, normals)), np.float32(1e-6)), flat)
        t = np.where(np.isfinite(hits.t_N), hits.t_N, np.float32(0))
        texel = t * length * np.float32(pixel_angle) / np.sqrt(np.maximum(dot(flat, toward), np.float32(0.08)))
        place = np.ascontiguousarray(rays_N6[:, :3].T) + direction * t
        return Surface(place, normals, flat, toward, uv, self._material_M[hits.triangle_N], texel)

    def albedo(self, surface: Surface) -> np.ndarray:
        """Reflectance [3, N] from textures, bilinear within the nearest level of detail."""
        material = surface.material_N
        scale = self._scale[:, material]
        level = np.log2(np.maximum(surface.texel_N / np.minimum(scale[0], scale[1]) * np.float32(textures.SIZE), np.float32(1)))
        level = np.minimum(np.rint(level), textures.LEVELS - 1).astype(np.int64)
        side = textures.SIZE >> level
        base = self._texture[material] * textures.TEXELS + textures.LEVEL_STARTS[level]
        at = surface.uv_2N / scale
        at = (at - np.floor(at)) * side.astype(np.float32) - np.float32(0.5)
        low = np.floor(at)
        pu, pv = at - low
        u0, v0 = low.astype(np.int64) & (side - 1)
        u1, row0, row1 = (u0 + 1) & (side - 1), base + v0 * side, base + ((v0 + 1) & (side - 1)) * side
        bank = textures.bank()
        first = second = np.float32(0)
        for index, weight in (
            (row0 + u0, (1 - pu) * (1 - pv)),
            (row0 + u1, pu * (1 - pv)),
            (row1 + u0, (1 - pu) * pv),
            (row1 + u1, pu * pv),
        ):
            texel, weight = bank[index], weight * np.float32(1 / 255)
            first = first + weight * (texel & 255)
            second = second + weight * (texel >> 8)
        ground, figure, ink = (color[:, material] for color in self._colors)
        color = ground + (figure - ground) * first
        return color + (ink - color) * second

    def incidence(self, surface: Surface) -> np.ndarray:
        """Irradiance of each light at each point per unit of its power, shadows left out: [L, N]."""
        out = np.empty((len(self.lights), surface.place_3N.shape[1]), np.float32)
        for k, light in enumerate(self.lights):
            way, strength = _toward(light, surface.place_3N)
            out[k] = strength * np.maximum(dot(surface.normals_3N, way), np.float32(0))
        return out

    def visibility(self, surface: Surface, incidence_LN: np.ndarray, jitter_N: np.ndarray, directions_S5: np.ndarray) -> np.ndarray:
        """Share of each light, and last of the open surroundings, that one sampled ray each sees: [L + 1, N] of 0 or 1.

        jitter_N: which of the sample directions each point takes: two numbers for areas, a unit vector for balls and surroundings.
        Points that a light hardly reaches count as seeing it.
        """
        origin = surface.place_3N + surface.flat_3N * np.float32(0.003)
        seen = np.ones((len(self.lights) + 1, origin.shape[1]), np.float32)
        ball_3S = np.ascontiguousarray(directions_S5[:, 2:].T)
        for k, light in enumerate(self.lights):
            index = np.flatnonzero(incidence_LN[k] > _FAINT)
            start = origin[:, index]
            if light.kind == "sun":
                ways = (20.0 * (light.place[:, None] + light.radius * ball_3S)).astype(np.float32)[:, jitter_N[index]]
            else:
                area = light.spread_23.T[:, :1] * directions_S5[:, 0] + light.spread_23.T[:, 1:] * directions_S5[:, 1]
                targets = (light.place[:, None] + area + light.radius * ball_3S).astype(np.float32)
                ways = targets[:, jitter_N[index]] - start
            seen[k, index] = ~self.tracer.blocked(start, ways, 0.98)
        around = surface.normals_3N + np.float32(0.99) * ball_3S[:, jitter_N]
        around = around * (np.float32(AMBIENT_REACH) / np.sqrt(dot(around, around)))
        seen[-1] = ~self.tracer.blocked(origin, around, 1.0)
        return seen

    def radiance(self, surface: Surface, incidence_LN: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Linear RGB [3, N] that leaves the surface towards the eye, given how much of each light it sees."""
        material = surface.material_N
        around = (np.float32(0.3) + np.float32(0.7) * seen[-1]) * (np.float32(0.85) + np.float32(0.15) * surface.normals_3N[2])
        lit = self.tracer.scene.ambient[:, None] * around
        for light, falls, sees in zip(self.lights, incidence_LN, seen[:-1], strict=True):
            lit += light.power.astype(np.float32)[:, None] * (falls * sees)
        gloss, glow, mode = self._gloss[material], self._glow[material], self.mode[material]
        color = self.albedo(surface)
        out = color * (lit * (1 - gloss) + glow)
        emits = np.flatnonzero(((mode == materials.SKY) | (mode == materials.SCREEN)) & (glow > 0))
        out[:, emits] = color[:, emits] * glow[emits]
        glossy = np.flatnonzero(gloss > 0)
        out[:, glossy] += gloss[glossy] * (self._shine(surface, seen, glossy) + np.float32(0.25) * lit[:, glossy])
        return out

    def _shine(self, surface: Surface, seen: np.ndarray, index: np.ndarray) -> np.ndarray:
        """The lights' reflections in glossy points (Blinn-Phong, exponent 64): [3, len(index)]."""
        out = np.zeros((3, len(index)), np.float32)
        place, normal, toward = surface.place_3N[:, index], surface.normals_3N[:, index], surface.toward_eye_3N[:, index]
        for k, light in enumerate(self.lights):
            way, strength = _toward(light, place)
            half = way + toward
            lobe = np.maximum(dot(half, normal), 0) / np.maximum(np.sqrt(dot(half, half)), np.float32(1e-6))
            for _ in range(6):
                lobe = lobe * lobe
            out += light.power.astype(np.float32)[:, None] * (lobe * strength * seen[k, index] * np.float32(6))
        return out


def _toward(light: Light, place_3N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors to a light and the irradiance it gives, facing it, per unit of its power."""
    towards = light.place.astype(np.float32)[:, None]
    if light.kind == "sun":
        return np.broadcast_to(towards, place_3N.shape), np.ones(place_3N.shape[1], np.float32)
    way = towards - place_3N
    squared = np.maximum(dot(way, way), np.float32(1e-6))
    way /= np.sqrt(squared)
    extent = float((light.spread_23**2).sum()) if light.kind == "window" else light.radius**2 + 0.1
    strength = 1 / (squared + np.float32(extent))
    if light.kind == "window":
        strength *= np.maximum(-dot(way, light.normal.astype(np.float32)), np.float32(0))
    return way, strength


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner product over the first axis of [3, ...] with [3, ...] or [3]."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def facing(normals_3N: np.ndarray, toward_3N: np.ndarray) -> np.ndarray:
    """Normals turned to the side of `toward`."""
    return normals_3N * np.where(dot(normals_3N, toward_3N) < 0, np.float32(-1), np.float32(1))
