"""Per-sample counts, or sums where a metric measures: what all metrics are computed from, by sample id, so that order never matters.

Axes: N samples, sorted by id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from tips_bench.errors import UserError
from tips_bench.files import atomic
from tips_bench.metrics.spec import MetricSpec
from tips_bench.npz import BROKEN


class SampleCounts:
    """id -> (group, counts) with update / merge / save / load; a metric adds `check`, `summary` and the specs of what it computes.

    shape: of one sample's counts. dtype: int64, so that no sum drifts, or float64 where a metric measures; summed in the order of
    ids. group: what is resampled together where samples are not independent (a scene, a video). item: what one sample is, in the plural.
    per_class: metric -> (name of its per-class score, summed counts ... -> values of shape ...C), for metrics that are means over classes.
    confusion: whether counts are [C, C], how many of each labeled class were predicted as each class.

    A metric that is scored beside a family's own (registry METRICS) names in `families` those whose predictions its `observe` counts.
    """

    dtype: ClassVar[type] = np.int64
    specs: ClassVar[dict[str, MetricSpec]] = {}
    per_class_specs: ClassVar[dict[str, MetricSpec]] = {}
    per_class: ClassVar[Mapping[str, tuple[str, Callable[[np.ndarray], Any]]]] = {}
    confusion: ClassVar[bool] = False
    item: ClassVar[str] = "images"
    families: ClassVar[tuple[str, ...]] = ()

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._samples: dict[str, tuple[str, np.ndarray]] = {}

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> Self:
        """No samples yet, for a data set with these classes."""
        raise NotImplementedError

    @classmethod
    def of_record(cls, record: Any) -> Self:
        """No samples yet, of the shape that a record's counts have (tips_bench.results.record)."""
        return cls.for_classes(record.dataset.classes)

    def observe(self, prediction: Any, sample: Any, *, where: object) -> np.ndarray:
        """The counts of one sample from what its family predicts of it; for metrics with `families`."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._samples)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        mine, theirs = self.counts_N, other.counts_N
        return self.ids == other.ids and self.groups == other.groups and np.array_equal(mine, theirs)

    __hash__ = None  # type: ignore[assignment]

    @property
    def ids(self) -> list[str]:
        """Sample ids, sorted."""
        return sorted(self._samples)

    @property
    def groups(self) -> list[str]:
        """The samples' groups, in the order of `ids`."""
        return [self._samples[id][0] for id in self.ids]

    @property
    def counts_N(self) -> np.ndarray:
        """The samples' counts, `dtype` of shape (N, *shape), in the order of `ids`."""
        return np.stack([self._samples[id][1] for id in self.ids]) if self._samples else np.zeros((0, *self.shape), dtype=self.dtype)

    @staticmethod
    def summary(counts: np.ndarray, /) -> dict[str, np.ndarray]:
        """The data set's metrics in their units, shape ..., for summed counts of shape (..., *shape)."""
        return {}

    def compute(self) -> dict[str, float | np.ndarray]:
        """Every metric of all samples together, and the values of each class."""
        return {name: float(value) for name, value in self.summary(self.total()).items()}

    def check(self, counts: np.ndarray, *, where: object) -> None:
        """Refuse counts that no sample can have. Errors: as the metric says."""

    def update(self, id: str, group: str, counts: np.ndarray) -> None:
        """Add one sample. Errors: an id that is there already, counts of another shape, not integer, negative or contradictory."""
        self._refuse_known([id])
        self._samples[id] = (group, self._checked(counts, where=f"sample {id!r}"))

    def merge(self, other: Self) -> None:
        """Add the samples of another shard. Errors: counts of another shape, a sample that both hold; nothing is added then."""
        if self.shape != other.shape:
            raise UserError(f"counts of shape {other.shape} do not add to counts of shape {self.shape}", fix="Merge shards of one run.")
        self._refuse_known(other.ids)
        self._samples.update(other._samples)

    def total(self) -> np.ndarray:
        """The sum over samples, `dtype` of `shape`."""
        return self.counts_N.sum(axis=0)

    def save(self, path: Path) -> None:
        """Write ids, groups and counts as a compressed .npz without pickles, atomically; the same samples give the same bytes."""
        save_counts(path, self, {})

    def arrays(self) -> dict[str, np.ndarray]:
        """Ids, groups and counts as they are saved."""
        counts_N = self.counts_N
        narrow = np.uint32 if self.dtype is np.int64 and counts_N.max(initial=0) <= np.iinfo(np.uint32).max else self.dtype
        return {"ids": _text(self.ids), "groups": _text(self.groups), "counts": counts_N.astype(narrow)}

    def read(self, path: Path, metric: str | None = None) -> Self:
        """Add the samples of a saved file, and return self; all of them or, after an error, none.

        metric: the name of a metric beside the family's own, None = the family's own counts.
        Errors: no such file, not such a file, counts of another metric, a sample that is there already.
        """
        prefix = "" if metric is None else f"{metric}/"
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                ids, groups, counts_N = (data[f"{prefix}{name}"] for name in ("ids", "groups", "counts"))
        except OSError as error:
            raise UserError(f"cannot read: {error.strerror or error}", where=path) from error
        except BROKEN as error:
            raise UserError("not a file of per-sample counts, or a broken one", where=path, fix="Run the task again.") from error
        fits = ids.shape == groups.shape == counts_N.shape[:1] and ids.dtype.kind == groups.dtype.kind == "U"
        if not fits or counts_N.shape[1:] != self.shape:
            problem = f"holds counts of shape {counts_N.shape[1:]} for {ids.shape} ids, not of shape {self.shape}"
            raise UserError(problem, where=path, fix="Does it belong to this record?")
        self._refuse_known(ids.tolist(), where=path)
        found: dict[str, tuple[str, np.ndarray]] = {}
        for id, group, counts in zip(ids.tolist(), groups.tolist(), counts_N, strict=True):
            found[id] = (group, self._checked(counts, where=f"{path}: sample {id!r}"))
        if len(found) < len(ids):
            raise UserError("a sample is there twice", where=path, fix="Run the task again.")
        self._samples.update(found)
        return self

    def _checked(self, counts: np.ndarray, *, where: object) -> np.ndarray:
        kinds, wanted = ("ui", "integers") if self.dtype is np.int64 else ("uif", "numbers")
        if counts.shape != self.shape or counts.dtype.kind not in kinds:
            raise UserError(f"counts of shape {counts.shape} and type {counts.dtype}, not {wanted} of shape {self.shape}", where=where)
        counts = counts.astype(self.dtype)
        if self.dtype is np.int64 and counts.min(initial=0) < 0:
            raise UserError(f"a count of {counts.min()}", where=where, fix="Counts are 0 or more.")
        if not np.isfinite(counts).all():
            raise UserError("a sum that is not finite", where=where, fix="Check the predictions for NaN.")
        self.check(counts, where=where)
        return counts

    def _refuse_known(self, ids: list[str], *, where: object = None) -> None:
        known = sorted(self._samples.keys() & set(ids))
        if known:
            more = f" and {len(known) - 1} more" if len(known) > 1 else ""
            raise UserError(f"sample {known[0]!r}{more} would be counted twice", where=where, fix="Give each sample its own id.")


def save_counts(path: Path, own: SampleCounts, beside: Mapping[str, SampleCounts]) -> None:
    """Write a family's own counts, and those of metrics beside them under their names, into one compressed .npz, atomically."""
    arrays = own.arrays()
    arrays |= {f"{metric}/{name}": array for metric, counts in beside.items() for name, array in counts.arrays().items()}
    with atomic(path, durable=True) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where `whole`, a number of images or pixels, is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0.5)


def _text(names: list[str]) -> np.ndarray:
    return np.array(names, dtype=str)
