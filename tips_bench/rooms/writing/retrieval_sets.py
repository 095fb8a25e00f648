"""Rooms as sets for retrieval of places, in the layouts of Revisited Oxford, AmsterTime and Google Landmarks v2.

roxford5k     roxford5k/jpg/ROOM_FRAME.jpg and roxford5k/gnd_roxford5k.pkl
amstertime    new/NUMBER.png and old/NUMBER.jpg: one place in two lights, by two photographers, the second as a gray and soft photo
gldv2         test/A/B/C/ID.jpg and index/A/B/C/ID.jpg with their lists; a third of the queries is public

In the first, the first frame of a room is a query, cut to its middle, and all other frames are the database. How much of the cut a frame of
the same room sees decides what it is: easy, hard, or junk where it sees hardly any of it. In the last, the first frame is a query, too, and
is not cut. Frames that would be easy or hard are right, and those that would be junk are left out; without a right one the query is
ignored.

Axes: H W pixels, P points.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tips_bench.files import digest, sha256
from tips_bench.rooms.drawing.assembly import Scene
from tips_bench.rooms.drawing.camera import Camera
from tips_bench.rooms.drawing.render import Frame, Renderer
from tips_bench.rooms.drawing.tracer import Tracer
from tips_bench.rooms.generate import Room
from tips_bench.rooms.writing.layouts import Entry, Files, jpeg, png

SET = "roxford5k"
EASY, HARD = 0.4, 0.1  # share of the cut that is seen, at least
EDGE = 0.15  # of a side, cut off a query on each of its sides
STEP = 4  # every so many pixels one is looked for
NEAR = 0.05  # of the depth, and as many metres: two surfaces are one
MOVE, TURN, LENS = (
    0.5,
    8.0,
    1.25,
)  # another photographer stands so many metres away, turns by degrees, and has another focal length, at most
SHARED, CLEAR = 0.5, 0.3  # of the first view is seen in the second; metres before the lens; at least
TRIAL = 4  # times less pixels on a side are enough to see that


def box(size: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels that a query of size x size pixels is cut to."""
    edge = round(EDGE * size)
    return edge, edge, size - edge, size - edge


def seen_share(query: Frame, other: Frame, cut: tuple[int, int, int, int]) -> float:
    """Share of a part of the query, in 0..1, that another frame of the room sees. cut: left, top, right, bottom in pixels."""
    left, top, right, bottom = cut
    rows, columns = (axis.ravel() for axis in np.mgrid[top:bottom:STEP, left:right:STEP])
    depth_P = query.depth_HW[rows, columns].astype(np.float64)
    rows, columns, depth_P = (array[depth_P > 0] for array in (rows, columns, depth_P))
    if not len(depth_P):
        return 0.0
    rays_P6 = query.camera.rays(columns + 0.5, rows + 0.5).astype(np.float64)
    points_P3 = rays_P6[:, :3] + depth_P[:, None] * rays_P6[:, 3:]
    pose_44, size = other.camera.pose_44, other.camera.size
    local_P3 = (points_P3 - pose_44[:3, 3]) @ pose_44[:3, :3]
    front_P = local_P3[:, 2] > 0
    away_P = np.where(front_P, local_P3[:, 2], 1.0)
    image_P3 = local_P3 / away_P[:, None] @ other.camera.intrinsics_33.T
    x_P, y_P = (np.floor(image_P3[:, axis]) for axis in (0, 1))
    inside_P = front_P & (x_P >= 0) & (x_P < size) & (y_P >= 0) & (y_P < size)
    there_P = other.depth_HW[np.where(inside_P, y_P, 0).astype(int), np.where(inside_P, x_P, 0).astype(int)]
    return float((inside_P & (np.abs(there_P - away_P) <= NEAR * (1 + away_P))).mean())


def kind_of(share: float) -> str:
    """What a frame of the query's room is to it."""
    return "easy" if share >= EASY else "hard" if share >= HARD else "junk"


class Revisited:
    """Views that are seen again."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {f"{SET}/jpg/{stem}.jpg": jpeg(frame.image_HW3) for stem, frame in zip(stems, room.frames, strict=True)}
        query, *others = room.frames
        cut = box(query.camera.size)
        kinds = {stem: kind_of(seen_share(query, other, cut)) for stem, other in zip(stems[1:], others, strict=True)}
        told = {"query": stems[0], "bbx": cut, "kinds": kinds}
        files[f"{SET}/views/{room.name}.json"] = json.dumps(told).encode()
        return files

    def index(self, entries: list[Entry]) -> Files:
        return {}


def join_views(folder: Path, names: list[str]) -> dict[str, str]:
    """Make the list of answers from what `Revisited.files` wrote; name -> hex SHA-256 of every file that is there then."""
    rooms = _taken(folder, names)
    database = sorted(stem for room in rooms for stem in room["kinds"])
    place = {stem: number for number, stem in enumerate(database)}
    truth: list[dict[str, Any]] = []
    for room in rooms:
        kinds = {kind: [place[stem] for stem, one in sorted(room["kinds"].items()) if one == kind] for kind in ("easy", "hard", "junk")}
        truth.append({"bbx": [float(value) for value in room["bbx"]], **kinds})
    lists = {"imlist": database, "qimlist": [room["query"] for room in rooms], "gnd": truth}
    (folder / SET / f"gnd_{SET}.pkl").write_bytes(pickle.dumps(lists, protocol=2))
    return _hashes(folder)


def _taken(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    """What is told of each room in its .json file, in the order of the rooms; the files and their folder are gone then."""
    views = [folder / name for name in sorted(names) if name.endswith(".json")]
    rooms = [json.loads(path.read_text(encoding="utf-8")) for path in views]
    for path in views:
        path.unlink()
    views[0].parent.rmdir()
    return rooms


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def relit(scene: Scene) -> Scene:
    """The room in another light: daylight nearly gone, lamps three times as strong, and the walls' own light warm and half as strong."""
    lights = [replace(light, power=light.power * (3.0 if light.kind == "lamp" else 0.05)) for light in scene.lights]
    return replace(scene, lights=lights, ambient=scene.ambient * np.array([0.6, 0.5, 0.4], scene.ambient.dtype))


def old_photo(image_HW3: np.ndarray) -> np.ndarray:
    """A gray photo with little contrast, half as sharp; uint8 RGB."""
    gray_HW = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY)
    height, width = gray_HW.shape
    half_HW = cv2.resize(gray_HW, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
    soft_HW = cv2.resize(half_HW, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.repeat(np.rint(40 + soft_HW * (170 / 255)).astype(np.uint8)[..., None], 3, -1)


def elsewhere(frame: Frame, renderer: Renderer, rng: np.random.Generator) -> Camera:
    """The camera of another photographer of a view. Where too little of it would be seen the step is halved, and none in the end."""
    camera = frame.camera
    step_3 = MOVE * rng.uniform(-1, 1, 3) * (1, 0.3, 1)  # right, down, ahead
    yaw, pitch = np.radians(TURN) * rng.uniform(-1, 1, 2) * (1, 0.5)
    focal = LENS ** rng.uniform(-1, 1)
    for share in (1.0, 0.5, 0.25):
        other = _moved(camera, share * step_3, yaw, pitch, focal)
        trial = renderer.frame(_coarse(other))
        clear = trial.depth_HW.min(initial=np.inf, where=trial.depth_HW > 0) >= CLEAR
        if clear and seen_share(frame, trial, (0, 0, camera.size, camera.size)) >= SHARED:
            return other
    return _moved(camera, np.zeros(3), yaw, pitch, focal)


def _moved(camera: Camera, step_3: np.ndarray, yaw: float, pitch: float, focal: float) -> Camera:
    """step_3: right, down and ahead, in metres. yaw, pitch: in radians. focal: factor of the focal length."""
    pose_44, intrinsics_33 = camera.pose_44.copy(), camera.intrinsics_33.copy()
    pose_44[:3, 3] += camera.pose_44[:3, :3] @ step_3
    about_33, up_33 = cv2.Rodrigues(np.array([0.0, 0.0, yaw]))[0], cv2.Rodrigues(np.array([pitch, 0.0, 0.0]))[0]
    pose_44[:3, :3] = about_33 @ camera.pose_44[:3, :3] @ up_33
    intrinsics_33[[0, 1], [0, 1]] *= focal
    return Camera(intrinsics_33, pose_44, camera.size)


def _coarse(camera: Camera) -> Camera:
    scale_33 = np.diag([1 / TRIAL, 1 / TRIAL, 1.0])
    return Camera(scale_33 @ camera.intrinsics_33, camera.pose_44, camera.size // TRIAL)


class AmsterTime:
    """Places then and now."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{number - 1:04d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        renderer, files = Renderer(Tracer(relit(room.scene))), {}
        rng = np.random.default_rng(int(digest("another photographer", room.name)[:16], 16))
        for stem, frame in zip(stems, room.frames, strict=True):
            files[f"new/{stem}.png"] = png(frame.image_HW3)
            files[f"old/{stem}.jpg"] = jpeg(old_photo(renderer.frame(elsewhere(frame, renderer, rng)).image_HW3))
        return files

    def index(self, entries: list[Entry]) -> Files:
        return {}


class GoogleLandmarks:
    """Views that are seen again, under ids that tell nothing."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return digest(split, scene, frame)[:16]

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        (query, *others), size = room.frames, room.frames[0].camera.size
        shares = [seen_share(query, other, (0, 0, size, size)) for other in others]
        right = {stem: other for stem, other, share in zip(stems[1:], others, shares, strict=True) if kind_of(share) != "junk"}
        files: Files = {_place("index", stem): jpeg(frame.image_HW3) for stem, frame in right.items()}
        files[_place("test", stems[0])] = jpeg(query.image_HW3)
        files[f"views/{room.name}.json"] = json.dumps({"query": stems[0], "right": sorted(right)}).encode()
        return files

    def index(self, entries: list[Entry]) -> Files:
        return {}


def _place(folder: str, stem: str) -> str:
    return f"{folder}/{stem[0]}/{stem[1]}/{stem[2]}/{stem}.jpg"


def join_landmarks(folder: Path, names: list[str]) -> dict[str, str]:
    """Make the lists from what `GoogleLandmarks.files` wrote; name -> hex SHA-256 of every file that is there then."""
    rooms = sorted(_taken(folder, names), key=lambda room: room["query"])
    usage = [("Public" if int(room["query"], 16) % 3 == 0 else "Private") if room["right"] else "Ignored" for room in rooms]
    solution = [f"{room['query']},{' '.join(room['right']) or None},{own}" for room, own in zip(rooms, usage, strict=True)]
    lists = {
        "ground_truth/retrieval_solution_v2.1.csv": ["id,images,Usage", *solution],
        "metadata/index.csv": ["id", *sorted(stem for room in rooms for stem in room["right"])],
    }
    for name, lines in lists.items():
        (folder / name).parent.mkdir()
        (folder / name).write_text("\n".join([*lines, ""]), encoding="utf-8")
    return _hashes(folder)
