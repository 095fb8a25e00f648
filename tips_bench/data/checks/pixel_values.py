"""Looking at every depth map or map of normals of a set before an evaluation.

    tips-bench data check nyu-depth

Faults: files that cannot be decoded, sizes that differ, maps without a value, values in another unit or not finite, normals that are not
of length 1, face away or fit the depth better with other axes, intrinsics of another resolution.

Axes: H W pixels.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tips_bench.data.base import DepthReader, DepthSample, ImageSample, NormalsReader, NormalsSample, PixelValueReader
from tips_bench.data.camera_geometry import Intrinsics, normals_from_depth, points
from tips_bench.data.checks.base import Report, looked_at, report_on
from tips_bench.data.nyu_normals import NyuNormals, parse_axes
from tips_bench.errors import UserError
from tips_bench.progress import bar

UNITS = {"millimetres read as metres": 1e-3, "metres read as millimetres": 1e3, "256 units a metre read as 1000": 1000 / 256}
UNITS |= {"1000 units a metre read as 256": 256 / 1000, "256 units a metre read as metres": 1 / 256}
FACING, LENGTH, AGREEING = 0.95, 0.01, 0.05


@dataclass
class Seen:
    """One sample. known: share of pixels with a value. values: of the family's own statistics. faults: of this sample."""

    size: str = ""
    known: float = 0.0
    camera: Intrinsics | None = None
    values: tuple[float, ...] = ()
    agreement_33: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    faults: list[str] = field(default_factory=list)


def check_depth(reader: DepthReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every depth map of a reader and report. expected: the number of samples there should be. workers: threads."""
    report, seen = _look_at_all(reader, expected, workers, _depth)
    spans = np.array([one.values for one in seen if one.values])
    if len(spans):
        low, high = spans[:, 0].min(), spans[:, 2].max()
        median = float(np.median(spans[:, 1]))
        report.facts["depth"] = f"{low:.4g} to {high:.4g} m, {median:.4g} m in the middle of the median image"
        _judge_unit(report, median, reader.reach)
    return report


def check_normals(reader: NormalsReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every map of normals of a reader and report. expected: the number of samples there should be. workers: threads."""
    report, seen = _look_at_all(reader, expected, workers, functools.partial(_normals, reader))
    facing = [one.values[0] for one in seen if one.values]
    if facing:
        report.facts["normals"] = f"{100 * float(np.mean(facing)):.1f} % face the camera"
        if np.mean(facing) < FACING:
            report.faults.append(f"{report.facts['normals']} only: are their axes others, or do they point outward?")
    agreement_33 = sum((one.agreement_33 for one in seen), np.zeros((3, 3)))
    if agreement_33.any() and isinstance(reader, NyuNormals):
        _judge_axes(report, agreement_33, reader.axes)
    report.remarks += reader.remarks
    return report


def _look_at_all(
    reader: PixelValueReader[ImageSample], expected: int | None, workers: int, look: Callable[[Any, Seen], None]
) -> tuple[Report, list[Seen]]:
    report = report_on(reader, expected)
    seen = []
    with bar(f"{reader.name} {reader.split}", len(reader)) as advance:
        for one in _each(reader, workers, look):
            advance()
            seen.append(one)
            report.faults += one.faults
    report.sizes = dict(Counter(one.size for one in seen if one.size).most_common())
    known = [one.known for one in seen if one.size]
    if known:
        report.facts["known"] = f"{100 * float(np.mean(known)):.1f} % of pixels, {100 * min(known):.1f} % in the image with fewest"
    cameras = {one.camera for one in seen if one.camera is not None}
    report.facts["cameras"] = "not told" if not cameras else f"{len(cameras)}, focal lengths {_span(cameras)} pixels"
    if expected is not None and report.samples != expected:
        report.faults.append(f"{report.samples} samples, expected {expected}")
    return report, seen


def _span(cameras: set[Intrinsics]) -> str:
    lengths = sorted(camera.fx for camera in cameras)
    return f"{lengths[0]:.1f}" if lengths[0] == lengths[-1] else f"{lengths[0]:.1f} to {lengths[-1]:.1f}"


def _each(reader: PixelValueReader[ImageSample], workers: int, look: Callable[[Any, Seen], None]) -> Iterator[Seen]:
    """Every sample in order, decoded a few ahead."""

    def one(index: int) -> Seen:
        seen = Seen()
        try:
            sample, size = reader.load(index), reader.size(index)
            seen.camera = reader.intrinsics(index)
            look(sample, seen)
        except UserError as error:
            return Seen(faults=[str(error)])
        seen.size = "x".join(map(str, size))
        if sample.image_HW3.shape[:2] != size:
            seen.faults.append(f"{sample.id}: an image of {sample.image_HW3.shape[:2]}, but its header says {size} (height, width)")
        if seen.camera is not None and (fault := seen.camera.fault(*size)):
            seen.faults.append(f"{sample.id}: {fault}")
        return seen

    return looked_at(one, len(reader), workers)


def _depth(sample: DepthSample, seen: Seen) -> None:
    """values: least, median and greatest depth in metres."""
    depth_HW = sample.depth_HW
    if not np.isfinite(depth_HW).all() or depth_HW.min() < 0:
        seen.faults.append(f"{sample.id}: depth that is negative or not finite")
        return
    known = depth_HW[depth_HW > 0]
    seen.known = known.size / depth_HW.size
    if not known.size:
        seen.faults.append(f"{sample.id}: depth of all zeros")
        return
    seen.values = float(known.min()), float(np.median(known)), float(known.max())


def _normals(reader: NormalsReader, sample: NormalsSample, seen: Seen) -> None:
    """values: the share of normals that face the camera. agreement_33: sums of products with the normals that follow from depth."""
    normals_HW3 = sample.normals_HW3
    known_HW = normals_HW3.any(axis=-1)
    seen.known = float(known_HW.mean())
    if not known_HW.any():
        seen.faults.append(f"{sample.id}: no pixel has a normal")
        return
    lengths = np.linalg.norm(normals_HW3[known_HW], axis=-1)
    if not np.abs(lengths - 1).max() <= LENGTH:  # NaN, too
        seen.faults.append(f"{sample.id}: normals of lengths {lengths.min():.3g} to {lengths.max():.3g}, not 1")
        return
    if seen.camera is None:
        away_HW = normals_HW3[..., 2] > 0
    else:
        away_HW = (normals_HW3 * points(np.ones(known_HW.shape), seen.camera)).sum(axis=-1) > 0
    seen.values = (1 - float(away_HW[known_HW].mean()),)
    if isinstance(reader, NyuNormals) and reader.source != "depth":
        expected_HW3 = normals_from_depth(reader.depth(reader.ids.index(sample.id)), reader.intrinsics(0))
        both_HW = known_HW & expected_HW3.any(axis=-1)
        seen.agreement_33 = expected_HW3[both_HW].astype(np.float64).T @ normals_HW3[both_HW].astype(np.float64)


def _judge_unit(report: Report, median: float, reach: tuple[float, float]) -> None:
    """A median depth that the set's sensor cannot have measured, and the unit that explains it."""
    low, high = reach
    if low <= median <= high:
        return
    likely = [f"{name} (then {median * factor:.3g} m)" for name, factor in UNITS.items() if low <= median * factor <= high]
    cause = f": {' or '.join(likely)}?" if likely else ""
    report.faults.append(f"a median depth of {median:.4g} m, outside {low:g} to {high:g} m{cause}")


def _judge_axes(report: Report, agreement_33: np.ndarray, axes: str) -> None:
    """Whether other signed axes would bring the normals nearer to those that follow from depth."""
    order, signs = parse_axes(axes)
    best, choice = -np.inf, axes
    for turn in itertools.permutations(range(3)):
        for turned in itertools.product((1, -1), repeat=3):
            score = sum(sign * agreement_33[row, column] for row, (column, sign) in enumerate(zip(turn, turned, strict=True)))
            if score > best:
                stored = [("xyz"[order[column]], sign * signs[column]) for column, sign in zip(turn, turned, strict=True)]
                best, choice = score, "".join(("+" if sign > 0 else "-") + axis for axis, sign in stored)
    now = float(np.trace(agreement_33))
    report.facts["axes"] = axes
    if choice != axes and best - now > AGREEING * abs(best):
        report.faults.append(f"the normals fit the depth better with --set task.data.options.axes={choice} than with {axes}")
