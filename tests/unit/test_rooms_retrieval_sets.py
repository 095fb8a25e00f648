"""Rooms as Revisited Oxford, AmsterTime and Google Landmarks v2: what a frame sees of another, lists that the reader takes, two lights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tips_bench.data.gldv2 import gldv2
from tips_bench.data.revisited import revisited
from tips_bench.rooms.drawing.render import Renderer
from tips_bench.rooms.generate import Room, room
from tips_bench.rooms.writing.retrieval_sets import (
    MOVE,
    SHARED,
    AmsterTime,
    GoogleLandmarks,
    Revisited,
    box,
    elsewhere,
    join_landmarks,
    join_views,
    kind_of,
    old_photo,
    seen_share,
)

ALL = (0, 0, 48, 48)


@pytest.fixture(scope="module")
def drawn() -> Room:
    return room(3, "val", 0, frames=3, size=48)


def test_a_frame_sees_all_of_itself_and_no_more_than_all_of_another(drawn: Room) -> None:
    assert seen_share(drawn.frames[0], drawn.frames[0], ALL) == 1.0
    assert all(0 <= seen_share(drawn.frames[0], other, ALL) < 1 for other in drawn.frames[1:])
    assert [kind_of(share) for share in (1.0, 0.4, 0.39, 0.1, 0.09, 0.0)] == ["easy", "easy", "hard", "hard", "junk", "junk"]


def test_what_is_hidden_or_behind_the_camera_is_not_seen(drawn: Room) -> None:
    query = drawn.frames[0]
    hidden = type(query)(**vars(query) | {"depth_HW": np.full_like(query.depth_HW, 0.2)})
    assert seen_share(query, hidden, ALL) == 0.0
    pose_44 = query.camera.pose_44.copy()
    pose_44[:3, 0], pose_44[:3, 2] = -pose_44[:3, 0], -pose_44[:3, 2]
    turned = type(query.camera)(query.camera.intrinsics_33, pose_44, query.camera.size)
    assert seen_share(query, type(query)(**vars(query) | {"camera": turned}), ALL) == 0.0


def test_the_list_of_answers_names_every_other_frame_of_the_room_once(drawn: Room, tmp_path: Path) -> None:
    stems = [f"val00000_{frame:02d}" for frame in range(3)]
    files = Revisited().files("val", drawn, stems)
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    told = json.loads(files["roxford5k/views/val00000.json"])
    hashes = join_views(tmp_path, list(files)[::-1])
    assert set(hashes) == {f"roxford5k/jpg/{stem}.jpg" for stem in stems} | {"roxford5k/gnd_roxford5k.pkl"}
    query = revisited(tmp_path, "query", dataset="roxford5k")
    assert query.ids == stems[:1] and revisited(tmp_path, "database", dataset="roxford5k").ids == stems[1:]
    assert {id: kind for kind, ids in query.answers(0).items() for id in ids} == told["kinds"]
    left, top, right, bottom = box(48)
    np.testing.assert_array_equal(query.cropped().load(0).image_HW3, query.load(0).image_HW3[top:bottom, left:right])


def test_an_index_has_the_frames_that_see_enough_and_a_query_without_any_is_ignored(drawn: Room, tmp_path: Path) -> None:
    layout, names = GoogleLandmarks(), list[str]()
    for name, frames in (("val00000", drawn.frames), ("val00001", drawn.frames[:1])):
        stems = [layout.stem("val", name, number, 0) for number in range(len(frames))]
        files = layout.files("val", Room(name, drawn.scene, drawn.tracer, frames, []), stems)
        for path, data in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(data)
        names += files
    enough = [kind_of(seen_share(drawn.frames[0], other, ALL)) != "junk" for other in drawn.frames[1:]]
    hashes = join_landmarks(tmp_path, names)
    lines = (tmp_path / "ground_truth/retrieval_solution_v2.1.csv").read_text().splitlines()
    (usage,) = {line.split(",")[2] for line in lines[1:]} - {"Ignored"}
    query, index = gldv2(tmp_path, usage.lower()), gldv2(tmp_path, "index")
    assert query.ids == [layout.stem("val", "val00000", 0, 0)] and any(line.endswith(",None,Ignored") for line in lines)
    assert set(query.answers(0)["right"]) == set(index.ids) and len(index) == sum(enough) > 0
    assert len(hashes) == 2 + 2 + sum(enough) and not (tmp_path / "views").exists()


def test_another_photographer_sees_half_of_the_view_from_elsewhere(drawn: Room) -> None:
    renderer, found = Renderer(drawn.tracer), []
    for number, frame in enumerate(drawn.frames):
        camera = elsewhere(frame, renderer, np.random.default_rng(number))
        np.testing.assert_array_equal(camera.pose_44, elsewhere(frame, renderer, np.random.default_rng(number)).pose_44)
        rotation_33 = camera.pose_44[:3, :3]
        np.testing.assert_allclose(rotation_33 @ rotation_33.T, np.eye(3), atol=1e-9)
        other = renderer.frame(camera)
        step = np.linalg.norm(camera.pose_44[:3, 3] - frame.camera.pose_44[:3, 3])
        assert step <= np.linalg.norm([MOVE, 0.3 * MOVE, MOVE]) and camera.focal != frame.camera.focal
        assert not np.array_equal(other.image_HW3, frame.image_HW3)
        found.append(step == 0 or seen_share(frame, other, ALL) > 0.9 * SHARED)
    assert all(found), "a trial on fewer pixels said so"


def test_without_room_to_stand_another_photographer_turns_only(drawn: Room) -> None:
    frame, renderer = drawn.frames[0], Renderer(drawn.tracer)
    closed = type(frame)(**vars(frame) | {"depth_HW": np.full_like(frame.depth_HW, 0.01)})
    camera = elsewhere(closed, renderer, np.random.default_rng(0))
    np.testing.assert_array_equal(camera.pose_44[:3, 3], frame.camera.pose_44[:3, 3])
    assert not np.array_equal(camera.pose_44[:3, :3], frame.camera.pose_44[:3, :3])


def test_then_is_gray_and_in_another_light_than_now(drawn: Room) -> None:
    files = AmsterTime().files("val", Room(drawn.name, drawn.scene, drawn.tracer, drawn.frames[:1], []), ["0000"])
    assert set(files) == {"new/0000.png", "old/0000.jpg"}
    photo_HW3 = old_photo(drawn.frames[0].image_HW3)
    assert photo_HW3.shape == (48, 48, 3) and np.ptp(photo_HW3.astype(int), axis=2).max() == 0 and photo_HW3.min() >= 40
