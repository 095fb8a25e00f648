"""From (seed, split, number) to a rendered room. Nothing else goes in, so any worker may draw any room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tips_bench.rooms.captions import synthetic, visible, web
from tips_bench.rooms.drawing.assembly import Scene
from tips_bench.rooms.drawing.camera import glide, walk
from tips_bench.rooms.drawing.render import Frame, Renderer
from tips_bench.rooms.drawing.shading import Shader
from tips_bench.rooms.drawing.tracer import Tracer
from tips_bench.rooms.scene.furnish import build_scene

VERSION = 1
"""Raised whenever the same seed gives other pictures."""

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Room:
    """A rendered room: its name, the scene, its frames along a walk, and per frame the (web, synthetic) captions."""

    name: str
    scene: Scene
    tracer: Tracer
    frames: list[Frame]
    captions: list[tuple[str, str]]


def _streams(seed: int, split: str, number: int) -> tuple[np.random.Generator, ...]:
    """Independent generators for the scene, the walk and the captions of one room."""
    root = np.random.SeedSequence([VERSION, seed, SPLITS.index(split), number])
    return tuple(np.random.Generator(np.random.PCG64(s)) for s in root.spawn(3))


def room(seed: int, split: str, number: int, *, frames: int, size: int, one_lens: bool = False, video: bool = False) -> Room:
    """Draw, furnish and render room `number` of a split: `frames` pictures of size x size pixels.

    one_lens: as in `walk`. video: the pictures are those of a video (`glide`).
    """
    for_scene, for_walk, for_captions = _streams(seed, split, number)
    scene = build_scene(for_scene)
    tracer = Tracer(scene)
    renderer = Renderer(tracer)
    cameras = glide(tracer, for_walk, frames, size) if video else walk(tracer, for_walk, frames, size, one_lens=one_lens)
    pictures = [renderer.frame(camera) for camera in cameras]
    in_view = [visible(scene, frame) for frame in pictures]
    captions = [(web(scene, seen, for_captions), synthetic(scene, frame, seen)) for frame, seen in zip(pictures, in_view, strict=True)]
    return Room(f"{split}{number:05d}", scene, tracer, pictures, captions)


@dataclass(frozen=True)
class PointCloud:
    """Surface points of a room: places in metres, sRGB of the bare material, class and instance (number + 1). N points."""

    points_N3: np.ndarray
    colors_N3: np.ndarray
    classes_N: np.ndarray
    instances_N: np.ndarray


def point_cloud(tracer: Tracer, stations: int = 4, rays: int = 6000) -> PointCloud:
    """What a scanner sees that turns once at each of a few stations: no hidden faces, denser where nearer."""
    width, depth, height = tracer.scene.size
    z = 1 - 2 * (np.arange(rays) + 0.5) / rays
    turn = np.arange(rays) * np.pi * (3 - np.sqrt(5))
    ways = np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], -1)
    angle = np.pi / 4 + 2 * np.pi * np.arange(stations) / stations
    eyes = np.stack([width * (0.5 + 0.28 * np.cos(angle)), depth * (0.5 + 0.28 * np.sin(angle)), np.full(stations, 0.62 * height)], -1)
    all_rays = np.concatenate([np.repeat(eyes, rays, 0), np.tile(ways, (stations, 1))], 1).astype(np.float32)
    hits = tracer.cast(all_rays)
    keep = np.isfinite(hits.t_N)
    shader = Shader(tracer)
    surface = shader.surface(all_rays, hits, 0.002)
    colors = np.clip(shader.albedo(surface), 0, 1) ** (1 / 2.2)
    scene = tracer.scene
    return PointCloud(
        surface.place_3N.T[keep],
        np.rint(colors.T[keep] * 255).astype(np.uint8),
        scene.class_M[hits.triangle_N][keep],
        (scene.instance_M[hits.triangle_N] + 1)[keep].astype(np.uint16),
    )
