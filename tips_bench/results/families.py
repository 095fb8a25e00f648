"""The counts of a record's task family."""

from __future__ import annotations

from tips_bench.metrics.samples import SampleCounts
from tips_bench.registry import FAMILIES
from tips_bench.results.record import Record


def family_of(record: Record, *, where: object = None) -> type[SampleCounts]:
    """The class of a record's counts. Errors: a family that this version, with its plugins, does not know."""
    return FAMILIES.get(record.family, where=where).counts_class()
