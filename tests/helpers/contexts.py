"""What a probe is fitted on: a context and a split, without a command line around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tips_bench.cards import SelectionCard, WindowCard, load_card
from tips_bench.data.split import Split
from tips_bench.features.cache import FeatureCache
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor


class Fitting(NamedTuple):
    """`probe.fit(*fitting)`."""

    context: RunContext
    train: Split

    @property
    def extractor(self) -> Extractor:
        return self.context.extractor

    @property
    def reader(self) -> Any:
        return self.train.reader

    @property
    def indices(self) -> list[int]:
        return self.train.indices


def fitting(
    extractor: Any,
    reader: Any,
    folder: Path,
    *,
    indices: list[int] | None = None,
    window: WindowCard | None = None,
    selection: SelectionCard | None = None,
    seed: int = 0,
) -> Fitting:
    """On all of the reader's samples, with a quarter held out where something is chosen."""
    changes = {"inference": window or WindowCard(), "selection": selection or SelectionCard(fraction=0.25)}
    protocol = load_card("protocol", "convex").model_copy(update=changes)
    scratch = FeatureCache(folder)
    context = RunContext(extractor, protocol, load_card("model", "tips-nano"), scratch, scratch, seed)
    return Fitting(context, Split("train", reader, list(range(len(reader))) if indices is None else indices))
