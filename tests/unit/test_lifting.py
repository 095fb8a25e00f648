"""Lifting features to points, against a plain version point by point, and on rooms whose pixels are known.

Axes: N points, F frames, h w token grid, D feature, H W pixels.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from tips_bench.data.scans import Camera
from tips_bench.errors import UserError
from tips_bench.features import lifting
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.features.lifting import LiftingOptions, Shots, Sums, Tokens, gather, nearest, views
from tips_bench.metrics.points import PointCounts, count
from tips_bench.rooms.generate import Room, room
from tips_bench.rooms.writing.scannet import depth_camera, millimeters, whole_pixels

LEXICON3D = LiftingOptions(occlusion="lexicon3d", tolerance=0.25, border=0.03125, neighbors=1)
TIGHT = LiftingOptions(occlusion="tight", tolerance=0.05, border=0.0, neighbors=3)


def random_shots(rng: np.random.Generator, frames: int) -> tuple[Shots, np.ndarray]:
    """Frames around the origin that look about; also their poses."""
    poses_F44 = np.tile(np.eye(4), (frames, 1, 1))
    for pose_44 in poses_F44:
        pose_44[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        pose_44[:3, :3] *= np.sign(np.linalg.det(pose_44[:3, :3]))
        pose_44[:3, 3] = rng.normal(size=3) * 0.3
    color = Camera(np.array([[60.0, 0, 38.9], [0, 58, 30.2], [0, 0, 1]]), (60, 80))
    depth = Camera(np.array([[24.0, 0, 15.2], [0, 25, 12.1], [0, 0, 1]]), (24, 32))
    depth_FHW = rng.uniform(0.5, 3, (frames, 24, 32)).astype(np.float32)
    depth_FHW[rng.random(depth_FHW.shape) < 0.2] = 0
    inverse = torch.from_numpy(np.linalg.inv(poses_F44)[:, :3])
    return Shots(color, depth, inverse, torch.from_numpy(depth_FHW)), poses_F44


def plain_view(point: np.ndarray, pose: np.ndarray, shots: Shots, frame: int, options: LiftingOptions) -> tuple[float, float] | None:
    """(x, y) in the colour image if the frame sees the point, by the rule's own words; one point, one frame, no matrix of ours."""
    place = pose[:3, :3].T @ (point - pose[:3, 3])
    if place[2] <= 0:
        return None
    spots = []
    for camera in (shots.color, shots.depth):
        k = camera.intrinsics_33
        spots.append((k[0, 0] * place[0] / place[2] + k[0, 2], k[1, 1] * place[1] / place[2] + k[1, 2]))
    (x, y), (u, v) = spots
    height, width = shots.color.size
    cut = options.border * width
    if not (cut <= round(x) < width - cut and cut <= round(y) < height - cut):
        return None
    if not (0 <= round(u) < shots.depth.size[1] and 0 <= round(v) < shots.depth.size[0]):
        return None
    sensed = float(shots.depth_FHW[frame, round(v), round(u)])
    allowed = options.tolerance * sensed if options.occlusion == "lexicon3d" else options.tolerance
    return (x, y) if sensed > 0 and abs(sensed - place[2]) <= allowed else None


def plain_feature(tokens_hwD: np.ndarray, x: float, y: float, size: tuple[int, int], tokens: Tokens) -> np.ndarray:
    """Bilinear interpolation of the patches whose centres surround the point."""
    left, top, right, bottom = tokens.padding
    rows, columns, _ = tokens_hwD.shape
    across = ((x + 0.5) / size[1] * tokens.inner[1] + left) / (tokens.inner[1] + left + right) * columns - 0.5
    down = ((y + 0.5) / size[0] * tokens.inner[0] + top) / (tokens.inner[0] + top + bottom) * rows - 0.5
    across, down = min(max(across, 0), columns - 1), min(max(down, 0), rows - 1)
    total = np.zeros(tokens_hwD.shape[2])
    for row in range(rows):
        for column in range(columns):
            total += max(0, 1 - abs(across - column)) * max(0, 1 - abs(down - row)) * tokens_hwD[row, column]
    return total


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([LEXICON3D, TIGHT, TIGHT.model_copy(update={"tolerance": 0.4})]))
def test_views_and_features_are_those_of_a_plain_loop_over_points_and_frames(seed: int, options: LiftingOptions) -> None:
    rng = np.random.default_rng(seed)
    shots, poses_F44 = random_shots(rng, 4)
    points_N3 = rng.normal(size=(120, 3)) * 1.2
    tokens = Tokens(torch.from_numpy(rng.normal(size=(4, 5, 6, 3))), (66, 80), (2, 2, 2, 2))
    sums = Sums(torch.zeros(120, 3, dtype=torch.float64), torch.zeros(120, dtype=torch.int64))
    sums.add(torch.from_numpy(points_N3), shots, tokens, options)
    expected_N3, number_N = np.zeros((120, 3)), np.zeros(120, int)
    for index, point in enumerate(points_N3):
        for frame, pose_44 in enumerate(poses_F44):
            spot = plain_view(point, pose_44, shots, frame, options)
            if spot is not None:
                number_N[index] += 1
                expected_N3[index] += plain_feature(tokens.features_FhwD[frame].numpy(), *spot, shots.color.size, tokens)
    np.testing.assert_array_equal(sums.number_N.numpy(), number_N)
    np.testing.assert_allclose(sums.features_ND.numpy(), expected_N3, atol=1e-9)


def test_the_options_let_something_be_seen() -> None:
    """So that the comparison above compares something."""
    rng = np.random.default_rng(0)
    shots, _ = random_shots(rng, 4)
    points = torch.from_numpy(rng.normal(size=(9000, 3)) * 1.2)
    assert len(views(points, shots, LEXICON3D).point_V) > len(views(points, shots, TIGHT).point_V) > 20


def test_at_pixel_centres_tokens_are_interpolated_as_logits_are_upsampled() -> None:
    tokens = Tokens(torch.randn(1, 4, 5, 2, dtype=torch.float64), (50, 64), (3, 3, 3, 3))
    upsampling = Upsampling.of((4, 5), tokens.padding, Windows((50, 64), (50, 64), (0,), (0,)), (50, 64))
    wide_DHW = upsampling(tokens.features_FhwD[0].permute(2, 0, 1))
    y, x = (values.ravel() for values in torch.meshgrid(torch.arange(50.0), torch.arange(64.0), indexing="ij"))
    seen = lifting.Views(torch.arange(50 * 64), torch.zeros(50 * 64, dtype=torch.int64), x.double(), y.double())
    _, _, sums_UD = gather(tokens, seen, (50, 64))
    torch.testing.assert_close(sums_UD.T.view(2, 50, 64).float(), wide_DHW, atol=1e-5, rtol=0)


def test_chunks_of_points_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    shots, _ = random_shots(rng, 5)
    points, tokens = torch.from_numpy(rng.normal(size=(300, 3))), Tokens(torch.randn(5, 5, 6, 7), (60, 80), (0, 0, 0, 0))
    results = []
    for chunk in (1 << 14, 7):
        monkeypatch.setattr(lifting, "CHUNK_POINTS", chunk)
        results.append(Sums.of(300, 7))
        results[-1].add(points, shots, tokens, LEXICON3D)
        results[-1].mean(points.numpy(), 3)
    assert torch.equal(results[0].features_ND, results[1].features_ND) and results[0].number_N.any()


def test_a_point_behind_another_takes_no_feature_unless_the_rule_lets_it_through() -> None:
    camera = Camera(np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]), (48, 64))
    shots = Shots(camera, camera, torch.eye(4, dtype=torch.float64)[None, :3], torch.full((1, 48, 64), 2.0))
    points = torch.tensor(
        [[0, 0, 2.0], [0, 0, 2.04], [0, 0, 2.3], [0, 0, 2.6], [0, 0, 1.4], [0, 0, -2.0], [9.0, 0, 2.0]], dtype=torch.float64
    )
    assert views(points, shots, TIGHT).point_V.tolist() == [0, 1]
    assert views(points, shots, LEXICON3D).point_V.tolist() == [0, 1, 2]


def test_unseen_points_take_the_mean_of_their_nearest_seen_neighbours() -> None:
    rng = np.random.default_rng(2)
    points_N3, seen_N = rng.normal(size=(400, 3)).astype(np.float32), rng.random(400) < 0.3
    found = nearest(points_N3, seen_N, 3)
    _, expected = cKDTree(points_N3[seen_N]).query(points_N3[~seen_N], 3)
    np.testing.assert_array_equal(np.sort(found, 1), np.sort(expected, 1))
    sums = Sums(torch.from_numpy(rng.normal(size=(400, 4))).float(), torch.from_numpy(seen_N.astype(np.int64) * 2))
    before_ND = sums.features_ND.numpy().copy()
    after_ND = sums.mean(points_N3, 3).numpy()
    np.testing.assert_allclose(after_ND[seen_N], before_ND[seen_N] / 2)
    np.testing.assert_allclose(after_ND[~seen_N], (before_ND[seen_N] / 2)[expected].mean(1), atol=1e-6)


def test_a_single_seen_point_serves_all() -> None:
    sums = Sums(torch.tensor([[4.0], [9.0], [9.0]]), torch.tensor([2, 0, 0]))
    assert sums.mean(np.zeros((3, 3), np.float32), 3).flatten().tolist() == [2, 2, 2]


def test_a_scan_of_which_nothing_is_seen_is_an_error_that_names_it() -> None:
    with pytest.raises(UserError, match="scene7: no frame sees any point"):
        Sums.of(4, 2).mean(np.zeros((4, 3)), 1, where="scene7")


@pytest.fixture(scope="module")
def drawn() -> Room:
    return room(4, "train", 0, frames=4, size=112, one_lens=True)


def shots_of(drawn: Room, frames: list[int], own_depth: bool) -> Shots:
    """The frames of a room. own_depth: as the sensor sees it, in millimetres; else at the colour image's pixels, exact."""
    chosen = [drawn.frames[frame] for frame in frames]
    color = chosen[0].camera
    depth = depth_camera(color) if own_depth else color
    inverse = torch.from_numpy(np.linalg.inv(np.stack([frame.camera.pose_44 for frame in chosen]))[:, :3])
    pictures = [millimeters(drawn.tracer, frame) / np.float32(1000) if own_depth else frame.depth_HW for frame in chosen]
    cameras = [Camera(whole_pixels(camera)[:3, :3], (camera.size, camera.size)) for camera in (color, depth)]
    return Shots(*cameras, inverse, torch.from_numpy(np.stack(pictures).astype(np.float32)))


def test_points_of_a_room_land_on_the_pixel_that_sees_them(drawn: Room) -> None:
    rng = np.random.default_rng(0)
    for index, frame in enumerate(drawn.frames):
        row_N, column_N = rng.integers(0, 112, (2, 3000))
        x_N, y_N = column_N + rng.random(3000), row_N + rng.random(3000)  # anywhere in the pixel, as the room's camera counts
        rays = frame.camera.rays(x_N, y_N)
        t_N = drawn.tracer.cast(rays).t_N
        hit_N = np.isfinite(t_N)
        points = torch.from_numpy((rays[:, :3] + t_N[:, None] * rays[:, 3:])[hit_N].astype(np.float64))
        seen = views(points, shots_of(drawn, [index], own_depth=True), TIGHT.model_copy(update={"tolerance": 1.0}))
        assert len(seen.point_V) > 0.95 * hit_N.sum()
        kept = np.flatnonzero(hit_N)[seen.point_V.numpy()]
        np.testing.assert_array_equal(np.floor(seen.x_V.numpy() + 0.5), column_N[kept])
        np.testing.assert_array_equal(np.floor(seen.y_V.numpy() + 0.5), row_N[kept])
        assert max(np.abs(seen.x_V.numpy() - column_N[kept]).max(), np.abs(seen.y_V.numpy() - row_N[kept]).max()) < 0.51


def perfect(drawn: Room, frames: list[int], patch: int) -> tuple[Tokens, int]:
    """One-hot true classes averaged over patches, and the number of classes."""
    labels_FHW = torch.from_numpy(np.stack([drawn.frames[frame].classes_HW for frame in frames]).astype(np.int64))
    classes = int(labels_FHW[labels_FHW < 255].max()) + 1
    shares = torch.nn.functional.one_hot(labels_FHW.clamp(max=classes), classes + 1)[..., :classes].float()
    pooled = torch.nn.functional.avg_pool2d(shares.permute(0, 3, 1, 2), patch)
    return Tokens(pooled.permute(0, 2, 3, 1).contiguous(), (112, 112), (0, 0, 0, 0)), classes


def lifted_miou(drawn: Room, frames: list[int], patch: int) -> dict[str, float]:
    """Scores of the perfect encoder on the surface points behind the frames' pixels."""
    points, labels = [], []
    for frame in (drawn.frames[index] for index in frames):
        rays, known = frame.camera.pixel_rays(), frame.classes_HW.ravel() < 255
        points.append((rays[:, :3] + frame.depth_HW.reshape(-1, 1) * rays[:, 3:])[known])
        labels.append(frame.classes_HW.ravel()[known])
    points_N3, labels_N = np.concatenate(points).astype(np.float32), np.concatenate(labels)
    tokens, classes = perfect(drawn, frames, patch)
    sums = Sums.of(len(points_N3), classes)
    sums.add(torch.from_numpy(points_N3).double(), shots_of(drawn, frames, own_depth=False), tokens, TIGHT)
    predicted_N = sums.mean(points_N3, 3).argmax(1).numpy().astype(np.uint8)
    counts = PointCounts(classes)
    counts.update("room", "room", count(predicted_N, labels_N, sums.number_N.numpy() > 0, classes))
    return {name: float(value) for name, value in counts.compute().items() if np.ndim(value) == 0}


def test_a_perfect_encoder_of_patch_1_is_right_at_every_visible_point(drawn: Room) -> None:
    for index in range(4):
        scores = lifted_miou(drawn, [index], 1)
        assert scores["mIoU_visible"] == scores["mAcc_visible"] == scores["allAcc_visible"] == 100


def test_with_views_between_pixels_a_perfect_encoder_errs_at_outlines_only_and_more_with_larger_patches(drawn: Room) -> None:
    at_1, at_7, at_14 = (lifted_miou(drawn, [0, 1, 2, 3], patch) for patch in (1, 7, 14))
    assert at_1["allAcc_visible"] > 99 and at_1["mIoU_visible"] > 95
    assert at_1["mIoU_visible"] > at_7["mIoU_visible"] > at_14["mIoU_visible"] > 10
