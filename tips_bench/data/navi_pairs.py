"""Pairs of NAVI's images of one object in the wild, with depth and poses, as probe3d matches them.

Images, depth and crops are those of tips_bench.data.navi. Every 4th image of the sorted list has a partner: an image of the same object to
which the camera turns by more than 0 and at most 120 degrees, drawn by a hash of both ids, so that the list of pairs is the same on every
machine. probe3d draws it with torch's generator from a list in the file system's order, and may draw the image itself
(mbanani/probe3d a1f1464, evals/datasets/navi.py:339-382); here it never is its own partner.

A pose brings the object to the camera's frame: R x + t, R from the quaternion (w, x, y, z), t in millimeters
(evals/datasets/utils.py:324-386).

Axes: H W pixels, V views.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from tips_bench.cards import load_card, parse
from tips_bench.data.camera_geometry import Intrinsics, points
from tips_bench.data.navi import FOLDERS, SIZE, NaviOptions, NaviReader, View, nearest, object_box, views_of
from tips_bench.data.pairs import KnownPairs, Pair, ViewPair
from tips_bench.data.view_geometry import angle_group, angle_names, degrees_of, rotation_of
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest


class NaviPairsOptions(NaviOptions):
    """step: every so many pixels of the 512 x 512 have a point. angles: bounds of the ranges of angles, in degrees; the last is the
    greatest angle of a pair.
    """

    step: int = Field(4, gt=0)
    angles: tuple[float, ...] = (0, 30, 60, 90, 120)


class NaviViews(NaviReader):
    """The images that pairs are made of. poses: id -> the object's pose in the camera's frame [4,4], in meters."""

    def __init__(self, split: str, root: Path, views: dict[str, View], poses: dict[str, np.ndarray], how: str) -> None:
        super().__init__("navi-pairs", split, root, views, rule=f"{SIZE} views", how=how)
        self.poses = poses
        self.annotations = {id: Path(view.image).parent.parent / "annotations.json" for id, view in views.items()}

    def sources(self, index: int) -> list[Path]:
        """Image, depth and poses."""
        return [*super().sources(index), self.annotations[self.ids[index]]]

    def seen(self, index: int) -> tuple[np.ndarray, Intrinsics]:
        """(points_HW3, camera) of an image as `load` gives it: float64 meters in the camera's frame, z = 0 beside the object."""
        depth_HW = self._depth(index)
        small_HW = self._square(depth_HW)
        if not small_HW.any():
            raise UserError("no pixel in the central square has a depth value", where=self.files(index)[1], fix="Get the file again.")
        box = object_box(small_HW)
        camera = self._camera(index, depth_HW.shape).boxed(*box)
        return nearest(points(small_HW[box], camera), (SIZE, SIZE)), camera.resized(SIZE, SIZE)


class NaviPairs(KnownPairs[Pair, NaviViews]):
    """One split of the pairs; those of one object are a group."""

    name = "navi-pairs"

    def __init__(self, split: str, root: Path, views: dict[str, View], options: NaviPairsOptions, how: str) -> None:
        self.split, self.options, self.classes = split, options, angle_names(options.angles)
        poses = _poses(views)
        partners = drawn_partners(poses, list(views)[:: options.every], options.angles[-1])
        used = {id for both in partners.items() for id in both}
        images = NaviViews(split, root, {id: view for id, view in views.items() if id in used}, poses, how)
        place, pairs = {id: number for number, id in enumerate(images.ids)}, []
        for first, second in sorted(partners.items()):
            degrees = float(degrees_of(poses[second] @ np.linalg.inv(poses[first])))
            id = f"{first}--{second.rpartition('/')[2]}"
            kind = angle_group(degrees, options.angles, id, root)
            pairs.append(Pair(id, first.split("/")[0], kind, place[first], place[second]))
        super().__init__(pairs, images, root)
        if not self.ids:
            raise UserError("no image has a partner", where=root, fix="Set data.options.angles, or get the set again.")
        known = (value for id in images.ids for value in (id, *poses[id].ravel().tolist()))
        self.fingerprint = digest(images.fingerprint, *self.ids, *known, options.model_dump_json())

    def load(self, index: int) -> ViewPair:
        """Decode the depth of one pair. Errors: a broken or missing file, one without an object."""
        pair, step = self._pairs[index], self.options.step
        (first_HW3, _), (second_HW3, camera) = self.images.seen(pair.first), self.images.seen(pair.second)
        a, b = (self.images.poses[self.images.ids[place]] for place in (pair.first, pair.second))
        move_44 = b @ np.linalg.inv(a)
        points_2HW3 = np.stack([first_HW3, second_HW3])[:, ::step, ::step]
        known = pair.id, pair.group, pair.kind, pair.first, pair.second
        return ViewPair(*known, points_2HW3, move_44, (camera.fx, camera.fy), float(degrees_of(move_44)))


def drawn_partners(poses: dict[str, np.ndarray], chosen: list[str], greatest: float) -> dict[str, str]:
    """Image -> its partner, of the same object and collection; an image without any is left out. greatest: degrees between them."""
    partners = {}
    for first in chosen:
        others = [id for id in poses if id != first and id.rpartition("/")[0] == first.rpartition("/")[0]]
        if not others:
            continue
        moves_V44 = np.stack([poses[id] for id in others]) @ np.linalg.inv(poses[first])
        degrees_V = degrees_of(moves_V44)
        near = [id for id, degrees in zip(others, degrees_V, strict=True) if 0 < degrees <= greatest]
        if near:
            partners[first] = min(near, key=lambda id: digest("partner", first, id))
    return partners


def navi_pairs(root: str | Path, split: str, **options: Any) -> NaviPairs:
    """The pairs. Splits: test (in the wild). Errors: a file that is missing or is not NAVI's."""
    root, how = Path(root), load_card("task", "navi-pairs").how_to_get
    chosen = parse(NaviPairsOptions, options, where="data.options")
    if split != "test":
        raise unknown_name("split", split, ["test"], where="navi-pairs")
    found = ((root / folder, views_of(root / folder, split, chosen.prefix)) for folder in FOLDERS)
    place, views = next(((place, views) for place, views in found if views), (root, {}))
    if not views:
        problem = "there is no such folder" if not root.is_dir() else "the files are not in the layout of NAVI"
        raise UserError(f"{problem}; looked for OBJECT/wild_set/annotations.json and images/{chosen.prefix}000.jpg", where=root, fix=how)
    return NaviPairs(split, place, views, chosen, how)


def _poses(views: dict[str, View]) -> dict[str, np.ndarray]:
    """id -> pose [4,4], in meters. Errors: annotations without the pose of an image."""
    poses, files = {}, {Path(view.image).parent.parent: id.rpartition("/")[0] for id, view in views.items()}
    for folder, collection in files.items():
        path = folder / "annotations.json"
        try:
            for entry in json.loads(path.read_text(encoding="utf-8")):
                pose_44 = np.eye(4)
                pose_44[:3, :3] = rotation_of(entry["camera"]["q"])
                pose_44[:3, 3] = np.array(entry["camera"]["t"], dtype=np.float64) / 1000
                poses[f"{collection}/{str(entry['filename']).split('.')[0]}"] = pose_44
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"no poses of NAVI: {error!r}", where=path, fix="Get the collection again.") from error
    return {id: poses[id] for id in views}
