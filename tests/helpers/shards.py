"""Small image-text shards, written by webdataset itself."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds
from PIL import Image

from tips_bench.training.recipe import Recipe
from tips_bench.training.recipe_files import load_recipe


def picture(number: int, kind: str = "jpeg", size: tuple[int, int] = (48, 40)) -> bytes:
    """A small picture that another number does not have."""
    colors = np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colors).resize(size).save(buffer, kind)
    return buffer.getvalue()


def sample(number: int, **members: Any) -> dict[str, Any]:
    """A whole sample; members replace its own, None takes one away."""
    captions = {"web": f"web {number}", "synthetic": [f"a room {number}", f"a long account of room {number}"]}
    whole = {"__key__": f"{number:06d}", "jpg": picture(number), "json": json.dumps(captions).encode()} | members
    return {name: value for name, value in whole.items() if value is not None}


def write_shard(path: Path, samples: list[dict[str, Any]]) -> Path:
    with wds.TarWriter(str(path), encoder=False) as tar:
        for one in samples:
            tar.write(one)
    return path


def write_shards(folder: Path, counts: list[int]) -> str:
    """Shards of so many samples each, numbered throughout; their pattern."""
    first = 0
    for shard, count in enumerate(counts):
        write_shard(folder / f"train-{shard:03d}.tar", [sample(number) for number in range(first, first + count)])
        first += count
    return f"{folder}/train-{{000..{len(counts) - 1:03d}}}.tar"


def small_recipe(shards: str, *more: str) -> Recipe:
    """tips-nano at the size of a test."""
    small = ["stages.0.batch=6", "stages.0.global_px=56", "stages.0.local_px=28", "data.crops.local_count=2", "data.shuffle=8"]
    return load_recipe("tips-nano", [f"data.shards={shards}", "data.workers=0", "model.text.vocab_size=48", *small, *more])
