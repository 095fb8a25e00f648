"""Pinhole cameras, a walk through a room, and the path of a video.

Camera frame: x right, y down, z forward (OpenCV). Pixel (row i, column j) has its centre at (j + 0.5, i + 0.5), so the principal
point of an image of `size` pixels is size / 2. Poses are camera-to-world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tips_bench.rooms.drawing.tracer import Tracer


@dataclass(frozen=True)
class Camera:
    """intrinsics_33 in pixels, pose_44 camera-to-world in metres."""

    intrinsics_33: np.ndarray
    pose_44: np.ndarray
    size: int

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return float(self.intrinsics_33[0, 0])

    def rays(self, x_N: np.ndarray, y_N: np.ndarray) -> np.ndarray:
        """Origins and directions [N, 6] through image points; directions have length 1 along the optical axis, so t is the depth."""
        k, pose = self.intrinsics_33, self.pose_44
        a, b = (x_N - k[0, 2]) / k[0, 0], (y_N - k[1, 2]) / k[1, 1]
        rays = np.empty((len(x_N), 6), np.float32)
        for axis in range(3):
            rays[:, axis] = pose[axis, 3]
            rays[:, 3 + axis] = pose[axis, 0] * a + pose[axis, 1] * b + pose[axis, 2]
        return rays

    def pixel_rays(self) -> np.ndarray:
        """Rays through all pixel centres, row by row: [size * size, 6]."""
        center = np.arange(self.size) + 0.5
        y, x = np.meshgrid(center, center, indexing="ij")
        return self.rays(x.ravel(), y.ravel())


def look_at(place: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The camera-to-world pose [4, 4] of a level camera at `place` that looks at `target`."""
    forward = (target - place) / np.linalg.norm(target - place)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(forward, right), forward, place
    return pose


def intrinsics(size: int, degrees: float) -> np.ndarray:
    """The 3 x 3 intrinsics of a square image with that angle of view."""
    focal = size / 2 / np.tan(np.radians(degrees) / 2)
    return np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])


PROBE = 20
CANDIDATES = 6


def _score(tracer: Tracer, camera: Camera) -> float:
    """How much there is to see: distinct instances, less where something stands before the lens or bare wall fills the view."""
    hits = tracer.cast(camera.pixel_rays())
    depth, instances = hits.t_N, tracer.scene.instance_M[hits.triangle_N]
    near = float(np.mean(depth < 0.7)) + 4.0 * float(np.mean(depth < 0.4))
    counts = np.bincount(instances)
    seen = int(np.count_nonzero(counts >= 3))
    return seen - 25 * near - 8 * float(counts.max()) / len(instances) + 1.5 * float(np.clip(np.median(depth), 0, 3))


def walk(tracer: Tracer, rng: np.random.Generator, frames: int, size: int, *, one_lens: bool = False) -> list[Camera]:
    """Cameras on a path round the room, each looking across it; of a few candidates a step, the one that sees most.

    one_lens: all have the same intrinsics, as the frames of one scan do.
    """
    width, depth, height = tracer.scene.size
    angle, step = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1]) * rng.uniform(0.9, 1.7)
    eye, wide = rng.uniform(1.25, 1.65), rng.uniform(62, 82)
    path = []
    for frame in range(frames):
        best, choice = -np.inf, None
        for _ in range(CANDIDATES):
            a = angle + step * frame + rng.uniform(-0.35, 0.35)
            reach = rng.uniform(0.55, 0.88)
            place = np.array(
                [width / 2 + reach * (width / 2) * np.cos(a), depth / 2 + reach * (depth / 2) * np.sin(a), eye + rng.uniform(-0.12, 0.12)]
            )
            away = a + np.pi + rng.uniform(-0.55, 0.55)
            target = place + np.array([2.5 * np.cos(away), 2.5 * np.sin(away), rng.uniform(-1.15, -0.25)])
            target[2] = min(target[2], height - 0.5)
            pose, zoom = look_at(place, target), rng.uniform(-4, 4)
            angle_of_view = wide if one_lens else wide + zoom
            score = _score(tracer, Camera(intrinsics(PROBE, angle_of_view), pose, PROBE))
            if score > best:
                best, choice = score, Camera(intrinsics(size, angle_of_view), pose, size)
        assert choice is not None
        path.append(choice)
    return path


def glide(tracer: Tracer, rng: np.random.Generator, frames: int, size: int) -> list[Camera]:
    """Cameras of a video: on an arc round the room, at even steps, all looking at one place; of a few arcs, the one that sees most."""
    width, depth, height = tracer.scene.size
    best, choice = -np.inf, ([], 0.0)
    for _ in range(CANDIDATES):
        start, sweep = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1]) * rng.uniform(0.45, 0.8)
        ends = rng.uniform(0.6, 0.85, 2), rng.uniform(1.15, 1.7, 2)
        middle = start + sweep / 2 + np.pi + rng.uniform(-0.3, 0.3)
        reach = rng.uniform(0.0, 0.3)
        target = np.array([width * (1 + reach * np.cos(middle)) / 2, depth * (1 + reach * np.sin(middle)) / 2, rng.uniform(0.5, 1.0)])
        poses = []
        for share in np.linspace(0, 1, frames):
            angle, (out, eye) = start + sweep * share, (first + (last - first) * share for first, last in ends)
            place = np.array([width * (1 + out * np.cos(angle)) / 2, depth * (1 + out * np.sin(angle)) / 2, min(eye, height - 0.5)])
            poses.append(look_at(place, target))
        wide = rng.uniform(62, 82)
        score = min(_score(tracer, Camera(intrinsics(PROBE, wide), poses[frame], PROBE)) for frame in (0, frames // 2, frames - 1))
        if score > best:
            best, choice = score, (poses, wide)
    return [Camera(intrinsics(size, choice[1]), pose, size) for pose in choice[0]]
