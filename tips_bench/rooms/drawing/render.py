"""One frame of a room: picture, semantic and instance labels, metric depth and normals, as a camera sees them.

Axes: H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tips_bench.rooms.drawing import materials
from tips_bench.rooms.drawing.camera import Camera
from tips_bench.rooms.drawing.classes import IGNORE
from tips_bench.rooms.drawing.shading import Shader, Surface, dot
from tips_bench.rooms.drawing.tracer import Tracer

TILE = 4
_EXTRA = ((-0.3, -0.2), (0.3, 0.2))
_BRIGHTEST = np.float32(4.0)
_CONTRAST = np.float32(0.04)


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
        surface = self.shader.surface(rays, hits, 1 / camera.focal)
        owner = np.where(hit, scene.instance_M[hits.triangle_N].astype(np.int64) + 1, 0)
        incidence = self.shader.incidence(surface)
        seen = self.shader.visibility(surface, incidence, _tile_numbers(size), _DIRECTIONS)
        seen = smooth(seen.reshape(-1, size, size), owner.reshape(size, size)).reshape(-1, size * size)
        light = self.shader.radiance(surface, incidence, seen) * hit
        self._mirrors(surface, hit, light, camera)
        self._smooth_edges(camera, surface, owner, seen, light)
        rotation = camera.pose_44[:3, :3].astype(np.float32)
        normals = np.stack([dot(surface.flat_3N, rotation[:, k]) for k in range(3)], -1) * hit[:, None]
        return Frame(
            develop(light).T.reshape(size, size, 3),
            np.where(hit, scene.class_M[hits.triangle_N], IGNORE).astype(np.uint8).reshape(size, size),
            owner.astype(np.uint16).reshape(size, size),
            np.where(hit, hits.t_N, 0).astype(np.float32).reshape(size, size),
            normals.reshape(size, size, 3),
            camera,
        )

    def _mirrors(self, surface: Surface, hit: np.ndarray, light: np.ndarray, camera: Camera) -> None:
        """Replace the light of looking glasses by what they reflect."""
        index = np.flatnonzero((self.shader.mode[surface.material_N] == materials.MIRROR) & hit)
        if not len(index):
            return
        normal, toward = surface.flat_3N[:, index], surface.toward_eye_3N[:, index]
        reflected = 2 * dot(normal, toward) * normal - toward
        back = np.concatenate([surface.place_3N[:, index] + np.float32(0.002) * normal, reflected]).T.copy()
        hits = self.tracer.cast(back)
        mirrored = self.shader.surface(back, hits, 1 / camera.focal)
        incidence = self.shader.incidence(mirrored)
        seen = self.shader.visibility(mirrored, incidence, index % len(_DIRECTIONS), _DIRECTIONS)
        light[:, index] = np.float32(0.9) * self.shader.radiance(mirrored, incidence, seen) * np.isfinite(hits.t_N)

    def _smooth_edges(self, camera: Camera, surface: Surface, owner: np.ndarray, seen: np.ndarray, light: np.ndarray) -> None:
        """Average a few rays a pixel where object, material or direction changes, and with it the light.

        The added rays take their shadows from this pixel, or from the neighbour on their side if they meet another object.
        """
        size = camera.size
        index = np.flatnonzero(_edges(owner, surface, light, size) & (self.shader.mode[surface.material_N] != materials.MIRROR))
        row, column, many = index // size, index % size, len(_EXTRA)
        rays = np.concatenate([camera.rays(column + (0.5 + dx), row + (0.5 + dy)) for dx, dy in _EXTRA])
        hits = self.tracer.cast(rays)
        added = self.shader.surface(rays, hits, 1 / camera.focal)
        near = [np.clip(row + np.sign(dy), 0, size - 1) * size + np.clip(column + np.sign(dx), 0, size - 1) for dx, dy in _EXTRA]
        same = self.tracer.scene.instance_M[hits.triangle_N] + 1 == np.tile(owner[index], many)
        source = np.where(same, np.tile(index, many), np.concatenate(near).astype(np.int64))
        extra = np.minimum(self.shader.radiance(added, self.shader.incidence(added), seen[:, source]), _BRIGHTEST) * np.isfinite(hits.t_N)
        light[:, index] = (np.minimum(light[:, index], _BRIGHTEST) + extra.reshape(3, many, -1).sum(1)) / np.float32(1 + many)


def _edges(owner: np.ndarray, surface: Surface, light: np.ndarray, size: int) -> np.ndarray:
    """Pixels beside which the object, its material or the direction of its surface changes, and the light with it: [size * size] bool."""
    key = (owner * 4096 + surface.material_N).reshape(size, size)
    normal, bright = surface.flat_3N.reshape(3, size, size), np.sqrt(light.reshape(3, size, size))
    edge = np.zeros((size, size), bool)
    for a, b in ((np.s_[..., 1:, :], np.s_[..., :-1, :]), (np.s_[..., 1:], np.s_[..., :-1])):
        differs = (key[a] != key[b]) | (dot(normal[a], normal[b]) < 0.9)
        differs &= np.abs(bright[a] - bright[b]).max(0) > _CONTRAST
        edge[a] |= differs
        edge[b] |= differs
    return edge.ravel()


def develop(linear_3N: np.ndarray) -> np.ndarray:
    """Linear light to sRGB bytes, exposed for the picture's own middle grey, highlights rolled off."""
    luminance = dot(linear_3N, np.array([0.2126, 0.7152, 0.0722], np.float32))
    middle = float(np.exp(np.mean(np.log(np.maximum(luminance, np.float32(0.01))), dtype=np.float64)))
    exposed = 1 - np.exp(linear_3N * np.float32(-0.36 / middle))
    return _SRGB[np.rint(exposed * np.float32(len(_SRGB) - 1)).astype(np.int64)]


def _srgb_table() -> np.ndarray:
    """The sRGB byte of each linear value 0..1 in 1 / 8191 (IEC 61966-2-1)."""
    x = np.linspace(0, 1, 8192)
    return np.rint(255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)).astype(np.uint8)


_SRGB = _srgb_table()
