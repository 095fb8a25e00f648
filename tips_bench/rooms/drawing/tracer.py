"""Ray casting into a scene with Open3D: first hits with their surface, and whether the way between two points is free.

N rays as [N, 6] float32 origins and directions. One thread each, so that the result does not depend on the machine's load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tips_bench.open3d import import_open3d
from tips_bench.rooms.drawing.assembly import Scene

if TYPE_CHECKING:
    import open3d as o3d


@dataclass(frozen=True)
class Hits:
    """t_N in units of the ray's direction (inf where nothing is hit), triangle numbers (0 there), barycentric uv_N2, unit normals_N3."""

    t_N: np.ndarray
    triangle_N: np.ndarray
    uv_N2: np.ndarray
    normals_N3: np.ndarray


def _tensor(array: np.ndarray) -> o3d.core.Tensor:
    return import_open3d().core.Tensor(np.ascontiguousarray(array))


def _raycaster(points_V3: np.ndarray, triangles_M3: np.ndarray) -> o3d.t.geometry.RaycastingScene:
    caster = import_open3d().t.geometry.RaycastingScene(nthreads=1)
    caster.add_triangles(_tensor(points_V3), _tensor(triangles_M3))
    return caster


class Tracer:
    """The scene twice: all of it, and without what lets light pass (window panes, lit lamp shades)."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._all = _raycaster(scene.points_V3, scene.triangles_M3)
        glows = np.array([material.glow > 0 for material in scene.materials])
        self._solid = _raycaster(scene.points_V3, scene.triangles_M3[~glows[scene.material_M]])

    def cast(self, rays_N6: np.ndarray) -> Hits:
        """The first hit of each ray."""
        result = self._all.cast_rays(_tensor(rays_N6), nthreads=1)
        t, triangle = result["t_hit"].numpy(), result["primitive_ids"].numpy()
        return Hits(
            t, np.where(np.isfinite(t), triangle, 0).astype(np.int64), result["primitive_uvs"].numpy(), result["primitive_normals"].numpy()
        )

    def blocked(self, origins_3N: np.ndarray, ways_3N: np.ndarray, far: float) -> np.ndarray:
        """Whether something solid lies on the way, up to `far` times its length: [N] bool."""
        rays = np.concatenate([origins_3N, ways_3N], dtype=np.float32).T
        return self._solid.test_occlusions(_tensor(rays), tnear=0.0, tfar=far, nthreads=1).numpy()
