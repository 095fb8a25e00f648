"""Looking at every frame and mask of a set of clips before an evaluation.

tips-bench data check davis
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tips_bench.data.checks.base import Report, looked_at, report_on
from tips_bench.data.videos import Clip, VideoReader
from tips_bench.errors import UserError
from tips_bench.progress import bar
from tips_bench.wording import counted


@dataclass
class _Seen:
    """What a clip showed. late: objects that start after the first frame. strays: pixels of ids that are no object. lost: objects
    without a pixel in the frame that they start in."""

    size: str = ""
    frames: int = 0
    masks: int = 0
    objects: int = 0
    late: int = 0
    strays: int = 0
    lost: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def check(reader: VideoReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every frame and every mask. expected: the number of clips there should be. workers: threads."""
    report, sizes, total = report_on(reader, expected), Counter[str](), _Seen()
    with bar(f"{reader.name} {reader.split}", len(reader), "clips") as advance:
        for seen in looked_at(lambda index: _look(reader.load(index)), len(reader), workers):
            advance()
            report.faults += seen.faults
            sizes[seen.size] += bool(seen.size)
            total.lost += seen.lost
            for name in ("frames", "masks", "objects", "late", "strays"):
                setattr(total, name, getattr(total, name) + getattr(seen, name))
    report.sizes = dict((+sizes).most_common())
    report.facts = {name: str(getattr(total, name)) for name in ("frames", "masks", "objects")}
    report.facts["objects that start after the first frame"] = str(total.late)
    if total.lost:
        lost = counted(len(total.lost), "object")
        report.remarks.append(f"without a pixel in the frame of its start: {lost}, {', '.join(total.lost[:8])}")
    if total.strays:
        report.remarks.append(f"{total.strays} pixels of masks have the number of no object: they count as background")
    if not reader.has_truth:
        report.remarks.append("the masks of this split are not public: it cannot be scored here")
    if expected is not None and report.samples != expected:
        report.faults.append(f"{report.samples} clips, expected {expected}")
    return report


def _look(clip: Clip) -> _Seen:
    seen = _Seen(frames=len(clip), masks=len(clip.masks))
    try:
        seen.size, objects = "x".join(map(str, clip.shape)), clip.objects
    except UserError as error:
        seen.faults.append(str(error))
        return seen
    seen.objects, seen.late = len(objects), sum(first > 0 for first in objects.values())
    for frame in range(len(clip)):
        try:
            clip.size(frame)
            clip.load(frame)
            counts = np.bincount(clip.ids(frame).ravel(), minlength=256) if frame in clip.masks else np.zeros(256, np.int64)
        except UserError as error:
            seen.faults.append(str(error))
            continue
        seen.lost += [f"{clip.id} {thing}" for thing, first in objects.items() if first == frame and not counts[thing]]
        seen.strays += int(counts.sum() - counts[[0, *objects]].sum())
    return seen
