"""Rooms as the sets of image pairs keep theirs on disk: keypoints of objects in SPair-71k and PF-PASCAL, views with depth and poses in the
pairs of ScanNet and NAVI. Depth and poses are exact, so the truth of every match is known.

spair           JPEGImages, Segmentation, ImageAnnotation, PairAnnotation, Layout; a thing that two frames of a room show is a pair
pf-pascal       PF-dataset-PASCAL/{JPEGImages, test_pairs_pf_pascal.csv}; the same pairs
scannet-pairs   test.npz, intrinsics.npz, sceneNNNN_00/{color, depth, pose}; frames of a room that see much in common, 640 x 480
navi-pairs      as navi, of one thing a room with the poses of its frames; both a quarter as large

Axes: H W pixels, N points.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from tips_bench.files import sha256
from tips_bench.rooms.drawing.camera import Camera
from tips_bench.rooms.drawing.render import Frame
from tips_bench.rooms.drawing.tracer import Tracer
from tips_bench.rooms.generate import Room
from tips_bench.rooms.writing.class_crops import CLASSES, LEAST
from tips_bench.rooms.writing.dense_sets import NAVI, Navi, largest_thing, through
from tips_bench.rooms.writing.layouts import Entry, Files, jpeg, png
from tips_bench.rooms.writing.scannet import scan_id

SPLIT = {"train": "trn", "val": "test"}  # of rooms, as SPair names its own
EACH = 6  # points of a thing that are chosen in each frame
MOST = 30  # points of a thing
FEWEST = 4  # points that both images of a pair show
TOLERANCE = 0.01  # of the depth: a point is seen where the depth there is its own
SIZE = 480, 640  # of ScanNet's frames
COMMON = 0.2  # share of a frame's points that the other of a pair sees, at least


def world(frame: Frame, rows_N: np.ndarray, columns_N: np.ndarray) -> np.ndarray:
    """points_N3 of the room at the centers of pixels."""
    camera, depth_N = frame.camera, frame.depth_HW[rows_N, columns_N].astype(np.float64)
    rays_N6 = camera.rays(columns_N + 0.5, rows_N + 0.5).astype(np.float64)
    return rays_N6[:, :3] + rays_N6[:, 3:] * depth_N[:, None]


def seen(camera: Camera, points_N3: np.ndarray) -> np.ndarray:
    """[N,3]: x, y in pixels and the depth of points of the room."""
    inside_N3 = (points_N3 - camera.pose_44[:3, 3]) @ camera.pose_44[:3, :3]
    depth_N1 = inside_N3[:, 2:]
    focal, center = np.diag(camera.intrinsics_33)[:2], camera.intrinsics_33[:2, 2]
    return np.concatenate([inside_N3[:, :2] / np.where(depth_N1 > 1e-6, depth_N1, np.inf) * focal + center, depth_N1], 1)


def visible(depth_HW: np.ndarray, seen_N3: np.ndarray) -> np.ndarray:
    """bool [N]: whether a camera with this depth map sees the points at these places."""
    column_N, row_N = (np.floor(seen_N3[:, axis]).clip(-1, 1 << 20).astype(np.int64) for axis in (0, 1))
    inside_N = (column_N >= 0) & (row_N >= 0) & (column_N < depth_HW.shape[1]) & (row_N < depth_HW.shape[0]) & (seen_N3[:, 2] > 0)
    found_N = np.where(inside_N, depth_HW[np.where(inside_N, row_N, 0), np.where(inside_N, column_N, 0)], 0)
    return inside_N & (found_N > 0) & (np.abs(found_N - seen_N3[:, 2]) <= TOLERANCE * seen_N3[:, 2])


@dataclass(frozen=True)
class Sighting:
    """A thing in one frame. points: number of the point -> its pixel (x, y). box: x1, y1, x2, y2."""

    frame: int
    points: dict[int, tuple[int, int]]
    box: tuple[int, int, int, int]


def sightings(room: Room, number: int) -> list[Sighting]:
    """Where a room's frames show a thing, with the same points of its surface in all."""
    size = room.frames[0].instances_HW.size
    frames = [k for k, frame in enumerate(room.frames) if (frame.instances_HW == number).sum() >= LEAST * size]
    rng, chosen = np.random.default_rng([int(room.name[-5:]), number]), []
    for k in frames:
        rows, columns = np.nonzero(room.frames[k].instances_HW == number)
        picked = np.sort(rng.choice(len(rows), min(EACH, len(rows)), replace=False))
        chosen.append(world(room.frames[k], rows[picked], columns[picked]))
    if not frames:
        return []
    points_N3, found = np.concatenate(chosen)[:MOST], []
    for k in frames:
        frame = room.frames[k]
        seen_N3 = seen(frame.camera, points_N3)
        pixels_N2 = np.floor(seen_N3[:, :2]).clip(0, frame.camera.size - 1).astype(np.int64)
        own_N = frame.instances_HW[pixels_N2[:, 1], pixels_N2[:, 0]] == number
        there = np.flatnonzero(visible(frame.depth_HW, seen_N3) & own_N)
        rows, columns = np.nonzero(frame.instances_HW == number)
        box = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
        found.append(Sighting(k, {int(n): (int(pixels_N2[n, 0]), int(pixels_N2[n, 1])) for n in there}, box))
    return found


def things(room: Room) -> list[tuple[int, str, list[Sighting]]]:
    """(number, kind, sightings) of the things of CLASSES that a room's frames show."""
    found = []
    for number, thing in enumerate(room.scene.instances, 1):
        if thing.kind in CLASSES and (shown := sightings(room, number)):
            found.append((number, thing.kind.replace(" ", "_"), shown))
    return found


def pairs_of(shown: list[Sighting]) -> list[tuple[Sighting, Sighting, list[int]]]:
    """Pairs of sightings with the numbers of the points that both show."""
    both = ((a, b, sorted(a.points.keys() & b.points.keys())) for a, b in combinations(shown, 2))
    return [(a, b, common) for a, b, common in both if len(common) >= FEWEST]


class Spair:
    """Keypoints of things, an image of the whole frame for each thing in it."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {}
        done = 0
        for number, kind, shown in things(room):
            for a, b, common in pairs_of(shown):
                done += 1
                names = [f"{stems[one.frame]}_{number:03d}" for one in (a, b)]
                pair = f"{int(room.name[-5:]) * 1000 + done:06d}-{names[0]}-{names[1]}:{kind}"
                files[f"PairAnnotation/{SPLIT[split]}/{pair}.json"] = _pair(pair, kind, names, (a, b), common, room)
                for name, one in zip(names, (a, b), strict=True):
                    files |= _image(kind, name, one, number, room.frames[one.frame])
        return files

    def index(self, entries: list[Entry]) -> Files:
        return {}


def _pair(name: str, kind: str, names: list[str], both: tuple[Sighting, Sighting], common: list[int], room: Room) -> bytes:
    size = room.frames[0].camera.size
    fields = {"filename": name, "category": kind, "src_imname": f"{names[0]}.jpg", "trg_imname": f"{names[1]}.jpg"}
    numbers: dict[str, object] = {}
    for side, one in zip(("src", "trg"), both, strict=True):
        points = [list(one.points[n]) for n in common]
        numbers |= {f"{side}_imsize": [size, size, 3], f"{side}_bndbox": list(one.box), f"{side}_kps": points}
    variations = {"viewpoint_variation": 0, "scale_variation": 0, "truncation": 0, "occlusion": 0}
    return (json.dumps(fields | numbers | variations) + "\n").encode()


def _image(kind: str, name: str, one: Sighting, number: int, frame: Frame) -> Files:
    points = {str(n): list(one.points[n]) if n in one.points else None for n in range(MOST)}
    mask_HW = np.where(frame.instances_HW == number, CLASSES.index(kind.replace("_", " ")) + 1, 0).astype(np.uint8)
    return {
        f"JPEGImages/{kind}/{name}.jpg": jpeg(frame.image_HW3),
        f"Segmentation/{kind}/{name}.png": png(mask_HW),
        f"ImageAnnotation/{kind}/{name}.json": (json.dumps({"filename": f"{name}.jpg", "bndbox": one.box, "kps": points}) + "\n").encode(),
    }


def join_spair(folder: Path, names: list[str]) -> dict[str, str]:
    """Write the lists of pairs; name -> hex SHA-256 of every file, with the lists."""
    for split in SPLIT.values():
        listed = sorted(Path(name).stem for name in names if name.startswith(f"PairAnnotation/{split}/"))
        path = folder / "Layout" / "large" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in listed), encoding="utf-8")
    return _hashes(folder)


class PfPascal:
    """The pairs of `Spair` in the lists of PF-PASCAL, whose classes are numbered as CLASSES are. Parts are joined by `join_pf_pascal`."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {}
        rows = []
        for _, kind, shown in things(room):
            for a, b, common in pairs_of(shown):
                paths = [f"PF-dataset-PASCAL/JPEGImages/{stems[one.frame]}.jpg" for one in (a, b)]
                lists = [";".join(str(one.points[n][axis]) for n in common) for one in (a, b) for axis in (0, 1)]
                rows.append([*paths, CLASSES.index(kind.replace("_", " ")) + 1, *lists])
                files |= {path: jpeg(room.frames[one.frame].image_HW3) for path, one in zip(paths, (a, b), strict=True)}
        return files | {f"parts/{split}-{room.name}.json": json.dumps(rows).encode()}

    def index(self, entries: list[Entry]) -> Files:
        return {}


def join_pf_pascal(folder: Path, names: list[str]) -> dict[str, str]:
    """Join parts/*.json to the list of each split, that of rooms for training being called val; name -> hex SHA-256 of every file."""
    for split, listing in (("train", "val"), ("val", "test")):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["source_image", "target_image", "class", "XA", "YA", "XB", "YB"])
        for name in sorted(name for name in names if name.startswith(f"parts/{split}-")):
            writer.writerows(json.loads((folder / name).read_text(encoding="utf-8")))
            (folder / name).unlink()
        path = folder / "PF-dataset-PASCAL" / f"{listing}_pairs_pf_pascal.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.getvalue(), encoding="utf-8")
    (folder / "parts").rmdir()
    return _hashes(folder)


class ScanNetPairs:
    """Frames in pairs; only those of a pair are written. Parts are joined by `join_scannet_pairs`."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        depths = [lens_view(room.tracer, wide(frame.camera), frame.camera.pose_44, SIZE)[0] for frame in room.frames]
        pairs = [(a, b) for a, b in combinations(range(len(depths)), 2) if common(room, depths, a, b) >= COMMON]
        id, files = scan_id(room.name), Files()
        for k in sorted({k for pair in pairs for k in pair}):
            frame, size = room.frames[k], room.frames[k].camera.size
            box = (0, size * (1 - SIZE[0] / SIZE[1]) / 2, size, size * (1 + SIZE[0] / SIZE[1]) / 2)
            picture = Image.fromarray(frame.image_HW3).resize(SIZE[::-1], Image.Resampling.BICUBIC, box)
            rows = "\n".join(" ".join(repr(float(value)) for value in row) for row in frame.camera.pose_44)
            files |= {
                f"{id}/color/{k}.jpg": jpeg(np.asarray(picture)),
                f"{id}/depth/{k}.png": png(np.rint(1000 * depths[k]).clip(0, 65535).astype(np.uint16)),
                f"{id}/pose/{k}.txt": f"{rows}\n".encode(),
            }
        matrix_33 = wide(room.frames[0].camera)
        matrix_33[:2, 2] -= 0.5
        return files | {f"parts/{id}.json": json.dumps({"pairs": pairs, "intrinsics": matrix_33.tolist()}).encode()}

    def index(self, entries: list[Entry]) -> Files:
        return {}


def wide(camera: Camera) -> np.ndarray:
    """3 x 3 intrinsics of the 640 x 480 in the middle of a square frame that is 640 wide."""
    matrix_33 = camera.intrinsics_33 * (SIZE[1] / camera.size)
    matrix_33[:2, 2], matrix_33[2, 2] = (SIZE[1] / 2, SIZE[0] / 2), 1
    return matrix_33


def lens_view(tracer: Tracer, matrix_33: np.ndarray, pose_44: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(depth_HW in meters, 0 where nothing is; instances_HW, 0 = none) as a camera sees them."""
    x_HW, y_HW = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    hits = tracer.cast(Camera(matrix_33, pose_44, size[1]).rays(x_HW.ravel(), y_HW.ravel()))
    there_N = np.isfinite(hits.t_N)
    instances_N = np.where(there_N, tracer.scene.instance_M[hits.triangle_N] + 1, 0)
    return np.where(there_N, hits.t_N, 0).reshape(size), instances_N.reshape(size)


def common(room: Room, depths: list[np.ndarray], a: int, b: int, step: int = 16) -> float:
    """The share of one frame's points that another sees."""
    first, second = (Camera(wide(room.frames[k].camera), room.frames[k].camera.pose_44, SIZE[1]) for k in (a, b))
    y_N, x_N = (values.ravel() for values in np.meshgrid(*(np.arange(step // 2, side, step) for side in SIZE), indexing="ij"))
    rays_N6 = first.rays(x_N + 0.5, y_N + 0.5).astype(np.float64)
    points_N3 = rays_N6[:, :3] + rays_N6[:, 3:] * depths[a][y_N, x_N][:, None]
    return float(visible(depths[b], seen(second, points_N3))[depths[a][y_N, x_N] > 0].mean())


def join_scannet_pairs(folder: Path, names: list[str]) -> dict[str, str]:
    """Join parts/*.json to test.npz and intrinsics.npz; name -> hex SHA-256 of every file."""
    rows, cameras = [], {}
    for name in sorted(name for name in names if name.startswith("parts/")):
        part = json.loads((folder / name).read_text(encoding="utf-8"))
        id = Path(name).stem
        rows += [[int(id[5:9]), int(id[10:]), a, b] for a, b in part["pairs"]]
        cameras[id] = np.array(part["intrinsics"])
        (folder / name).unlink()
    (folder / "parts").rmdir()
    np.savez(folder / "test.npz", name=np.array(rows, dtype=np.int64).reshape(-1, 4))
    np.savez(folder / "intrinsics.npz", **cameras)
    return _hashes(folder)


class NaviPairs(Navi):
    """One thing of each room in the frames that show it, with their poses; lengths a quarter of the room's.

    The first frame is a multiview collection besides, so that the object has one of each kind.
    """

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        folder = f"object_{split}_{int(room.name.removeprefix(split)):03d}"
        matrix_33 = np.array([[NAVI.fx, 0, NAVI.cx], [0, NAVI.fy, NAVI.cy], [0, 0, 1]])
        views = [through(frame, NAVI) for frame in room.frames]
        maps = [lens_view(room.tracer, matrix_33, frame.camera.pose_44, (NAVI.height, NAVI.width)) for frame in room.frames]
        kinds = [np.where(largest_thing(view), view.instances_HW, 0) for view in views]
        shown = np.sum([np.bincount(map_HW.ravel(), minlength=len(room.scene.instances) + 1) for map_HW in kinds], 0)
        number, files, entries = int(shown[1:].argmax()) + 1, Files(), []
        middle = slice((NAVI.width - NAVI.height) // 2, (NAVI.width + NAVI.height) // 2)  # the square that NAVI's readers keep
        for stem, frame, view, (depth_HW, instances_HW) in zip(stems, room.frames, views, maps, strict=True):
            thing_HW, name = (instances_HW == number) & (depth_HW > 0), stem.rsplit("_", 1)[1]
            if thing_HW[:, middle].sum() < LEAST * thing_HW.size:
                continue
            millimeters_HW = np.where(thing_HW, depth_HW * 250, np.inf)
            stored = {
                f"images/{name}.jpg": jpeg(view.image_HW3),
                f"depth/{name}.png": png(np.rint(655350 / millimeters_HW).clip(0, 65535).astype(np.uint16)),
                f"masks/{name}.png": png(np.where(thing_HW, 255, 0).astype(np.uint8)),
            }
            collections = ("wild_set",) if entries else ("wild_set", "multiview-00-rooms")
            files |= {f"{folder}/{collection}/{path}": data for collection in collections for path, data in stored.items()}
            to_camera_44 = np.linalg.inv(frame.camera.pose_44)
            pose = {"q": quaternion(to_camera_44[:3, :3]), "t": (250 * to_camera_44[:3, 3]).tolist()}
            entry = {"object_id": folder, "camera": pose | {"focal_length": NAVI.fx, "camera_model": "rooms"}}
            entries.append(
                entry | {"filename": f"{name}.jpg", "image_size": [NAVI.height, NAVI.width], "scene_name": "rooms", "split": "train"}
            )
        if not entries:
            return {}
        listed = {"wild_set": entries, "multiview-00-rooms": entries[:1]}
        return files | {f"{folder}/{name}/annotations.json": (json.dumps(some) + "\n").encode() for name, some in listed.items()}


def quaternion(rotation_33: np.ndarray) -> list[float]:
    """(w, x, y, z) of a rotation: the eigenvector of greatest eigenvalue of Bar-Itzhack's symmetric matrix."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation_33
    matrix_44 = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    return np.linalg.eigh(matrix_44)[1][:, -1].tolist()


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
