"""What every task family gives to an evaluation: its splits, a probe, counts and pictures.

A family is one module with one class; an entry of the registry FAMILIES names it, the class of its counts and the check of its data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tips_bench.cards import ProtocolCard, TaskCard
from tips_bench.data.split import Splits
from tips_bench.features.context import RunContext
from tips_bench.features.inference import Inference
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.panels import contact_sheet, save_png
from tips_bench.probes.base import Probe


@dataclass(frozen=True)
class Scores:
    """counts: of the scored split. notes: what scoring has to say, for the record. beside: counts of metrics beside the family's own."""

    counts: SampleCounts
    notes: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, SampleCounts] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """One sample drawn. image_HW3: uint8 RGB. save_beside: writes one more file, whose path it is given without a suffix."""

    image_HW3: np.ndarray
    save_beside: Callable[[Path], None] | None = None


class Adapter(Protocol):
    """Built from a task and a protocol card. Errors: an option that does not exist.

    needs_text: only encoders with text are taken. observed: metrics beside the family's own may count its predictions, which can be kept.
    probe: None where nothing is fitted.
    """

    needs_text: bool
    observed: bool
    probe: Probe | None

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None: ...

    def open(self, root: Path, limit: int | None) -> Splits:
        """The splits, from the folder of the task's data."""

    def score(self, context: RunContext, splits: Splits, head: Any, beside: dict[str, SampleCounts]) -> Scores:
        """Counts of every sample of the test split; what an earlier try counted is taken up from the context's scratch folder.

        head: the probe's, None without one. beside: empty counts of other metrics, to be filled from the same predictions.
        """

    def draw(self, context: RunContext, splits: Splits, head: Any, indices: list[int]) -> list[Picture]:
        """A picture of each of these samples of the test split, in this order."""


@runtime_checkable
class MapsImages(Protocol):
    """A family whose head makes a map of any image, of which nothing but the pixels is known."""

    def map_of(self, inference: Inference, head: Any, image_HW3: np.ndarray, outer: tuple[int, int]) -> np.ndarray:
        """What is predicted of one image, uint8 RGB, as a sample's prediction is kept. outer: (height, width) of the map in pixels."""


def save_pictures(pictures: list[Picture], stem: Path, titles: Sequence[str]) -> list[str]:
    """Write each picture beside `stem`, and a sheet of all; returns the names of the PNG files, the sheet first.

    titles: of each picture, what its file's name says after its number.
    """
    panels = [picture.image_HW3 for picture in pictures]
    names = [f"{stem.name}-sheet.png", *(f"{stem.name}-{position}-{title}.png" for position, title in enumerate(titles, 1))]
    for name, panel in zip(names, [contact_sheet(panels), *panels], strict=True):
        save_png(panel, stem.with_name(name))
    for name, picture in zip(names[1:], pictures, strict=True):
        if picture.save_beside is not None:
            picture.save_beside(stem.with_name(name.removesuffix(".png")))
    return names
