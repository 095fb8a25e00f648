"""Looking at every image and every pair of a set of pairs before an evaluation.

    tips-bench data check spair

Axes: K points of a pair.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from tips_bench.data.checks.base import Report, looked_at, report_on
from tips_bench.data.pairs import KeypointPair, PairReader, ViewPair
from tips_bench.errors import UserError
from tips_bench.progress import bar


def check_keypoints(reader: PairReader[KeypointPair], expected: int | None = None, workers: int = 2) -> Report:
    """Decode every image, and look for points and sizes that do not fit it. expected: the number of pairs. workers: threads."""
    report, sizes = _images(reader, expected, workers)
    points, per_kind = [], Counter[str]()
    for index in range(len(reader)):
        pair = reader.load(index)
        points.append(pair.points_2K2.shape[1])
        per_kind[reader.classes[pair.kind]] += 1
        if pair.second in sizes and sizes[pair.second] != pair.size:
            report.faults.append(
                f"{pair.id}: the second image is {sizes[pair.second]}, and its annotation says {pair.size} (height, width)"
            )
        for place, points_K2 in zip((pair.first, pair.second), pair.points_2K2, strict=True):
            size = sizes.get(place)
            if size is not None and ((points_K2 < 0) | (points_K2 > size[::-1])).any():
                report.faults.append(f"{pair.id}: a point lies outside of {reader.images.ids[place]}")
    report.facts["points"] = f"{sum(points)}, {min(points)} to {max(points)} a pair"
    report.facts["pairs"] = ", ".join(f"{name} {number}" for name, number in sorted(per_kind.items()))
    return report


def check_views(reader: PairReader[ViewPair], expected: int | None = None, workers: int = 2) -> Report:
    """Decode every image and every depth map, and look for pairs of which nothing is seen twice. As `check_keypoints`."""
    report, _ = _images(reader, expected, workers)
    per_kind, shares = Counter[str](), []

    def look(index: int) -> tuple[int, float] | str:
        try:
            pair = reader.load(index)
        except UserError as error:
            return str(error)
        return pair.kind, seen_twice(pair)

    with bar(f"{reader.name} {reader.split}", len(reader)) as advance:
        for id, found in zip(reader.ids, looked_at(look, len(reader), workers), strict=True):
            advance()
            if isinstance(found, str):
                report.faults.append(found)
                continue
            per_kind[reader.classes[found[0]]] += 1
            shares.append(found[1])
            if found[1] == 0:
                report.remarks.append(f"{id}: no point of the first view is seen in the second")
    if shares:
        report.facts["seen twice"] = f"{100 * np.median(shares):.0f} % of the first view's points, the median over pairs"
    report.facts["pairs"] = ", ".join(f"{name} {per_kind[name]}" for name in reader.classes)
    return report


def seen_twice(pair: ViewPair, tolerance: float = 0.02) -> float:
    """The share of the first view's points that the second sees at the same depth. tolerance: of the depth."""
    first_HW3, second_HW3 = pair.points_2HW3
    points_N3 = first_HW3[first_HW3[..., 2] > 0]
    known_HW = second_HW3[..., 2] > 0
    if not len(points_N3) or not known_HW.any():
        return 0.0
    moved_N3 = points_N3 @ pair.move_44[:3, :3].T + pair.move_44[:3, 3]
    moved_N3 = moved_N3[moved_N3[:, 2] > 0]
    known_M3, depth_HW = second_HW3[known_HW], second_HW3[..., 2]
    rows_M, columns_M = np.nonzero(known_HW)
    column, row = (  # pixels are linear in x / z and y / z
        np.polyfit(known_M3[:, axis] / known_M3[:, 2], place_M, 1) for axis, place_M in ((0, columns_M), (1, rows_M))
    )
    x_N = np.rint(np.polyval(column, moved_N3[:, 0] / moved_N3[:, 2])).astype(np.int64)
    y_N = np.rint(np.polyval(row, moved_N3[:, 1] / moved_N3[:, 2])).astype(np.int64)
    inside_N = (x_N >= 0) & (x_N < depth_HW.shape[1]) & (y_N >= 0) & (y_N < depth_HW.shape[0])
    there_N = depth_HW[y_N[inside_N], x_N[inside_N]]
    near_N = np.abs(there_N - moved_N3[inside_N, 2]) <= tolerance * moved_N3[inside_N, 2]
    return float(near_N.sum() / len(points_N3))


def _images(reader: PairReader, expected: int | None, workers: int) -> tuple[Report, dict[int, tuple[int, int]]]:
    """A report with the images' sizes and faults, and the size of each image that can be decoded."""
    report, sizes = report_on(reader, expected), dict[int, tuple[int, int]]()

    def look(index: int) -> tuple[int, int] | str:
        try:
            height, width = reader.images.load(index).image_HW3.shape[:2]
        except UserError as error:
            return str(error)
        return height, width

    with bar(f"{reader.name} {reader.split}", len(reader.images)) as advance:
        for index, found in enumerate(looked_at(look, len(reader.images), workers)):
            advance()
            if isinstance(found, str):
                report.faults.append(found)
            else:
                sizes[index] = found
    report.sizes = dict(Counter(f"{height}x{width}" for height, width in sizes.values()).most_common())
    report.facts["images"] = str(len(reader.images))
    if expected is not None and report.samples != expected:
        report.faults.append(f"{report.samples} pairs, expected {expected}")
    return report, sizes
