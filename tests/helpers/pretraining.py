"""A pretraining run small enough for a test: shards of coloured noise whose captions name the colour, and a recipe."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tips_bench.ranks import World
from tips_bench.training.batches import Batch, Texts
from tips_bench.training.recipe import Recipe, StagePart

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "yellow": (230, 220, 40), "black": (10, 10, 10)}
ALONE = World(0, 1, "cpu")
PATCHES = 16  # of a global crop


def write_shards(folder: Path, shards: int = 2, samples: int = 40) -> str:
    """Tar files of images in one colour and noise; gives the pattern that names them."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        with tarfile.open(folder / f"train-{shard:03d}.tar", "w") as tar:
            for sample in range(samples):
                name, color = list(COLORS.items())[rng.integers(len(COLORS))]
                pixels = np.clip(rng.normal(color, 25, (48, 48, 3)), 0, 255).astype(np.uint8)
                image = io.BytesIO()
                Image.fromarray(pixels).save(image, "png")
                text = {"web": f"{name} stuff {rng.integers(9)}", "synthetic": [f"a {name} picture with noise", f"noise that is {name}"]}
                _add(tar, f"{shard:03d}{sample:04d}.png", image.getvalue())
                _add(tar, f"{shard:03d}{sample:04d}.json", json.dumps(text).encode())
    return str(folder / f"train-{{000..{shards - 1:03d}}}.tar")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def values(shards: str = "none.tar", steps: int = 20, **changes: Any) -> dict[str, Any]:
    """A recipe as plain data; changes: dotted keys, with __ for the dot."""
    head = {"prototypes": 64, "layers": 3, "hidden_dim": 32, "bottleneck_dim": 16}
    sharpening = {"student": 0.1, "teacher": 0.07, "teacher_start": 0.04, "teacher_warmup": 0.3, "center_momentum": 0.9}
    tower = {"name": "tiny", "embed_dim": 32, "num_heads": 2, "mlp_dim": 64}
    crops = {"local_count": 2, "global_scale": [0.4, 1.0], "local_scale": [0.1, 0.4], "ratio": [0.75, 1.33], "flip": 0.5}
    stage = {"steps": steps, "learning_rate": 1e-3, "final_learning_rate": 1e-5, "warmup": 3}
    data: dict[str, Any] = {
        "name": "tiny",
        "title": "A run for tests",
        "seed": 0,
        "data": {"shards": shards, "shuffle": 16, "workers": 0, "max_tokens": 16, "tokenizer": {"train_on": 200}},
        "model": {
            "vision": {**tower, "depth": 2, "patch_size": 14, "position_grid": [4, 4], "num_global_tokens": 2},
            "text": {**tower, "depth": 1, "vocab_size": 40},
        },
        "method": {
            "contrastive": {"weight": 1.0, "captions": [["web"], ["synthetic"]], "synthetic": "uniform", "temperature": 0.07, "chunk": 3},
            "self_distillation": {"weight": 1.0, "token": 0, "head": {**head}, "sharpening": {**sharpening}},
            "patches": {"weight": 2.0, "mask": {"ratio": 0.75}, "patches": "all", "head": {**head}, "sharpening": {**sharpening}},
            "teacher": {"kind": "ema-heads", "momentum": [0.99, 1.0]},
        },
        "optimizer": {"rule": {"type": "adamw", "betas": [0.9, 0.999], "eps": 1e-8}, "weight_decay": [0.04, 0.4], "clip_norm": 3.0},
        "stages": [{"name": "only", "batch": 8, "global_px": 56, "local_px": 28, **stage}],
        "running": {"log_every": 1, "checkpoint_every": 5},
        "sources": {},
    }
    data["data"]["crops"] = {**crops, "interpolation": "bilinear"}
    for key, value in changes.items():
        *parents, last = key.split("__")
        node: Any = data
        for part in parents:
            node = node[int(part) if isinstance(node, list) else part]
        node[last] = value
    return data


def recipe(shards: str = "none.tar", steps: int = 20, **changes: Any) -> Recipe:
    """As `values`, checked."""
    return Recipe.model_validate(values(shards, steps, **changes))


def write_recipe(path: Path, shards: str, steps: int = 20, **changes: Any) -> Path:
    """As `values`, in a file."""
    path.write_text(json.dumps(values(shards, steps, **changes, name=path.stem)))
    return path


def random_batch(images: int = 8, seed: int = 0, *, masked: bool = True, table: int = 0, shortest: int = 7) -> Batch:
    """A batch of noise, as the recipe's data would give it.

    table: side of the table of positions whose windows the crops take, if any. shortest: tokens of the shortest of the texts, of 7 at most.
    """
    generator = torch.Generator().manual_seed(seed)
    order_BP = torch.rand(images, PATCHES, generator=generator).argsort(dim=1)
    return Batch(
        torch.rand(images, 3, 56, 56, generator=generator),
        [torch.rand(images, 3, 28, 28, generator=generator) for _ in range(2)],
        [_texts(images, shortest, generator) for _ in range(2)],
        order_BP < 12 if masked else None,
        torch.arange(images),
        [torch.randint(table - side + 1, (images, 2), generator=generator) for side in (4, 2, 2)] if table else [],
    )


def full_batch(recipe: Recipe, stage: StagePart) -> Batch:
    """A whole batch of a stage, black images with captions as long as they may be, for one process."""
    images, length, grid = stage.batch, recipe.data.max_tokens, stage.global_px // recipe.model.vision_config.patch_size
    generator = torch.Generator().manual_seed(0)
    mask = recipe.method.patches.mask if recipe.method.patches else None
    order_BP = torch.rand(images, grid * grid, generator=generator).argsort(dim=1)
    kinds = len(recipe.method.contrastive.captions) if recipe.method.contrastive else 0
    return Batch(
        torch.zeros(images, 3, stage.global_px, stage.global_px, dtype=torch.uint8),
        [torch.zeros(images, 3, stage.local_px, stage.local_px, dtype=torch.uint8) for _ in range(recipe.local_count)],
        [Texts(torch.ones(images, length, dtype=torch.int64), torch.zeros(images, length, dtype=torch.int64)) for _ in range(kinds)],
        None if mask is None else order_BP < round(mask.ratio * grid * grid),
        torch.arange(images),
    )


def _texts(count: int, shortest: int, generator: torch.Generator) -> Texts:
    """Texts of `shortest` to 7 tokens, in no order."""
    lengths_B = shortest + torch.arange(count) * 5 % (8 - shortest)
    paddings_BL = (torch.arange(7) >= lengths_B[:, None]).long()
    return Texts(torch.randint(1, 40, (count, 7), generator=generator) * (1 - paddings_BL), paddings_BL)


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some images of a batch."""
    return Batch(
        batch.global_B3HW[rows],
        [crop[rows] for crop in batch.locals],
        [Texts(part.ids_BL[rows], part.paddings_BL[rows]) for part in batch.texts],
        None if batch.mask_BP is None else batch.mask_BP[rows],
        batch.samples_B[rows],
        [window_B2[rows] for window_B2 in batch.windows],
    )
