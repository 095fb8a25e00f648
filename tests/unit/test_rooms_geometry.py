"""Depth, normals, labels and light of rendered rooms, against computations that share no code with the renderer.

Axes: H W pixels, N points, M triangles.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from tips_bench.rooms.drawing import materials, textures
from tips_bench.rooms.drawing.assembly import Light
from tips_bench.rooms.drawing.classes import IDS, IGNORE
from tips_bench.rooms.drawing.mesh import boxes, cylinder, rotate
from tips_bench.rooms.drawing.render import develop, smooth
from tips_bench.rooms.drawing.shading import Shader, Surface
from tips_bench.rooms.generate import Room, point_cloud, room

SIZE = 96


@pytest.fixture(scope="module")
def rooms() -> list[Room]:
    return [room(3, "train", number, frames=3, size=SIZE) for number in range(4)]


def directions(frame) -> np.ndarray:
    """World directions [H, W, 3] through pixel centres, of length 1 along the optical axis: matrix inverse of the pinhole."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    pixels = np.stack([x, y, np.ones_like(x)], -1)
    return pixels @ np.linalg.inv(frame.camera.intrinsics_33).T @ frame.camera.pose_44[:3, :3].T


def points(frame) -> np.ndarray:
    return frame.camera.pose_44[:3, 3] + directions(frame) * frame.depth_HW[..., None].astype(float)


def test_depth_of_floor_and_ceiling_is_that_of_the_plane_equation(rooms: list[Room]) -> None:
    checked = 0
    for drawn in rooms:
        for frame in drawn.frames:
            eye_z, ways = frame.camera.pose_44[2, 3], directions(frame)
            for name, height in (("floor", 0.0), ("ceiling", drawn.scene.size[2])):
                mask = frame.classes_HW == IDS[name]
                expected = (height - eye_z) / ways[..., 2][mask]
                np.testing.assert_allclose(frame.depth_HW[mask], expected, rtol=2e-5)
                up = np.array([0, 0, 1.0 if name == "floor" else -1.0]) @ frame.camera.pose_44[:3, :3]
                np.testing.assert_allclose(frame.normals_HW3[mask], np.broadcast_to(up, (mask.sum(), 3)), atol=1e-5)
                checked += int(mask.sum())
    assert checked > 5000


def test_first_hits_are_those_of_a_brute_force_search_over_all_triangles(rooms: list[Room]) -> None:
    drawn = rooms[0]
    scene, frame = drawn.scene, drawn.frames[0]
    picks = np.random.default_rng(0).integers(0, SIZE, (60, 2))
    corners = scene.points_V3.astype(float)[scene.triangles_M3]
    e1, e2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    eye = frame.camera.pose_44[:3, 3]
    for i, j in picks:
        way = directions(frame)[i, j]
        p = np.cross(way, e2)  # Moeller and Trumbore 1997
        determinant = (e1 * p).sum(1)
        inverse = 1 / np.where(np.abs(determinant) < 1e-14, np.inf, determinant)
        s = eye - corners[:, 0]
        u = (s * p).sum(1) * inverse
        q = np.cross(s, e1)
        v, t = (q @ way) * inverse, (q * e2).sum(1) * inverse
        hit = (u >= -1e-6) & (v >= -1e-6) & (u + v <= 1 + 1e-6) & (t > 1e-6) & (np.abs(determinant) > 1e-14)
        nearest = t[hit].min()
        assert frame.depth_HW[i, j] == pytest.approx(nearest, rel=1e-4)
        met = set(scene.class_M[np.flatnonzero(hit & (t < nearest * 1.001))])
        assert frame.classes_HW[i, j] in met


def test_every_pixel_has_depth_a_class_an_instance_and_a_unit_normal_that_faces_the_camera(rooms: list[Room]) -> None:
    for drawn in rooms:
        for frame in drawn.frames:
            assert (frame.depth_HW > 0.1).all() and (frame.depth_HW < np.linalg.norm(drawn.scene.size)).all()
            assert (frame.classes_HW != IGNORE).all() and (frame.instances_HW > 0).all()
            np.testing.assert_allclose(np.linalg.norm(frame.normals_HW3, axis=-1), 1, atol=1e-5)
            in_camera = directions(frame) @ frame.camera.pose_44[:3, :3]
            assert ((in_camera * frame.normals_HW3).sum(-1) < 1e-6).all()


def test_the_class_of_a_pixel_is_that_of_its_instance(rooms: list[Room]) -> None:
    for drawn in rooms:
        kinds = np.array([IGNORE] + [IDS[thing.kind] for thing in drawn.scene.instances])
        for frame in drawn.frames:
            np.testing.assert_array_equal(kinds[frame.instances_HW], frame.classes_HW)


def test_normals_agree_with_the_gradient_of_depth_on_planes(rooms: list[Room]) -> None:
    angles = []
    for drawn in rooms:
        for frame in drawn.frames:
            place, normal = points(frame), frame.normals_HW3 @ frame.camera.pose_44[:3, :3].T
            across, down = place[1:-1, 2:] - place[1:-1, :-2], place[2:, 1:-1] - place[:-2, 1:-1]
            estimate = np.cross(down, across)
            estimate /= np.linalg.norm(estimate, axis=-1, keepdims=True)
            middle = normal[1:-1, 1:-1]
            flat = frame.instances_HW[1:-1, 1:-1] > 0
            for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
                window = np.s_[dy : dy + SIZE - 2, dx : dx + SIZE - 2]
                flat &= frame.instances_HW[window] == frame.instances_HW[1:-1, 1:-1]
                flat &= ((normal[window] * middle).sum(-1) > 0.99999) & (
                    np.abs(((place[window] - place[1:-1, 1:-1]) * middle).sum(-1)) < 1e-4
                )
            angles.append(np.degrees(np.arccos(np.clip((estimate * middle).sum(-1)[flat], -1, 1))))
    assert len(np.concatenate(angles)) > 30_000
    assert np.concatenate(angles).max() < 1.0


def test_a_point_seen_by_two_cameras_has_one_place_and_one_label(rooms: list[Room]) -> None:
    shared = 0
    for drawn in rooms:
        for first, second in zip(drawn.frames[:-1], drawn.frames[1:], strict=True):
            world = points(first).reshape(-1, 3)
            local = (world - second.camera.pose_44[:3, 3]) @ second.camera.pose_44[:3, :3]
            pixel = local @ second.camera.intrinsics_33.T
            ahead = local[:, 2] > 0.1
            xy = pixel[ahead, :2] / pixel[ahead, 2:]
            inside = ((xy >= 0) & (xy < SIZE)).all(1)
            column, row = np.floor(xy[inside]).astype(int).T
            depth, owner = local[ahead][inside][:, 2], first.instances_HW.ravel()[ahead][inside]
            same_plane = np.abs(second.depth_HW[row, column] - depth) < 0.004 * depth
            agreement = second.instances_HW[row, column][same_plane] == owner[same_plane]
            shared += int(same_plane.sum())
            if same_plane.sum() > 300:
                assert agreement.mean() > 0.96
    assert shared > 2000


def test_a_pixel_back_projected_with_depth_and_pose_falls_on_itself(rooms: list[Room]) -> None:
    for drawn in rooms:
        for frame in drawn.frames:
            local = (points(frame) - frame.camera.pose_44[:3, 3]) @ frame.camera.pose_44[:3, :3]
            np.testing.assert_allclose(local[..., 2], frame.depth_HW, rtol=1e-6)
            pixel = local @ frame.camera.intrinsics_33.T
            y, x = np.mgrid[0:SIZE, 0:SIZE]
            assert np.abs(pixel[..., 0] / pixel[..., 2] - x).max() < 0.51
            assert np.abs(pixel[..., 1] / pixel[..., 2] - y).max() < 0.51


def test_poses_are_rotations_inside_the_room_with_the_horizon_level(rooms: list[Room]) -> None:
    for drawn in rooms:
        for frame in drawn.frames:
            pose = frame.camera.pose_44
            np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
            assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
            assert (pose[:3, 3] > 0).all() and (pose[:3, 3] < drawn.scene.size).all()
            assert pose[2, 0] == pytest.approx(0) and pose[2, 1] < 0  # x level, y down
        assert np.ptp([f.camera.pose_44[:2, 3] for f in drawn.frames], axis=0).max() > 0.3


def test_points_of_the_cloud_lie_on_the_surfaces_that_the_frames_see(rooms: list[Room]) -> None:
    drawn = rooms[1]
    cloud, frame = point_cloud(drawn.tracer), drawn.frames[0]
    floor = cloud.classes_N == IDS["floor"]
    assert np.abs(cloud.points_N3[floor, 2]).max() < 1e-4
    local = (cloud.points_N3 - frame.camera.pose_44[:3, 3]) @ frame.camera.pose_44[:3, :3]
    pixel = local @ frame.camera.intrinsics_33.T
    inside = (
        (local[:, 2] > 0.1)
        & (pixel[:, 0] >= 0)
        & (pixel[:, 0] < SIZE * pixel[:, 2])
        & (pixel[:, 1] >= 0)
        & (pixel[:, 1] < SIZE * pixel[:, 2])
    )
    column, row = np.floor(pixel[inside, :2] / pixel[inside, 2:]).astype(int).T
    seen = np.abs(frame.depth_HW[row, column] - local[inside, 2]) < 0.004 * local[inside, 2]
    assert seen.sum() > 500
    assert (cloud.classes_N[inside][seen] == frame.classes_HW[row, column][seen]).mean() > 0.96


def test_no_two_rooms_look_alike(rooms: list[Room]) -> None:
    pictures = [f.image_HW3.astype(float) for drawn in rooms for f in drawn.frames]
    for i, a in enumerate(pictures):
        assert 90 < a.mean() < 190 and a.std() > 15
        for b in pictures[:i]:
            assert np.abs(a - b).mean() > 8
    assert len({drawn.scene.points_V3.tobytes() for drawn in rooms}) == len(rooms)


def test_a_room_shows_what_a_room_has(rooms: list[Room]) -> None:
    for drawn in rooms:
        kinds = {thing.kind for thing in drawn.scene.instances}
        assert {"wall", "floor", "ceiling", "door", "window", "light"} <= kinds and len(kinds) >= 10


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.05, 3), min_size=3, max_size=3), st.floats(0, 0.02))
def test_a_box_encloses_its_volume(size: list[float], bevel: float) -> None:
    mesh = boxes(np.zeros((1, 3)), np.array([size]), bevel)
    corners = mesh.points_V3[mesh.triangles_M3]
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6  # divergence theorem
    assert np.prod(size) * (1 - 2 * bevel / min(size)) ** 3 - 1e-9 <= volume <= np.prod(size) + 1e-9


def test_a_cylinder_encloses_the_volume_of_its_polygon() -> None:
    corners = (mesh := cylinder(0.3, 0.1, 0.9, 24)).points_V3[mesh.triangles_M3]
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume == pytest.approx(0.5 * 24 * 0.3**2 * np.sin(2 * np.pi / 24) * 0.8)


@given(st.sampled_from("xyz"), st.floats(-720, 720))
def test_rotation_is_that_of_scipy(axis: str, degrees: float) -> None:
    vectors = np.random.default_rng(1).standard_normal((5, 3))
    np.testing.assert_allclose(rotate(vectors, axis, degrees), Rotation.from_euler(axis, degrees, degrees=True).apply(vectors), atol=1e-9)


def _surface(uv: np.ndarray, material: np.ndarray, place: np.ndarray) -> Surface:
    up = np.tile(np.array([[0.0], [0], [1]], np.float32), (1, len(material)))
    return Surface(place.astype(np.float32), up, up, up, uv.astype(np.float32), material, np.zeros(len(material), np.float32))


def test_textures_are_read_bilinearly_with_wrapping(rooms: list[Room]) -> None:
    shader = Shader(rooms[0].tracer)
    rng = np.random.default_rng(5)
    number = next(k for k, m in enumerate(rooms[0].scene.materials) if len({*m.colors}) == 3 and m.gloss == 0)
    material = rooms[0].scene.materials[number]
    uv = rng.uniform(-3, 3, (2, 200))
    got = shader.albedo(_surface(uv, np.full(200, number), np.zeros((3, 200))))
    start = material.texture * textures.TEXELS
    texels = textures.bank()[start : start + textures.SIZE**2].reshape(textures.SIZE, textures.SIZE)
    at = (uv / np.array(material.scale)[:, None] * textures.SIZE - 0.5)[::-1]
    t1, t2 = (map_coordinates(channel.astype(float) / 255, at, order=1, mode="grid-wrap") for channel in (texels & 255, texels >> 8))
    a, b, c = (np.array(color)[:, None] for color in material.colors)
    np.testing.assert_allclose(got, (a + (b - a) * t1) * (1 - t2) + c * t2, atol=2e-4)


def test_light_falls_with_the_cosine_and_the_square_of_the_distance(rooms: list[Room]) -> None:
    shader = Shader(rooms[0].tracer)
    shader.lights = [Light("lamp", np.array([0.0, 0, 2]), np.zeros((2, 3)), 0.0, np.zeros(3), np.ones(3))]
    place = np.array([[0.0, 0, 0], [3, 0, 0], [40, 0, 0]]).T
    got = shader.incidence(_surface(np.zeros((2, 3)), np.zeros(3, int), place))[0]
    squared = np.array([4, 13, 1604.0])
    np.testing.assert_allclose(got, (2 / np.sqrt(squared)) / (squared + 0.1), rtol=1e-5)  # 0.1: the size that a bulb has


def test_the_window_mean_takes_only_pixels_with_the_same_key() -> None:
    rng = np.random.default_rng(2)
    seen, key = rng.random((2, 9, 11)).astype(np.float32), rng.integers(0, 3, (9, 11))
    got = smooth(seen, key)
    for i in range(9):
        for j in range(11):
            window = [
                (y, x) for y in range(i - 1, i + 3) for x in range(j - 1, j + 3) if 0 <= y < 9 and 0 <= x < 11 and key[y, x] == key[i, j]
            ]
            np.testing.assert_allclose(got[:, i, j], np.mean([seen[:, y, x] for y, x in window], 0), rtol=1e-5)


def test_exposure_brings_light_of_any_strength_to_the_same_picture() -> None:
    light = np.random.default_rng(4).uniform(0.1, 2, (3, 500)).astype(np.float32)
    assert np.abs(develop(light).astype(int) - develop(light * 4).astype(int)).max() <= 1


def test_colours_have_the_names_people_give_them() -> None:
    for name, rgb in (
        ("white", (0.95, 0.95, 0.93)),
        ("red", (0.7, 0.1, 0.1)),
        ("blue", (0.1, 0.3, 0.7)),
        ("black", (0.05, 0.05, 0.06)),
        ("green", (0.2, 0.5, 0.2)),
        ("green", (0.62, 0.84, 0.7)),  # pale, and nearer to beige than to a full green
        ("teal", (0.6, 0.8, 0.8)),
        ("beige", (0.82, 0.74, 0.6)),
        ("brown", (0.72, 0.53, 0.33)),
        ("brown", (0.4, 0.25, 0.15)),
        ("orange", (0.86, 0.47, 0.15)),
        ("pink", (0.9, 0.62, 0.66)),
    ):
        assert materials.color_name(rgb) == name
