"""ScanNet V2 (Dai et al., CVPR 2017): RGB-D scans of rooms with labelled meshes, in the layout of its release.

    scannetv2_train.txt, scannetv2_val.txt           ids of the scans, from Tasks/Benchmark of ScanNet's repository
    scans/ID/ID_vh_clean_2.ply                       the mesh, whose vertices are the points
    scans/ID/ID_vh_clean_2.labels.ply                their labels, as ids of NYU40
    scans/ID/ID.sens                                 the frames; other places and forms of them: scan_frames.py

Three training scans hold labels that NYU40 does not have, 50 and 149. They are ignored, as the loaders of the field do (see STRAY).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.base import IGNORE
from tips_bench.data.ply import read_vertices, vertex_count
from tips_bench.data.scan_frames import Source, find_frames
from tips_bench.data.scans import Scan, ScanFrames
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

SPLITS = ("train", "val")
# NYU40 id, name and colour of the 20 benchmark classes: BenchmarkScripts/3d_evaluation/evaluate_semantic_label.py and util.py of
# ScanNet's repository.
CLASSES: tuple[tuple[int, str, tuple[int, int, int]], ...] = (
    (1, "wall", (174, 199, 232)),
    (2, "floor", (152, 223, 138)),
    (3, "cabinet", (31, 119, 180)),
    (4, "bed", (255, 187, 120)),
    (5, "chair", (188, 189, 34)),
    (6, "sofa", (140, 86, 75)),
    (7, "table", (255, 152, 150)),
    (8, "door", (214, 39, 40)),
    (9, "window", (197, 176, 213)),
    (10, "bookshelf", (148, 103, 189)),
    (11, "picture", (196, 156, 148)),
    (12, "counter", (23, 190, 207)),
    (14, "desk", (247, 182, 210)),
    (16, "curtain", (219, 219, 141)),
    (24, "refrigerator", (255, 127, 14)),
    (28, "shower curtain", (158, 218, 229)),
    (33, "toilet", (44, 160, 44)),
    (34, "sink", (112, 128, 144)),
    (36, "bathtub", (227, 119, 194)),
    (39, "otherfurniture", (82, 84, 163)),
)
NYU40 = 40
TABLE = np.full(NYU40 + 1, IGNORE, np.uint8)  # NYU40 id, 0 = unlabelled -> class index
TABLE[[id for id, _, _ in CLASSES]] = np.arange(len(CLASSES))
# Ids in scene0270_00, scene0270_02 (50) and scene0384_00 (149) that are none of NYU40 (issue 20 of ScanNet/ScanNet, of 2018). OpenScene's
# table of 150 entries ignores them (pengsongyou/openscene 0f369bc, scripts/preprocess/preprocess_3d_scannet.py:8-10), MinkowskiNet's
# preparation makes them 0, unlabelled (chrischoy/SpatioTemporalSegmentation 4afee29, lib/datasets/preprocessing/scannet.py:12-16, 52-60).
STRAY = (50, 149)


class ScanNetOptions(Strict):
    """frame_step: of each scan the frames 0, frame_step, 2 frame_step ... are used."""

    frame_step: int = Field(20, gt=0)


def scannet(root: str | Path, split: str, **options: Any) -> ScanNetReader:
    """ScanNet V2 with the 20 benchmark classes. Splits: train, val."""
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, where="scannet")
    return ScanNetReader(Path(root), split, parse(ScanNetOptions, options, where="data.options").frame_step)


class ScanNetReader:
    """A ScanReader. Scans of one room (scene0000_00, scene0000_01) are a group. layout: where the frames were found, for people.

    Errors: no such folder, no list of the split, a scan without points, labels or frames.
    """

    name = "scannet"

    def __init__(self, root: Path, split: str, frame_step: int) -> None:
        self.split, self.root, self.frame_step = split, str(root), frame_step
        self.classes, self.palette = [name for _, name, _ in CLASSES], [color for _, _, color in CLASSES]
        self.ids = _ids(root, split)
        self.groups = [id.partition("_")[0] for id in self.ids]
        self._sources = [find_frames(root, id) for id in self.ids]
        layouts = Counter(source.layout for source in self._sources)
        self.layout = ", ".join(f"{layout.title} ({scans} scans)" for layout, scans in layouts.items())
        self.remarks = tuple(layout.remark for layout in layouts if layout.remark)
        missing: list[Path] = []
        sizes = []
        for index, source in enumerate(self._sources):
            mesh, labels = self._cloud(index), self._labels(index)
            missing += [path for path in (mesh, labels, source.path) if not path.exists()]
            if not missing:
                sizes += [mesh.stat().st_size, labels.stat().st_size, *_identity(source, frame_step)]
        if missing:
            problem = f"it is missing ({len(missing)} such files, this is the first)"
            raise UserError(problem, where=missing[0], fix="Get it again, or take the scan out of the list.")
        self.fingerprint = digest(frame_step, *self.ids, *sizes, *TABLE)

    def __len__(self) -> int:
        return len(self.ids)

    def sources(self, index: int) -> list[Path]:
        """The files that a scan is read from."""
        frames = [path for path in self._sources[index].files(self.frame_step) if path.exists()]
        return [self._cloud(index), self._labels(index), *frames]

    def points(self, index: int) -> int:
        """N of a scan, from a header."""
        return vertex_count(self._cloud(index))

    def load(self, index: int) -> Scan:
        """Read the cloud and its labels. Errors: a broken file, labels for another number of points, none, or outside NYU40."""
        path, labels_path = self._cloud(index), self._labels(index)
        cloud, labeled = read_vertices(path), read_vertices(labels_path)
        if not {"x", "y", "z", "red", "green", "blue"} <= set(cloud.dtype.names or ()):
            raise UserError("its vertices have no place or no colour", where=path, fix="Get it again.")
        if "label" not in (labeled.dtype.names or ()):
            raise UserError("its vertices have no label", where=labels_path, fix="It is the .labels.ply of the release that is read.")
        if len(labeled) != len(cloud):
            problem = f"{len(labeled)} labels for {len(cloud)} points"
            raise UserError(problem, where=labels_path, fix="Get both files of the scan again.")
        labels_N = _classes(labeled["label"], labels_path)
        points_N3 = np.stack([cloud[axis] for axis in "xyz"], 1).astype(np.float32)
        if not np.isfinite(points_N3).all():
            raise UserError("a point that is not finite", where=path, fix="Get it again.")
        colors_N3 = np.stack([cloud[name] for name in ("red", "green", "blue")], 1).astype(np.uint8)
        return Scan(self.ids[index], self.groups[index], points_N3, colors_N3, labels_N)

    def frames(self, index: int) -> ScanFrames:
        """The frames with a pose, exported ones or those of the .sens file. Errors: as the contract says."""
        return self._sources[index].open(self.frame_step)

    def _folder(self, index: int) -> Path:
        return Path(self.root) / "scans" / self.ids[index]

    def _cloud(self, index: int) -> Path:
        return self._folder(index) / f"{self.ids[index]}_vh_clean_2.ply"

    def _labels(self, index: int) -> Path:
        return self._folder(index) / f"{self.ids[index]}_vh_clean_2.labels.ply"


def _classes(ids_N: np.ndarray, where: Path) -> np.ndarray:
    """labels_N, uint8, of NYU40's ids; 255 for those that are no class and for the strays. Errors: another id."""
    known_N = (ids_N >= 0) & (ids_N <= NYU40)
    if wrong := sorted({int(id) for id in ids_N[~known_N]} - set(STRAY)):
        raise UserError(f"a label of {wrong[-1]}, and ids of NYU40 end at {NYU40}", where=where, fix="Get it again.")
    return TABLE[np.where(known_N, ids_N, 0)]


def _ids(root: Path, split: str) -> list[str]:
    path = root / f"scannetv2_{split}.txt"
    try:
        ids = sorted(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        problem = f"cannot read the list of the split: {getattr(error, 'strerror', None) or error}"
        raise UserError(problem, where=path, fix=load_card("task", "scannet").how_to_get) from error
    if wrong := [id for id in ids if not re.fullmatch(r"\w+", id)]:
        raise UserError(f"{wrong[0]!r} is not the id of a scan", where=path, fix="Get the list again.")
    if not ids or len(set(ids)) != len(ids):
        raise UserError("the list is empty, or names a scan twice", where=path, fix="Get the list again.")
    return ids


def _identity(source: Source, step: int) -> list[int]:
    """Sizes in bytes of the frames that are used, or of the .sens file."""
    return [path.stat().st_size if path.exists() else 0 for path in source.files(step)]
