"""Looking at every image of a classification or retrieval set before an evaluation.

tips-bench data check imagenet-knn
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tips_bench.data.base import ClassificationReader, CroppableReader, InstanceReader, LabeledReader, RankedReader
from tips_bench.data.boxes import BoxReader
from tips_bench.data.checks.base import Report, decoded
from tips_bench.data.uned import NONE
from tips_bench.wording import counted

SOME = 8  # names that a remark lists


def check_classes(reader: ClassificationReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every image of a classification set and count its classes. expected: the number of images. workers: threads."""
    report = decoded(reader, expected, workers)
    images_C = np.bincount(reader.labels_N, minlength=len(reader.classes))
    report.facts["classes"] = f"{len(reader.classes)}, {images_C.min()} to {images_C.max()} images each"
    if absent := [reader.classes[label] for label in np.flatnonzero(images_C == 0).tolist()]:
        report.remarks.append(f"without an image in this split: {counted(len(absent), 'class', 'classes')}, {_some(absent)}")
    return report


def check_instances(reader: InstanceReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every image of a retrieval set and count its domains and labels. expected: the number of images. workers: threads."""
    report = decoded(reader, expected, workers)
    for number, domain in enumerate(reader.classes):
        own_NL = reader.labels_NL[reader.domain_N == number]
        labels, images = np.unique(own_NL[own_NL != NONE], return_counts=True)
        several, single = int(((own_NL != NONE).sum(1) > 1).sum()), counted(int((images == 1).sum()), "label")
        more = f", {counted(several, 'image')} of several" if several else ""
        report.facts[domain] = f"{counted(len(own_NL), 'image')} of {counted(len(labels), 'label')}{more}, {single} of one image"
    return report


def check_boxes(reader: BoxReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every image of a set with boxes, and compare them with the images' sizes. expected: the number of images. workers: threads."""
    report = decoded(reader, expected, workers)
    numbers = [len(one.boxes_N4) for one in reader.boxes]
    report.facts["boxes"] = f"{sum(numbers)}, {min(numbers, default=0)} to {max(numbers, default=0)} in an image"
    report.facts["classes"] = f"{len(reader.classes)}: {_some(reader.classes)}"
    for index, one in enumerate(reader.boxes):
        height, width = reader.size(index)
        if (one.boxes_N4[:, :2] < 0).any() or (one.boxes_N4[:, 2:] > (width, height)).any():
            report.faults.append(f"{reader.ids[index]}: a box leaves the image of {height}x{width} pixels (height x width)")
    report.remarks += reader.remarks
    return report


def check_exhibits(reader: LabeledReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every image and count exhibits and distractors. expected: the number of images. workers: threads."""
    report = decoded(reader, expected, workers)
    known_N = reader.labels_N[reader.labels_N != NONE]
    report.facts["exhibits"] = f"{len(np.unique(known_N))} in {counted(len(known_N), 'image')}"
    report.facts["distractors"] = f"{counted(len(reader) - len(known_N), 'image')}"
    return report


def check_landmarks(reader: RankedReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every image and every query cut to its box, and count the answers. expected: the number of images. workers: threads."""
    return check_ranked(reader.cropped() if isinstance(reader, CroppableReader) else reader, expected, workers)


def check_ranked(reader: RankedReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every image and count the answers of queries. expected: the number of images. workers: threads."""
    report = decoded(reader, expected, workers)
    numbers: dict[str, list[int]] = {}
    for index in range(len(reader)):
        for kind, ids in reader.answers(index).items():
            numbers.setdefault(kind, []).append(len(ids))
    for kind, of_queries in numbers.items():
        images = counted(sum(of_queries), "image")
        report.facts[kind] = f"{images}, {min(of_queries)} to {max(of_queries)} for a query, {of_queries.count(0)} without"
    return report


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SOME]) + (", ..." if len(names) > SOME else "")
