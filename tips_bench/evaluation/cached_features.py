"""Features of a split, as an evaluation with --cache left them on disk.

record = tips_bench.run("rooms-seg", "tips-nano", cache=True)
features = tips_bench.load_features(record)         # id -> [h, w, D]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tips_bench.cards import ModelCard, ProtocolCard, TaskCard, parse
from tips_bench.catalog import cache_root, data_root, generated_root
from tips_bench.data.split import Split
from tips_bench.encoders.base import Encoder, ImageFeatures, spec_from_card
from tips_bench.errors import UserError
from tips_bench.features.cache import FeatureCache, from_disk
from tips_bench.features.extract import Extractor
from tips_bench.features.store import read_items
from tips_bench.results.record import Record
from tips_bench.results.reproduce import command


class _Described(Encoder):
    """An encoder of which only the spec is known: enough to tell how many patches an image has."""

    def __init__(self, card: ModelCard, weights_sha256: str) -> None:
        self.spec, self.device, self.dtype = spec_from_card(card, weights_sha256), torch.device("cpu"), torch.float32

    def _encode(self, pixels_B3HW: torch.Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        raise NotImplementedError("its weights are not loaded")


def load_features(record: Record, split: str = "test", *, data_root: Path | str | None = None) -> dict[str, np.ndarray]:
    """Sample id -> the patch features [h, w, D], float32, of the images that the cache holds for a record. No encoder is loaded.

    split: "test" or "train"; of the latter the cache holds no more than what a choice of hyper-parameters looked at. data_root: as for a
    run; the images are looked at for their sizes. Families whose heads make a value a pixel keep such maps, where no window slides.
    Errors: no features of this split in the cache, with the command that makes them; no data; no such split.
    """
    task: TaskCard = parse(TaskCard, record.cards.get("task") or {}, where=f"{record.path}, cards.task")
    protocol: ProtocolCard = parse(ProtocolCard, record.cards.get("protocol") or {}, where=f"{record.path}, cards.protocol")
    model: ModelCard = parse(ModelCard, record.cards.get("model") or {}, where=f"{record.path}, cards.model")
    if split not in task.data.splits:
        raise UserError(f"there is no split {split!r}", where=f"task {task.name}", fix=f"Choose one of {', '.join(task.data.splits)}.")
    reader = Split.open(task.data, _data_folder(task, data_root), split, None).reader
    cache = FeatureCache(cache_root() / "features", record.features_id or "none")
    items = read_items(cache.place("whole", reader.split), "features")
    if not items:
        problem = f"the cache holds no features of {split!r} for {record.model_name} on {task.name} under {protocol.name}"
        raise UserError(problem, where=cache.folder, fix=f"Make them: {command(record)} --cache --rerun")
    extractor = Extractor(_Described(model, record.weights_sha256), protocol.image, protocol.features)
    return {
        reader.ids[item]: from_disk(np.array(rows_PD)).float().numpy().reshape(*extractor.grid(*reader.size(item)), -1)
        for item, rows_PD in items.items()
    }


def _data_folder(task: TaskCard, root: Path | str | None) -> Path:
    usual = generated_root() if task.data.generator else data_root()
    return Path(root or usual) / task.data.root
