"""Evaluations that read the same images through the same encoder share one pass of it; those that need the same fit share its head.

What is shared of features is found by the pixels that the encoder gets, so nothing but the work changes. Which evaluations could share
is told by their cards alone, before any data are read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from tips_bench.cards import FeatureCard
from tips_bench.encoders.base import Encoder
from tips_bench.evaluation.counting import takes_crops
from tips_bench.evaluation.keeping import ROUNDED
from tips_bench.evaluation.spec import Spec
from tips_bench.features.layers import as_read, layer_indices
from tips_bench.features.memory import FeatureMemory


@dataclass(frozen=True)
class Shared:
    """folder: where features are kept, None = nowhere. cards: what all evaluations that share them read of an encoder. heads: where the
    heads of fits are kept, None = nowhere.
    """

    folder: Path | None = None
    cards: tuple[FeatureCard, ...] = ()
    heads: Path | None = None

    def memory(self, name: str, encoder: Encoder, cache_dtype: str | None, most_bytes: int | None) -> FeatureMemory | None:
        """Where features of one encoder are kept, None = nowhere. name: of its folder. cache_dtype: to what they are rounded."""
        if self.folder is None:
            return None
        kept = ROUNDED[cache_dtype] if cache_dtype else None
        return FeatureMemory(self.folder / name, encoder.dtype, encoder.spec.name, kept, most_bytes)

    def layers(self, own: FeatureCard, encoder: Encoder) -> tuple[int, ...]:
        """Those that the cards read in the same way as `own`."""
        way = attrgetter("norm", "values", "attention", "facet")
        same = [as_read(card, encoder) for card in self.cards if way(card) == way(own)]
        return tuple(sorted({layer for card in same for layer in layer_indices(card.layers, encoder)}))


def share(specs: Sequence[Spec], folder: Path | None, *, keep: bool = False) -> list[Shared | None]:
    """For each evaluation what it shares, None = nothing. folder: where features go. keep: share with later runs, too."""
    groups: dict[tuple[str, ...], list[FeatureCard]] = {}
    for spec in specs:
        groups.setdefault(images_key(spec), []).append(spec.applied.features)
    cards = [tuple(groups[images_key(spec)]) for spec in specs]
    return [Shared(folder, found) if keep or len(found) > 1 else None for found in cards]


def images_key(spec: Spec) -> tuple[str, ...]:
    """What has to be the same: the encoder, the folder of the data, and how an image is changed and brought to the encoder."""
    changes = spec.task.data.changes
    return *unchanged_images_key(spec), changes.of_images("test") if changes else "", changes.of_images("train") if changes else ""


def unchanged_images_key(spec: Spec) -> tuple[str, ...]:
    """The same, whatever the name of the task changes of the images."""
    encoder = spec.model.model_dump_json(), str(spec.weights)
    return *encoder, spec.task.data.root, spec.applied.image.model_dump_json(), spec.applied.inference.model_dump_json()


def job_key(spec: Spec) -> tuple[str, ...]:
    """What evaluations have in common that are one job: the images and the encoder; of a probe trained on random crops also the fit.

    Crops are never shared, and training on them takes far longer than all the rest. So such fits are made side by side.
    """
    return *unchanged_images_key(spec), *(fit_key(spec) if takes_crops(spec) else ())


def fit_key(spec: Spec) -> tuple[str, ...]:
    """What has to be the same, of cards and options, for two evaluations to have the same fit."""
    cards, changes = spec.cards(), spec.task.data.changes
    data = {key: value for key, value in cards["task"]["data"].items() if key not in ("changes", "splits")}
    data |= {"train": spec.task.data.splits.get("train")}
    changed = [changes.of_images("train"), changes.few, changes.few_seed] if changes else ["", None, 0]
    task = cards["task"] | {"name": changes.base if changes else spec.task.name, "title": "", "data": data}
    rest = spec.weights, spec.limit, spec.cache_dtype
    return tuple(json.dumps(part, sort_keys=True) for part in (task, changed, cards["protocol"], cards["model"], *rest))


def share_heads(specs: Sequence[Spec], sharing: Sequence[Shared | None], folder: Path) -> list[Shared | None]:
    """The same with a place for the heads of fits that several of the evaluations need."""
    needed = Counter(map(fit_key, specs))
    return [
        replace(shared or Shared(), heads=folder) if needed[fit_key(spec)] > 1 else shared
        for spec, shared in zip(specs, sharing, strict=True)
    ]
