"""Looking at every image of a classification or retrieval set before an evaluation.

    tips-bench data check imagenet-knn
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tips_bench.data.check import Report
from tips_bench.data.imagefolder import ImageFolderReader
from tips_bench.data.uned import NONE, InstanceReader
from tips_bench.errors import UserError
from tips_bench.progress import bar

SOME = 8  # names that a remark lists


def check_classes(reader: ImageFolderReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every image of a classification set and count its classes. expected: the number of images. workers: threads."""
    report = _decoded(reader, expected, workers)
    images_C = np.bincount(reader.labels_N, minlength=len(reader.classes))
    report.facts["classes"] = f"{len(reader.classes)}, {images_C.min()} to {images_C.max()} images each"
    if absent := [reader.classes[label] for label in np.flatnonzero(images_C == 0)]:
        report.remarks.append(f"{len(absent)} classes have no image in this split: {_some(absent)}")
    return report


def check_instances(reader: InstanceReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every image of a retrieval set and count its domains and labels. expected: the number of images. workers: threads."""
    report = _decoded(reader, expected, workers)
    for number, domain in enumerate(reader.classes):
        own_NL = reader.labels_NL[reader.domain_N == number]
        labels, images = np.unique(own_NL[own_NL != NONE], return_counts=True)
        several = int(((own_NL != NONE).sum(1) > 1).sum())
        more = f", {several} images of several" if several else ""
        report.facts[domain] = f"{len(own_NL)} images of {len(labels)} labels{more}, {int((images == 1).sum())} labels of one image"
    return report


def _decoded(reader: Any, expected: int | None, workers: int) -> Report:
    """A report with the sizes of all images, and those that cannot be decoded as faults."""
    report = Report(reader.name, reader.split, reader.root, len(reader), expected, fingerprint=reader.fingerprint)
    sizes = Counter[str]()

    def look(index: int) -> tuple[str, str]:
        try:
            height, width = reader.load(index).image_HW3.shape[:2]
        except UserError as error:
            return "", str(error)
        return f"{height}x{width}", ""

    with bar(f"{reader.name} {reader.split}", len(reader)) as advance, ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(reader), 8 * workers):  # in blocks, so that Ctrl-C does not wait for a whole data set
            for size, fault in pool.map(look, range(start, min(start + 8 * workers, len(reader)))):
                advance()
                report.faults += [fault] if fault else []
                sizes[size] += not fault
    report.sizes = dict((+sizes).most_common())
    if expected is not None and report.samples != expected:
        report.faults.append(f"{report.samples} images, expected {expected}")
    return report


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SOME]) + (", ..." if len(names) > SOME else "")
