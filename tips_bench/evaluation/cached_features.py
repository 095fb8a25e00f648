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
from tips_bench.encoders.weights import DTYPES
from tips_bench.errors import UserError
from tips_bench.evaluation.keeping import ROUNDED
from tips_bench.evaluation.patch_sizes import for_patches
from tips_bench.features.extract import Extractor
from tips_bench.features.memory import FeatureMemory
from tips_bench.results.record import Record
from tips_bench.results.reproduce import cache_dtype, command


class _Described(Encoder):
    """An encoder of which only the spec is known: enough to tell how many patches an image has."""

    def __init__(self, card: ModelCard, weights_sha256: str, dtype: torch.dtype) -> None:
        self.spec, self.device, self.dtype = spec_from_card(card, weights_sha256), torch.device("cpu"), dtype

    def _encode(self, pixels_B3HW: torch.Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        raise NotImplementedError("its weights are not loaded")


def load_features(record: Record, split: str = "test", *, data_root: Path | str | None = None) -> dict[str, np.ndarray]:
    """Sample id -> the patch features [h, w, D], float32, of the images that the cache holds for a record. No encoder is loaded.

    split: "test" or "train"; of the latter a probe that is trained on crops keeps no more than what a choice of hyper-parameters looked at.
    data_root: as for a run; the images are read, for they are found by their pixels. Only families whose heads make a value for each
    pixel keep such maps, and only where no window slides.
    Errors: no features of this split in the cache, with the command that makes them; no data; no such split.
    """
    task: TaskCard = parse(TaskCard, record.cards.get("task") or {}, where=f"{record.path}, cards.task")
    protocol: ProtocolCard = parse(ProtocolCard, record.cards.get("protocol") or {}, where=f"{record.path}, cards.protocol")
    model: ModelCard = parse(ModelCard, record.cards.get("model") or {}, where=f"{record.path}, cards.model")
    if split not in task.data.splits:
        raise UserError(f"there is no split {split!r}", where=f"task {task.name}", fix=f"Choose one of {', '.join(task.data.splits)}.")
    reader = Split.open(task.data, folder_of(task, data_root), split, None).reader
    applied, dtype = for_patches(protocol, model.patch_size), DTYPES[record.cost.dtype]
    rounded = cache_dtype(record.deviations)
    kept = ROUNDED[rounded] if rounded else None
    memory = FeatureMemory(cache_root() / "features" / (record.features_id or "none")[:32], dtype, kept=kept)
    described = _Described(model, record.weights_sha256, dtype)
    features = applied.features.model_copy(update={"upsampler": None})  # what the cache holds are the encoder's own
    extractor = Extractor(described, applied.image, features, batch_size=1, memory=memory)
    found: dict[str, np.ndarray] = {}
    if applied.inference.mode == "whole":
        for (index,), _, pixels_13HW in extractor.batches(reader, range(len(reader))):
            if extractor.remembers(pixels_13HW):
                found[reader.ids[index]] = extractor.encode(pixels_13HW).features_BhwD[0].float().numpy()
    memory.close()
    if not found:
        problem = f"the cache holds no features of {split!r} for {record.model_name} on {task.name} under {protocol.name}"
        raise UserError(problem, where=memory.folder, fix=f"Make them: {command(record)}{'' if kept else ' --cache'} --rerun")
    return found


def folder_of(task: TaskCard, root: Path | str | None) -> Path:
    """Where the data of a task lie that a run has read. root: as for the run."""
    usual = generated_root() if task.data.generator else data_root()
    return Path(root or usual) / task.data.root
