"""Looking at every file of a set of scans before an evaluation spends hours on it: labels, poses, intrinsics, depth, and their fit.

Axes: N points, H W pixels of the depth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tips_bench.data.base import IGNORE
from tips_bench.data.checks.base import Report, report_on
from tips_bench.data.scans import RgbdFrame, Scan, ScanFrames, ScanReader
from tips_bench.errors import UserError
from tips_bench.progress import bar

REASONABLE = (0.2, 8.0)  # metres, of a room scan's median depth; the sensor measures 0.4 to 8
MARGIN = 0.5  # metres around the cloud in which a sensed surface may lie
FIT = 0.5  # least share of sensed pixels that lie there
SAMPLED = 16  # every so many pixels along each axis


@dataclass
class _Seen:
    """What one scan showed. empty: frames without any depth. inside, sensed: sampled pixels in the cloud's box, and all."""

    size: str = ""
    points: int = 0
    labeled: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    frames: int = 0
    skipped: int = 0
    empty: int = 0
    inside: int = 0
    sensed: int = 0
    medians: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def check(reader: ScanReader, expected: int | None = None, workers: int = 2) -> Report:
    """Read every cloud and decode every frame that is used, and report. expected: the number of scans there should be."""
    report = report_on(reader, expected, "points")
    total, sizes = _Seen(), Counter[str]()
    with bar(f"{reader.name} {reader.split}", len(reader), "scans") as advance:
        for seen in _scans(reader, workers):
            advance()
            report.faults += seen.faults
            sizes[seen.size] += bool(seen.size)
            total.labeled += seen.labeled
            for name in ("points", "frames", "skipped", "empty"):
                setattr(total, name, getattr(total, name) + getattr(seen, name))
    report.sizes = dict((+sizes).most_common())
    report.pixels = {name: int(total.labeled[index]) for index, name in enumerate(reader.classes)}
    report.ignored = int(total.labeled[IGNORE])
    report.facts = {name: str(getattr(total, attribute)) for name, attribute in (("points", "points"), ("frames", "frames"))}
    report.facts["frames without a pose, left out"] = str(total.skipped)
    if total.empty:
        report.remarks.append(f"{total.empty} of {total.frames} frames have no depth at all: they see no point")
    if expected is not None and len(reader) != expected:
        report.faults.append(f"{len(reader)} scans, expected {expected}")
    if not sum(report.pixels.values()):
        report.faults.append("no point has a class")
    if absent := [name for name, points in report.pixels.items() if not points]:
        report.remarks.append(f"{len(absent)} of {len(reader.classes)} classes have no point: {', '.join(absent)}")
    return report


def _scans(reader: ScanReader, workers: int) -> Iterator[_Seen]:
    with ThreadPoolExecutor(workers) as pool:
        for index in range(len(reader)):
            yield _look(reader, index, pool)


def _look(reader: ScanReader, index: int, pool: ThreadPoolExecutor) -> _Seen:
    seen, id = _Seen(), reader.ids[index]
    scan: Scan | None = None
    try:
        scan = reader.load(index)
        seen.points, seen.labeled = len(scan.labels_N), np.bincount(scan.labels_N, minlength=256)
    except UserError as error:
        seen.faults.append(str(error))
    try:
        frames = reader.frames(index)
    except UserError as error:
        seen.faults.append(str(error))
        return seen
    seen.frames, seen.skipped, seen.size = len(frames), frames.skipped, "x".join(map(str, frames.color.size))
    if not len(frames):
        seen.faults.append(f"{id}: none of its {frames.skipped} frames has a pose")
        return seen
    block = 64  # so that Ctrl-C does not wait for a whole scan
    for start in range(0, len(frames), block):
        for part in pool.map(lambda frame: _frame(frames, frame, scan), range(start, min(start + block, len(frames)))):
            if isinstance(part, str):
                seen.faults.append(part)
                continue
            seen.medians += part.medians
            for name in ("empty", "inside", "sensed"):
                setattr(seen, name, getattr(seen, name) + getattr(part, name))
    _judge(seen, id)
    return seen


def _frame(frames: ScanFrames, index: int, scan: Scan | None) -> _Seen | str:
    """Median depth and fit of one frame, or its fault."""
    try:
        frame: RgbdFrame = frames.load(index)
    except UserError as error:
        return str(error)
    depth_HW = frame.depth_HW
    known = depth_HW > 0
    if not known.any():
        return _Seen(empty=1)
    seen = _Seen(medians=[float(np.median(depth_HW[known]))])
    if scan is not None:
        row, column = (places[:: SAMPLED**2] for places in np.nonzero(known))
        fx, fy, cx, cy = frames.depth.intrinsics_33[[0, 1, 0, 1], [0, 1, 2, 2]]
        z = depth_HW[row, column].astype(np.float64)
        camera = np.stack([(column - cx) / fx * z, (row - cy) / fy * z, z, np.ones_like(z)])
        world = (frames.poses_F44[index] @ camera)[:3].T
        low, high = scan.points_N3.min(0) - MARGIN, scan.points_N3.max(0) + MARGIN
        seen.inside, seen.sensed = int(((world >= low) & (world <= high)).all(1).sum()), len(z)
    return seen


def _judge(seen: _Seen, id: str) -> None:
    """Faults of a scan as a whole."""
    if not seen.medians:
        if seen.empty == seen.frames:
            seen.faults.append(f"{id}: the depth of all {seen.frames} frames is 0: no point can be seen")
        return
    median = float(np.median(seen.medians))
    if not REASONABLE[0] <= median <= REASONABLE[1]:
        seen.faults.append(f"{id}: the median depth is {median:.3g} m: is it stored in another unit than millimetres?")
    elif seen.inside < FIT * seen.sensed:
        share = f"{seen.inside} of {seen.sensed} sensed places"
        seen.faults.append(f"{id}: only {share} lie near its points: poses, intrinsics or depth are of something else")
