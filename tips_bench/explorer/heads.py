"""Heads that were fitted by runs (`run --keep-head`), and their maps of photos.

A head sees a photo as its own protocol says: its size, its layers, its windows. The sliders of the page change nothing of that.

Axes: H W cells of a map, T values of a cell; 3: x y z of a normal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench.cards import ModelCard
from tips_bench.data.images import thumbnail_shape
from tips_bench.encoders.base import Encoder
from tips_bench.errors import UserError
from tips_bench.evaluation.again import spec_of
from tips_bench.evaluation.fitted_head import FittedHead, is_its_encoder, load_head, no_maps
from tips_bench.results.folders import read_records
from tips_bench.results.kept_head import kept_head
from tips_bench.results.record import Record, load_record
from tips_bench.wording import counted

MAP_SIDE = 448  # longer side of a map, in cells
KINDS = ("segmentation", "depth", "normals")  # task families whose maps the page can draw


@dataclass(frozen=True)
class ShownHead:
    """A head on the page. model: the encoder's name there. view: what its choice is called."""

    model: str
    view: str
    head: FittedHead

    def __call__(self, image_HW3: np.ndarray) -> np.ndarray:
        """Class indices [H,W], or values [T,H,W], of a photo."""
        height, width = image_HW3.shape[:2]
        return self.head(image_HW3, thumbnail_shape(height, width, MAP_SIDE))

    def described(self) -> dict[str, Any]:
        """What the page says of it, as plain data."""
        record = self.head.record
        return {
            "model": self.model,
            "view": self.view,
            "kind": record.family,
            "classes": self.head.classes,
            "said": _sentence(record),
        }


def records_with_heads(paths: Sequence[Path]) -> list[Record]:
    """The records in files, and those in folders that have a head. Errors: a record without one, a folder without such a record."""
    found: dict[Path, Record] = {}
    for path in paths:
        records, broken = read_records(path, load_record)
        if broken:
            raise broken[0]
        if path.is_dir():
            records = [record for record in records if record.head_sha256 is not None]
            if not records:
                raise UserError("no record there has a fitted head", where=path, fix="Make one: tips-bench run ... --keep-head")
        found |= {record.file.resolve(): record for record in records}
    for record in found.values():
        kept_head(record)
    return list(found.values())


def encoders_of(records: Sequence[Record], weights: str | None) -> list[tuple[ModelCard, str | None]]:
    """The card and the weights to load of every encoder of the records.

    weights: the file that records name, where they name one. Errors: it is named and not given, or given and not named.
    """
    found: dict[tuple[str, str], tuple[ModelCard, str | None]] = {}
    needed = [record.weights is not None and not record.weights.startswith("random") for record in records]
    for record, needs in zip(records, needed, strict=True):
        spec = spec_of(record, weights if needs or not any(needed) else None)
        found[record.model, record.weights_sha256] = spec.model, spec.weights
    return list(found.values())


def shown_heads(records: Sequence[Record], encoders: dict[str, Encoder]) -> list[ShownHead]:
    """The heads, each with its encoder. encoders: those of the page, by name.

    Errors: another encoder than the page's, a head that makes no map of an image, two heads of one encoder for the same choice.
    """
    protocols: dict[str, set[str]] = {}
    for record in records:
        protocols.setdefault(record.task, set()).add(record.protocol)
    shown = []
    for record in records:
        model = next((name for name, encoder in encoders.items() if is_its_encoder(record, encoder)), None)
        if model is None:
            problem = f"the head was fitted on features of {record.model_name}, and the page shows {' and '.join(encoders)}"
            raise UserError(problem, where=record.file, fix=f"Add --model {record.model}, or leave --model out.")
        head = load_head(record, encoder=encoders[model])
        if not head.makes_maps or record.family not in KINDS:
            raise no_maps(record)
        view = record.task if len(protocols[record.task]) == 1 else f"{record.task}, {record.protocol}"
        shown.append(ShownHead(model, view, head))
    for (model, view), number in Counter((one.model, one.view) for one in shown).items():
        if number > 1:
            fix = "Give one of their records, not the folder."
            raise UserError(f"{counted(number, 'head')} for {view} on features of {model}", where="--head", fix=fix)
    return shown


def _sentence(record: Record) -> str:
    metric = record.primary_metric
    interval = f" [{metric.ci95[0]:.3g}, {metric.ci95[1]:.3g}]" if metric.ci95 else ""
    score = f"{record.primary} {metric.value:.3g} {metric.unit}".rstrip() + interval
    return f"Fitted under {record.protocol}: {score} on {counted(metric.n, 'image')} of {record.task}."
