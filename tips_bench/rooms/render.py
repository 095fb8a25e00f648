"""One frame of a room: picture, semantic and instance labels, metric depth and normals, as a camera sees them.

Axes: H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tips_bench.rooms import materials
from tips_bench.rooms.camera import Camera
from tips_bench.rooms.classes import IGNORE
from tips_bench.rooms.shading import Shader, Surface, dot
from tips_bench.rooms.tracer import Hits, Tracer

TILE = 4
_EXTRA = ((-0.32, -0.18), (0.18, -0.32), (0.14, 0.34))


@dataclass(frozen=True)
class Frame:
    """image_HW3 uint8 sRGB; classes_HW uint8, 255 where nothing is; instances_HW uint16, instance number + 1, 0 where nothing is;
    depth_HW float32 metres along the optical axis, 0 where nothing is; normals_HW3 float32 unit, camera frame, facing the camera."""

    image_HW3: np.ndarray
    classes_HW: np.ndarray
    instances_HW: np.ndarray
    depth_HW: np.ndarray
    normals_HW3: np.ndarray
    camera: Camera


def _directions() -> np.ndarray:
    """TILE^2 stratified samples: two numbers in -1..1 and a unit vector each, shuffled once."""
    count = TILE * TILE
    rng = np.random.default_rng(7)
    cell = np.arange(count)
    u = ((cell % TILE) + 0.5) / TILE * 2 - 1
    v = ((cell // TILE) + 0.5) / TILE * 2 - 1
    z = 1 - 2 * (cell + 0.5) / count
    turn = cell * np.pi * (3 - np.sqrt(5))
    ball = np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], -1)
    return np.concatenate([np.stack([u, v], -1)[rng.permutation(count)], ball[rng.permutation(count)]], 1).astype(np.float32)


_DIRECTIONS = _directions()


def _tile_numbers(size: int) -> np.ndarray:
    """Which sample each pixel takes, so that every TILE x TILE window holds all of them: [size * size]."""
    i = np.arange(size) % TILE
    return (i[:, None] * TILE + i[None, :]).ravel()


def smooth(seen_LHW: np.ndarray, key_HW: np.ndarray) -> np.ndarray:
    """The mean over each pixel's TILE x TILE window, of the pixels that share its key only."""
    _, height, width = seen_LHW.shape
    before, after = TILE // 2 - 1, TILE // 2
    values = np.pad(seen_LHW, ((0, 0), (before, after), (before, after)))
    keys = np.pad(key_HW.astype(np.int64), ((before, after), (before, after)), constant_values=-1)
    total, count = np.zeros_like(seen_LHW), np.zeros((height, width), np.float32)
    for dy in range(TILE):
        for dx in range(TILE):
            same = (keys[dy : dy + height, dx : dx + width] == key_HW).astype(np.float32)
            total += values[:, dy : dy + height, dx : dx + width] * same
            count += same
    return total / count


class Renderer:
    """Draws frames of one scene."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.shader = Shader(tracer)

    def frame(self, camera: Camera) -> Frame:
        """What the camera sees."""
        size, scene = camera.size, self.tracer.scene
        rays = camera.pixel_rays()
        hits = self.tracer.cast(rays)
        hit = np.isfinite(hits.t_N)
        surface = self.shader.surface(rays, hits, 1 / camera.intrinsics_33[0, 0])
        owner = np.where(hit, scene.instance_M[hits.triangle_N].astype(np.int64) + 1, 0)
        light = self._light(surface, owner, size)
        light = self._mirrors(rays, surface, hits, light, camera)
        linear = self._smooth_edges(camera, surface, owner, light)
        rotation = camera.pose_44[:3, :3]
        normals = np.stack([dot(surface.flat_N3, rotation[:, k].astype(np.float32)) for k in range(3)], -1) * hit[:, None]
        return Frame(
            develop(linear).reshape(size, size, 3), np.where(hit, scene.class_M[hits.triangle_N], IGNORE).astype(np.uint8).reshape(size, size),
            owner.astype(np.uint16).reshape(size, size), np.where(hit, hits.t_N, 0).astype(np.float32).reshape(size, size),
            normals.astype(np.float32).reshape(size, size, 3), camera)

    def _light(self, surface: Surface, owner: np.ndarray, size: int) -> np.ndarray:
        seen = self.shader.visibility(surface, _tile_numbers(size), _DIRECTIONS)
        seen = smooth(seen.reshape(-1, size, size), owner.reshape(size, size)).reshape(-1, size * size)
        return self.shader.radiance(surface, seen)

    def _rough(self, rays: np.ndarray, camera: Camera) -> np.ndarray:
        """Light along single rays, with one shadow ray each."""
        hits = self.tracer.cast(rays)
        surface = self.shader.surface(rays, hits, 1 / camera.intrinsics_33[0, 0])
        number = (np.arange(len(rays)) * 7) % (TILE * TILE)
        light = self.shader.radiance(surface, self.shader.visibility(surface, number, _DIRECTIONS))
        return light * np.isfinite(hits.t_N)[:, None]

    def _mirrors(self, rays: np.ndarray, surface: Surface, hits: Hits, light: np.ndarray, camera: Camera) -> np.ndarray:
        """Replace the light of looking glasses by what they reflect."""
        index = np.flatnonzero((self.shader.mode[surface.material_N] == materials.MIRROR) & np.isfinite(hits.t_N))
        if not len(index):
            return light
        normal, toward = surface.flat_N3[index], surface.toward_eye_N3[index]
        reflected = 2 * dot(normal, toward)[:, None] * normal - toward
        back = np.concatenate([surface.place_N3[index] + 0.002 * normal, reflected], 1).astype(np.float32)
        light[index] = 0.9 * self._rough(back, camera)
        return light

    def _smooth_edges(self, camera: Camera, surface: Surface, owner: np.ndarray, light: np.ndarray) -> np.ndarray:
        """Average four rays a pixel where object, material or direction changes."""
        size = camera.size
        key = (owner * 4096 + surface.material_N).reshape(size, size)
        normal = surface.flat_N3.reshape(size, size, 3)
        edge = np.zeros((size, size), bool)
        for a, b in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
            differs = (key[a] != key[b]) | (dot(normal[a], normal[b]) < 0.9)
            edge[a] |= differs
            edge[b] |= differs
        index = np.flatnonzero(edge.ravel() & (self.shader.mode[surface.material_N] != materials.MIRROR))
        row, column = index // size + 0.5, index % size + 0.5
        rays = np.concatenate([camera.rays(column + dx, row + dy) for dx, dy in _EXTRA])
        extra = np.minimum(self._rough(rays, camera), 4.0).reshape(len(_EXTRA), -1, 3)
        light[index] = (np.minimum(light[index], 4.0) + extra.sum(0)) / (1 + len(_EXTRA))
        return light


def develop(linear_N3: np.ndarray) -> np.ndarray:
    """Linear light to sRGB bytes, exposed for the picture's own middle grey, highlights rolled off."""
    luminance = linear_N3 @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    middle = float(np.exp(np.mean(np.log(np.maximum(luminance, 0.01)))))
    exposed = 1 - np.exp(-linear_N3 * np.float32(0.36 / middle))
    srgb = np.where(exposed <= 0.0031308, 12.92 * exposed, 1.055 * np.maximum(exposed, 1e-6) ** (1 / 2.4) - 0.055)
    return np.rint(np.clip(srgb, 0, 1) * 255).astype(np.uint8)
