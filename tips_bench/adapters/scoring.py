"""Samples scored one by one, so that a killed run is taken up at the next sample.

Axes: M notes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tips_bench.adapters.base import Scores
from tips_bench.data.split import Split
from tips_bench.features.context import RunContext
from tips_bench.metrics.samples import SampleCounts
from tips_bench.progress import bar


@dataclass(frozen=True)
class Scored:
    """One sample's outcome. index: in the reader. counts: the family's own. prediction: what metrics beside them observe."""

    index: int
    sample: Any
    counts: np.ndarray
    prediction: Any = None
    notes: Sequence[int] = ()


def score_samples(
    context: RunContext,
    test: Split,
    own: SampleCounts,
    beside: dict[str, SampleCounts],
    predict: Callable[[list[int]], Iterator[Scored]],
    notes: Sequence[str] = (),
) -> Scores:
    """Fill `own` and `beside` with every sample of the split.

    predict: yields the outcomes of samples in any order, each rank those of its part. notes: names of numbers that each outcome gives,
    summed over all samples.
    """
    reader, counted = test.reader, {"counts": own} | {f"beside-{name}": counts for name, counts in beside.items()}
    arrays = {name: (counts.shape, np.dtype(counts.dtype).name) for name, counts in counted.items()}
    arrays |= {"notes": ((len(notes),), "int64")} if notes else {}
    name = "counts" if context.keep is None else "counts-of-kept"  # where an earlier try kept no predictions, they are made again
    store = context.scratch.open(name, [1] * len(test), arrays)
    place_of = {index: place for place, index in enumerate(test.indices)}
    missing = store.missing()
    with bar("scoring", len(test), own.item) as advance:
        advance(len(test) - len(missing))
        for found in predict([test.indices[place] for place in missing]):
            where = f"{reader.name}: {reader.ids[found.index]}"
            seen = {f"beside-{name}": counts.observe(found.prediction, found.sample, where=where) for name, counts in beside.items()}
            seen |= {"notes": np.array(found.notes)} if notes else {}
            if context.keep is not None:
                context.keep(reader.ids[found.index], found.prediction)
            store.write(place_of[found.index], counts=found.counts, **seen)
            advance()
    store.join()
    for place, index in enumerate(test.indices):
        for name, counts in counted.items():
            counts.update(reader.ids[index], reader.groups[index], store.read(place, name)[0])
    totals = np.array(store.arrays["notes"]).sum(0).tolist() if notes else []
    store.close()
    return Scores(own, dict(zip(notes, totals, strict=True)), beside)
