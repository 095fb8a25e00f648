"""Looking at every file of a data set before an evaluation spends hours on it.

    tips-bench data check ade20k

Every sample is decoded; all faults are listed, not only the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np

from tips_bench.data.base import IGNORE, ImageReader, ImageSample, LaidOut, Reader, SegmentationReader
from tips_bench.data.images import read_mask
from tips_bench.data.label_maps import MaskReader
from tips_bench.errors import UserError
from tips_bench.progress import bar
from tips_bench.terminal import printable
from tips_bench.wording import counted

T = TypeVar("T")
# Faults that a terminal shows; JSON holds all of them.
SHOWN = 20


@dataclass
class Report:
    """What was found in one split.

    layout: which known layout the files have. samples, expected: number of images, and the number that the task's card states (None = it
    states none). sizes: "HxW" -> images.
    pixels: class name -> labelled pixels; ignored: pixels of no class. zero_label: how stored ids become classes. faults: one sentence
    each. remarks: what is allowed but worth a look. fingerprint: of the data, as in records. facts: what else a family counts. unit: of
    what `pixels` and `ignored` count.
    """

    name: str
    split: str
    root: str
    layout: str = ""
    samples: int = 0
    expected: int | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    pixels: dict[str, int] = field(default_factory=dict)
    ignored: int = 0
    unit: str = "pixels"
    zero_label: str = ""
    fingerprint: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self) | {"ok": self.ok}

    def render(self) -> Any:
        """What a terminal shows, as a rich renderable."""
        return _render(self)


def check(reader: SegmentationReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every sample of a segmentation reader and report. expected: the number of samples there should be. workers: threads."""
    report = report_on(reader, expected)
    counts, stored, sizes = np.zeros(256, np.int64), np.zeros(256, np.int64), Counter[str]()
    with bar(f"{reader.name} {reader.split}", len(reader)) as advance:
        for seen in _seen(reader, workers):
            advance()
            if isinstance(seen, str):
                report.faults.append(seen)
                continue
            counts += seen.counts
            stored += seen.stored
            sizes[seen.size] += 1
    report.sizes = dict(sizes.most_common())
    report.pixels = {name: int(counts[index]) for index, name in enumerate(reader.classes)}
    report.ignored = int(counts[IGNORE])
    _judge(report, reader, counts, stored)
    return report


def report_on(reader: Reader[Any], expected: int | None, unit: str = "pixels") -> Report:
    """The report of a reader before anything is decoded. expected: the number of samples there should be."""
    found = reader.layout if isinstance(reader, LaidOut) else ""
    return Report(reader.name, reader.split, reader.root, found, len(reader), expected, fingerprint=reader.fingerprint, unit=unit)


def decoded(reader: ImageReader[ImageSample], expected: int | None, workers: int) -> Report:
    """A report of any reader whose samples hold an image: sizes, and what cannot be decoded as faults. expected: the number of images."""
    report = report_on(reader, expected)
    sizes = Counter[str]()

    def look(index: int) -> tuple[str, str]:
        try:
            height, width = reader.load(index).image_HW3.shape[:2]
        except UserError as error:
            return "", str(error)
        return f"{height}x{width}", ""

    with bar(f"{reader.name} {reader.split}", len(reader)) as advance:
        for size, fault in looked_at(look, len(reader), workers):
            advance()
            report.faults += [fault] if fault else []
            sizes[size] += not fault
    report.sizes = dict((+sizes).most_common())
    if expected is not None and report.samples != expected:
        report.faults.append(f"{report.samples} images, expected {expected}")
    return report


def looked_at(look: Callable[[int], T], number: int, workers: int) -> Iterator[T]:
    """look(0), look(1) ... of `number` samples in order, a few ahead in threads: in blocks, so that Ctrl-C does not wait for all."""
    with ThreadPoolExecutor(workers) as pool:
        block = 8 * workers
        for start in range(0, number, block):
            yield from pool.map(look, range(start, min(start + block, number)))


@dataclass(frozen=True)
class _Seen:
    """One sample. counts: pixels of each class index; stored: pixels of each id in its label file."""

    size: str
    counts: np.ndarray
    stored: np.ndarray


def _seen(reader: SegmentationReader, workers: int) -> Iterator[_Seen | str]:
    """Each sample or its fault, in order, decoded a few ahead."""

    def look(index: int) -> _Seen | str:
        try:
            sample = reader.load(index)
            size = reader.size(index)
            stored_HW = read_mask(reader.files(index)[1]) if isinstance(reader, MaskReader) else sample.labels_HW
        except UserError as error:
            return str(error)
        if size != sample.image_HW3.shape[:2] or sample.labels_HW.shape != size:
            return f"{sample.id}: image {sample.image_HW3.shape[:2]}, labels {sample.labels_HW.shape}, header {size} (height, width)"
        return _Seen("x".join(map(str, size)), _histogram(sample.labels_HW), _histogram(stored_HW))

    return looked_at(look, len(reader), workers)


def _histogram(labels_HW: np.ndarray) -> np.ndarray:
    return np.bincount(labels_HW.ravel(), minlength=256)


def _judge(report: Report, reader: SegmentationReader, counts: np.ndarray, stored: np.ndarray) -> None:
    """Faults and remarks about the split as a whole."""
    if report.expected is not None and report.samples != report.expected:
        report.faults.append(f"{report.samples} samples, expected {report.expected}")
    strays = np.flatnonzero(counts[len(reader.classes) : IGNORE]) + len(reader.classes)
    if len(strays):
        report.faults.append(f"label ids outside the {len(reader.classes)} classes: {', '.join(map(str, strays))}")
    if not sum(report.pixels.values()):
        report.faults.append("no pixel has a class")
    if len(set(reader.ids)) != len(reader.ids):
        report.faults.append("two samples have the same id")
    if absent := [name for name, pixels in report.pixels.items() if not pixels]:
        some = ", ".join(absent[:8]) + (", ..." if len(absent) > 8 else "")
        report.remarks.append(f"{len(absent)} of {len(reader.classes)} classes have no pixel: {some}")
    if isinstance(reader, MaskReader):
        _judge_zero_label(report, reader, stored)


def _judge_zero_label(report: Report, reader: MaskReader, stored: np.ndarray) -> None:
    """The zero-label rule against the ids that the label files hold: the classic way to score everything one class off."""
    if not reader.rule.reduce_zero_label:
        report.zero_label = "stored ids are the classes, 255 is ignored"
        return
    report.zero_label = "stored id 0 is ignored, the others go down by one"
    # Files to which the rule was applied before hold 255 for what was 0, and never the last id.
    if stored[IGNORE] and not stored[len(reader.classes)] and stored[0]:
        report.remarks.append(
            f"the label files hold 255 and never {len(reader.classes)}: "
            "if the zero-label rule was applied to them before, it is now applied twice"
        )


def _render(report: Report) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table(show_header=False, box=None, title=f"{report.name}, {report.split}", title_justify="left")
    expected = "" if report.expected is None else f" (expected {report.expected})"
    rows = [
        ("folder", report.root),
        ("layout", report.layout),
        ("samples", f"{report.samples}{expected}"),
        ("sizes (height x width)", _sizes(report.sizes)),
    ]
    rows += [("label rule", report.zero_label), *report.facts.items(), ("fingerprint", report.fingerprint)]
    for name, value in rows:
        if value:
            facts.add_row(name, Text("\n".join(map(printable, value.split("\n")))))
    parts: list[Any] = [facts]
    if any(report.pixels.values()):
        parts.append(_class_table(report))
    parts += [Text(printable(f"note: {remark}"), style="yellow") for remark in report.remarks]
    parts += [Text(printable(f"fault: {fault}"), style="red") for fault in report.faults[:SHOWN]]
    if len(report.faults) > SHOWN:
        parts.append(Text(f"... and {counted(len(report.faults) - SHOWN, 'more fault')}; --json lists all", style="red"))
    parts.append(Text(_count(len(report.faults)), style="bold"))
    return Group(*parts)


def _count(faults: int) -> str:
    return counted(faults, "fault") if faults else "no fault found"


def _sizes(sizes: dict[str, int]) -> str:
    common = ", ".join(f"{size} ({count})" for size, count in list(sizes.items())[:3])
    others = counted(len(sizes) - 3, "other")
    return f"{common}{f' and {others}' if len(sizes) > 3 else ''}"


def _class_table(report: Report) -> Any:
    from rich.table import Table
    from rich.text import Text

    total = sum(report.pixels.values()) + report.ignored
    table = Table("class", box=None)
    table.add_column(report.unit, justify="right")
    table.add_column("share", justify="right")
    for name, pixels in [*report.pixels.items(), ("(ignored)", report.ignored)]:
        table.add_row(Text(name), str(pixels), f"{100 * pixels / total:.2f} %")
    return table
