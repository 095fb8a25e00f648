"""The samples of a data set that an evaluation uses, and the parts that a fit makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from tips_bench.cards import DataCard, SelectionCard
from tips_bench.data.base import Reader, Remarked, Sourced
from tips_bench.data.completeness import Completeness, completeness
from tips_bench.data.contents import content_hashes
from tips_bench.data.validation_split import hold_out
from tips_bench.data.varied import few, varied
from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.registry import READERS

ReaderT = TypeVar("ReaderT", bound=Reader[Any])


@dataclass(frozen=True)
class Split(Generic[ReaderT]):
    """A reader, of the family's kind, and the samples of it that are used.

    size: what is on disk, beside what is published. drawn: the samples to draw first; None = by a hash of their ids.
    """

    name: str
    reader: ReaderT
    indices: list[int]
    size: Completeness | None = None
    drawn: list[int] | None = None

    @classmethod
    def open(cls, data: DataCard, root: Path, role: Literal["train", "test"], limit: int | None) -> Split[Any]:
        """The split of a role ("train", "test"), changed as the card says. limit: at most so many samples, by a hash of their ids."""
        name = data.split(role)
        reader = READERS.get(data.reader)(root, name, **data.options)
        if data.changes is not None:
            reader = varied(reader, data.changes, role)
        indices = few(reader.ids, data.changes) if role == "train" else list(range(len(reader)))
        if limit is not None and limit < len(indices):
            indices = sorted(sorted(indices, key=lambda index: digest("limit", reader.ids[index]))[:limit])
        return cls(name, reader, indices, completeness(data, name, len(reader)))

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def ids(self) -> list[str]:
        """The samples' ids, in the order of `indices`."""
        return [self.reader.ids[index] for index in self.indices]

    @property
    def groups(self) -> list[str]:
        """What each sample is resampled and held out together with, in the order of `indices`."""
        return [self.reader.groups[index] for index in self.indices]

    @property
    def fingerprint(self) -> str:
        """The reader's, or one of the chosen ids too where not all samples are used."""
        if len(self.indices) == len(self.reader):
            return self.reader.fingerprint
        return digest(self.reader.fingerprint, *self.ids)

    @cached_property
    def content_fingerprint(self) -> str | None:
        """Of what the files of the chosen samples hold, too; None where the reader does not name them. Reads files that are new."""
        if not isinstance(self.reader, Sourced):
            return None
        files = [str(file) for index in self.indices for file in self.reader.sources(index)]
        hashes = content_hashes(files)
        return digest(self.fingerprint, *(hashes[file] for file in files))

    @property
    def identity(self) -> str:
        """The best that is known of the data: what the files hold where the reader names them."""
        return self.content_fingerprint or self.fingerprint

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a record has to say of the data: the reader's own remarks, and a number of samples that is not the published one."""
        own = self.reader.remarks if isinstance(self.reader, Remarked) else ()
        return own if self.size is None or self.size.ok else (*own, self.size.sentence())

    def pick(self, number: int) -> list[int]:
        """`number` samples to draw."""
        return (self.drawn or sorted(self.indices, key=lambda index: digest("picture", self.reader.ids[index])))[:number]

    def part(self, indices: list[int]) -> Split[ReaderT]:
        """The same reader with other samples."""
        return replace(self, indices=indices)

    def validation_places(self, selection: SelectionCard) -> tuple[list[int], list[int]]:
        """(kept, held out) places in `indices` for the choice of a hyper-parameter, groups together, by a hash of their ids."""
        return hold_out(self.ids, self.groups, selection.fraction, selection.max_images)

    def validation(self, selection: SelectionCard) -> tuple[list[int], list[int]]:
        """(kept, held out) samples for the choice of a hyper-parameter, groups together, by a hash of their ids."""
        kept, held = ([self.indices[place] for place in places] for places in self.validation_places(selection))
        return kept, held


@dataclass(frozen=True)
class Splits(Generic[ReaderT]):
    """What an evaluation reads. train: None where nothing is fitted on samples."""

    train: Split[ReaderT] | None
    test: Split[ReaderT]

    @classmethod
    def open(cls, data: DataCard, root: Path, limit: int | None, *, train: bool) -> Splits[Any]:
        """train: whether samples of the training split are needed; a set that has only the scored split can be scored without.

        Errors: changes of training images where none are read.
        """
        if not train and data.changes is not None and (data.changes.few or data.changes.refit):
            fix = "Leave +few and +refit out, or choose a protocol that is fitted."
            raise UserError("the protocol reads no training images", where=f"task {data.changes.name}", fix=fix)
        return cls(Split.open(data, root, "train", limit) if train else None, Split.open(data, root, "test", limit))

    def needed(self) -> Split[ReaderT]:
        """The training split of a family that always has one."""
        if self.train is None:
            raise ValueError("these splits were opened without a training split")
        return self.train
