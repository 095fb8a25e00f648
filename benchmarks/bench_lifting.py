"""Lifting features of RGB-D frames to points: ours against a plain loop over frames, on the same scan in one process.

    python benchmarks/bench_lifting.py

The loop is what the public code for ScanNet does with each frame (OpenScene's scripts/feature_fusion, Lexicon3D's
lexicon3d/fusion_scannet_dinov2.py): project all points with numpy, resize the tokens to 320x240 pixels, take the feature of every
point's pixel, and add those of the points that the frame sees. The scan is an empty room of 6 x 5 x 2.6 m, its points on the walls; the
tokens are random, as an encoder would be no part of the comparison. Both must find the same views, or it stops. The memory is what
lifting adds to the process at its peak: sums of all points, one group of frames, one chunk of points.

Axes: N points, F frames, h w token grid, D feature, H W pixels.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np
import torch

from tips_bench.data.scans import Camera
from tips_bench.features.lifting import FRAMES, LiftingOptions, Shots, Sums, Tokens

ROOM = np.array([6.0, 5.0, 2.6])
SIZE = (240, 320)
INTRINSICS = np.array([[288.935, 0, 159.75], [0, 288.935, 119.75], [0, 0, 1.0]])
INNER = (238, 322)
OPTIONS = LiftingOptions(occlusion="lexicon3d", tolerance=0.25, border=10 / 320, neighbors=1)


def walls(points: int, rng: np.random.Generator) -> np.ndarray:
    """points_N3 on the six sides, in the order of a scan: near ones together."""
    points_N3 = rng.random((points, 3)) * ROOM
    axis_N = rng.integers(0, 3, points)
    points_N3[np.arange(points), axis_N] = rng.integers(0, 2, points) * ROOM[axis_N]
    return points_N3[np.lexsort((points_N3 // 0.25).T)].astype(np.float32)


def poses(frames: int) -> np.ndarray:
    """poses_F44 of a camera that turns about the middle of the room and nods."""
    turned = []
    for frame in range(frames):
        angle, nod = 2 * np.pi * frame / 37, 0.4 * np.sin(frame / 5)
        forward = np.array([np.cos(angle) * np.cos(nod), np.sin(angle) * np.cos(nod), np.sin(nod)])
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        pose_44 = np.eye(4)
        pose_44[:3] = np.stack([right, np.cross(forward, right), forward, ROOM / 2 + 0.5 * forward * [1, 1, 0]], 1)
        turned.append(pose_44)
    return np.stack(turned)


def depth(pose_44: np.ndarray) -> np.ndarray:
    """depth_HW in metres of the empty room."""
    row_HW, column_HW = np.mgrid[: SIZE[0], : SIZE[1]]
    rays_HW3 = np.stack([(column_HW - INTRINSICS[0, 2]) / INTRINSICS[0, 0], (row_HW - INTRINSICS[1, 2]) / INTRINSICS[1, 1]], -1)
    world_HW3 = rays_HW3 @ pose_44[:3, :2].T + pose_44[:3, 2]
    far_HW3 = (np.where(world_HW3 > 0, ROOM, 0) - pose_44[:3, 3]) / world_HW3
    return far_HW3.min(-1).astype(np.float32)


def ours(points_N3: np.ndarray, poses_F44: np.ndarray, depth_FHW: np.ndarray, tokens_FhwD: torch.Tensor) -> Sums:
    """All frames, FRAMES at a time; the tokens of a group are those of the first frames again."""
    camera = Camera(INTRINSICS, SIZE)
    sums, points = Sums.of(len(points_N3), tokens_FhwD.shape[-1]), torch.from_numpy(points_N3).double()
    inverse_F34 = torch.from_numpy(np.linalg.inv(poses_F44)[:, :3])
    for start in range(0, len(poses_F44), FRAMES):
        part = slice(start, start + FRAMES)
        shots = Shots(camera, camera, inverse_F34[part], torch.from_numpy(depth_FHW[part]))
        sums.add(points, shots, Tokens(tokens_FhwD[: len(depth_FHW[part])], INNER, (0, 0, 0, 0)), OPTIONS)
    sums.mean(points_N3, OPTIONS.neighbors)
    return sums


def plain(
    points_N3: np.ndarray, poses_F44: np.ndarray, depth_FHW: np.ndarray, tokens_FhwD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(features_ND, number_N) of a loop over frames."""
    total_ND, number_N = torch.zeros(len(points_N3), tokens_FhwD.shape[-1]), torch.zeros(len(points_N3), 1)
    homogeneous_4N = np.concatenate([points_N3, np.ones((len(points_N3), 1))], 1).T
    height, width = SIZE
    for frame, pose_44 in enumerate(poses_F44):
        place_4N = np.linalg.inv(pose_44) @ homogeneous_4N
        z_N = place_4N[2]
        column_N = np.round(place_4N[0] * INTRINSICS[0, 0] / z_N + INTRINSICS[0, 2]).astype(int)
        row_N = np.round(place_4N[1] * INTRINSICS[1, 1] / z_N + INTRINSICS[1, 2]).astype(int)
        seen_N = (z_N > 0) & (column_N >= 10) & (row_N >= 10) & (column_N < width - 10) & (row_N < height - 10)
        sensed_N = depth_FHW[frame][row_N[seen_N], column_N[seen_N]]
        seen_N[seen_N] = np.abs(sensed_N - z_N[seen_N]) <= 0.25 * sensed_N
        if not seen_N.any():
            continue
        column_N[~seen_N], row_N[~seen_N] = 0, 0
        tokens_1Dhw = tokens_FhwD[frame % FRAMES].permute(2, 0, 1)[None]
        wide_DHW = torch.nn.functional.interpolate(tokens_1Dhw, SIZE, mode="bicubic", align_corners=False)[0]
        features_ND = wide_DHW[:, torch.from_numpy(row_N), torch.from_numpy(column_N)].permute(1, 0)
        mask_N = torch.from_numpy(seen_N)
        number_N[mask_N] += 1
        total_ND[mask_N] += features_ND[mask_N]
    return total_ND / number_N.clamp(min=1e-5), number_N[:, 0].long()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=150_000)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--plain-frames", type=int, default=8, help="frames that the plain loop is given")
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    points_N3, poses_F44 = walls(options.points, rng), poses(options.frames)
    depth_FHW = np.stack([depth(pose_44) for pose_44 in poses_F44])
    tokens_FhwD = torch.randn(FRAMES, 17, 23, options.dim, generator=torch.Generator().manual_seed(0))
    ours(points_N3[::100], poses_F44[:FRAMES], depth_FHW[:FRAMES], tokens_FhwD)  # warms up, and loads Open3D
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    sums = ours(points_N3, poses_F44, depth_FHW, tokens_FhwD)
    ours_s = time.perf_counter() - start
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    few = options.plain_frames
    start = time.perf_counter()
    theirs_ND, number_N = plain(points_N3, poses_F44[:few], depth_FHW[:few], tokens_FhwD)
    plain_s = time.perf_counter() - start
    same = ours(points_N3, poses_F44[:few], depth_FHW[:few], tokens_FhwD)
    if not torch.equal(same.number_N, number_N):
        raise SystemExit(f"the views differ at {int((same.number_N != number_N).sum())} points")
    seen_N = number_N > 0
    alike = float(torch.nn.functional.cosine_similarity(same.features_ND[seen_N], theirs_ND[seen_N]).mean())
    rates = {"ours": options.points * options.frames / ours_s, "plain loop": options.points * few / plain_s}
    found = {
        "points": options.points,
        "frames": options.frames,
        "dim": options.dim,
        "views": int(sums.number_N.sum()),
        "points_x_frames_per_s": rates,
        "times_faster": rates["ours"] / rates["plain loop"],
        "added_gb": added,
        "cosine": alike,
    }
    if options.json:
        print(json.dumps(found))
        return
    shown = ", ".join(f"{name} {rate / 1e6:.2f} M points x frames/s" for name, rate in rates.items())
    print(f"{options.points} points x {options.frames} frames x {options.dim} features, {found['views']} views: {shown}")
    print(f"{found['times_faster']:.1f} times faster; {added:.2f} GB added; mean cosine of the features {alike:.3f}")


if __name__ == "__main__":
    main()
