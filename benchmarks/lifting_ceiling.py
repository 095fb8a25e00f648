"""What a perfect encoder would score on rooms-scannet: the true classes of each frame as features, averaged over patches, lifted.

    python benchmarks/lifting_ceiling.py

Tokens see a patch and not a point, and frames see a part of the room: no encoder of that patch size can do much better, whatever it
knows. The rooms are those of the task's scored split, drawn anew, for their frames' true classes are not on disk.

Axes: N points, F frames, C classes, H W pixels.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch.nn import functional as F

from tips_bench.cards import load_card
from tips_bench.data.scannet import CLASSES, TABLE
from tips_bench.data.scans import Camera
from tips_bench.features.lifting import LiftingOptions, Shots, Sums, Tokens
from tips_bench.metrics.points import PointCounts, count
from tips_bench.rooms.drawing.classes import CLASSES as ROOM_CLASSES
from tips_bench.rooms.generate import Room, point_cloud, room
from tips_bench.rooms.writing.scannet import NYU40, depth_camera, millimeters, whole_pixels

GRIDS = {"1": 224, "4": 56, "7": 32, "14, input of 238": 17}
OURS = np.full(256, 255, np.uint8)
OURS[: len(ROOM_CLASSES)] = TABLE[[NYU40[room_class.name] for room_class in ROOM_CLASSES]]


def counts_of(drawn: Room, grid: int, options: LiftingOptions) -> np.ndarray:
    """counts_23C of one room."""
    frames, cloud = drawn.frames, point_cloud(drawn.tracer)
    classes_FHW = torch.from_numpy(OURS[np.stack([frame.classes_HW for frame in frames])].astype(np.int64))
    shares_FCHW = F.one_hot(classes_FHW.clamp(max=len(CLASSES)), len(CLASSES) + 1).permute(0, 3, 1, 2)[:, :-1].float()
    tokens = Tokens(F.adaptive_avg_pool2d(shares_FCHW, grid).permute(0, 2, 3, 1).contiguous(), (grid, grid), (0, 0, 0, 0))
    color = frames[0].camera
    cameras = [Camera(whole_pixels(camera)[:3, :3], (camera.size, camera.size)) for camera in (color, depth_camera(color))]
    inverse = torch.from_numpy(np.linalg.inv(np.stack([frame.camera.pose_44 for frame in frames]))[:, :3])
    depth_FHW = np.stack([millimeters(drawn.tracer, frame) for frame in frames]).astype(np.float32) / 1000
    sums = Sums.of(len(cloud.points_N3), len(CLASSES))
    sums.add(torch.from_numpy(cloud.points_N3).double(), Shots(*cameras, inverse, torch.from_numpy(depth_FHW)), tokens, options)
    predicted_N = sums.mean(cloud.points_N3, options.neighbors).argmax(1).numpy().astype(np.uint8)
    return count(predicted_N, OURS[cloud.classes_N], sums.number_N.numpy() > 0, len(CLASSES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=None, help="only so many")
    parser.add_argument("--protocol", default="convex-points", help="whose rule of occlusion")
    options = parser.parse_args()
    made = load_card("task", "rooms-scannet").data.generator_options
    lifting = LiftingOptions(**load_card("protocol", options.protocol).probe["lifting"])
    totals = {patch: PointCounts(len(CLASSES)) for patch in GRIDS}
    for number in range(options.rooms or made["val"] // made["frames_per_scene"]):
        drawn = room(made["seed"], "val", number, frames=made["frames_per_scene"], size=made["size"], one_lens=True)
        for patch, grid in GRIDS.items():
            totals[patch].update(drawn.name, drawn.name, counts_of(drawn, grid, lifting))
    for patch, counts in totals.items():
        values = counts.compute()
        print(f"patch {patch}: " + ", ".join(f"{name} {values[name]:.2f}" for name in PointCounts.specs))


if __name__ == "__main__":
    main()
