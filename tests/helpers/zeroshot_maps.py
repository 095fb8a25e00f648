"""Zero-shot segmentation of a few images, with the scores of every class beside the prediction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tips_bench.adapters.zeroshot_segmentation import ZeroShotAdapter
from tips_bench.cards import ProtocolCard, TaskCard, load_card
from tips_bench.encoders.base import Encoder
from tips_bench.features.cache import FeatureCache
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor
from tips_bench.features.geometry import Windows
from tips_bench.probes.training_free.class_names import score_rows

TASK = {
    "name": "toy", "family": "zeroshot-segmentation", "title": "x", "version": 1, "protocol": "maskclip", "protocols": ["maskclip"],
    "data": {"reader": "folder", "root": ".", "splits": {"test": "val"}}, "primary": "mIoU", "license": "x", "citation": "x",
    "homepage": "x", "how_to_get": "x",
}  # fmt: skip


def zero_shot_task(root: Path, classes: Sequence[str], images: Sequence[np.ndarray]) -> TaskCard:
    """Writes images as a folder of PNG files, with labels of the same sizes, and gives the task of their classes."""
    for name in ("images", "labels"):
        (root / name / "val").mkdir(parents=True)
    for number, image_HW3 in enumerate(images):
        Image.fromarray(image_HW3).save(root / f"images/val/{number}.png")
        Image.fromarray(np.zeros(image_HW3.shape[:2], np.uint8)).save(root / f"labels/val/{number}.png")
    palette = [[1, 2, number] for number in range(len(classes))]
    (root / "classes.json").write_text(json.dumps({"classes": list(classes), "palette": palette}))
    return TaskCard.model_validate(TASK | {"options": {"names": {name: name for name in classes}}})


def score_maps(adapter: ZeroShotAdapter, context: RunContext, reader: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scores [C,H,W], prediction [H,W]) of each image: the prediction as a run has it, the scores from the same features."""
    extractor, head = context.inference.extractor, adapter._text_head(context)
    for found in adapter._predict(context, reader, list(range(len(reader))), None):
        windows = Windows.of(extractor.inner_size(*found.sample.image_HW3.shape[:2]), context.inference.window)
        padding = extractor.padding(*windows.size)
        rows = score_rows(adapter.class_scores(head, found.features_NhwD), adapter.options, windows, padding, found.sample.labels_HW.shape)
        yield torch.cat(list(rows), 1).cpu().numpy(), found.predicted_SHW[0]


def context_of(encoder: Encoder, protocol: ProtocolCard, scratch: FeatureCache) -> RunContext:
    """The context of a run of an encoder that has no card."""
    extractor = Extractor(encoder, protocol.image, protocol.features, batch_size=4, workers=1)
    return RunContext(extractor, protocol, load_card("model", "tips-nano"), scratch, scratch, 0)
