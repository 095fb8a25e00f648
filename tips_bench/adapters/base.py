"""What every task family gives to a run: splits, a fit, counts and pictures.

A family is one module with one class, registered in ADAPTERS under the family's name. Its counts are a SampleCounts whose class says
which metrics they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tips_bench.cards import DataCard, ProtocolCard, TaskCard
from tips_bench.data.base import Remarked
from tips_bench.features.cache import FeatureCache
from tips_bench.features.inference import Inference
from tips_bench.files import digest
from tips_bench.metrics.samples import SampleCounts
from tips_bench.probes.base import Fit, FitContext, Head
from tips_bench.registry import READERS


@dataclass(frozen=True)
class Split:
    """A reader and the samples of it that are used. The reader has name, ids, groups, fingerprint, classes (may be empty) and a length."""

    name: str
    reader: Any
    indices: list[int]

    @classmethod
    def open(cls, data: DataCard, root: Path, role: str, limit: int | None) -> Split:
        """The split of a role ("train", "test"). limit: at most so many samples, by a hash of their ids."""
        name = data.splits[role]  # type: ignore[index]
        reader = READERS.get(data.reader)(root, name, **data.options)
        indices = list(range(len(reader)))
        if limit is not None and limit < len(indices):
            indices = sorted(sorted(indices, key=lambda index: digest("limit", reader.ids[index]))[:limit])
        return cls(name, reader, indices)

    @property
    def fingerprint(self) -> str:
        """The reader's, or one of the chosen ids too where not all samples are used."""
        if len(self.indices) == len(self.reader):
            return self.reader.fingerprint
        return digest(self.reader.fingerprint, *(self.reader.ids[index] for index in self.indices))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the reader has to say of its data."""
        return self.reader.remarks if isinstance(self.reader, Remarked) else ()

    def pick(self, number: int) -> list[int]:
        """`number` samples to draw, by a hash of their ids."""
        return sorted(self.indices, key=lambda index: digest("picture", self.reader.ids[index]))[:number]


def open_splits(data: DataCard, root: Path, limit: int | None, *, train: bool) -> tuple[Split | None, Split]:
    """(train, test). train: whether something is fitted; a set of which only the scored split is there can then be scored without."""
    return Split.open(data, root, "train", limit) if train else None, Split.open(data, root, "test", limit)


class Adapter(Protocol):
    """Built from a task and a protocol card. needs_text: only encoders with text are taken. Errors: an option that does not exist."""

    needs_text: bool

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None: ...

    def open(self, root: Path, limit: int | None) -> tuple[Split | None, Split]:
        """(train, test) from the folder of the task's data; no train split where nothing is fitted."""

    def fit(self, context: FitContext) -> Fit:
        """The probe's fit on the training split; not asked for without one."""

    def load_head(self, path: Path) -> Head:
        """The head that an earlier try of this fit saved."""

    def score(self, inference: Inference, test: Split, fit: Fit, work: FeatureCache) -> SampleCounts:
        """Counts of every sample of the test split; what an earlier try counted is taken up from `work`."""

    def draw(self, inference: Inference, test: Split, fit: Fit, number: int, stem: Path) -> list[str]:
        """Pictures of `number` samples beside `stem`, and a sheet of all; returns their file names."""
