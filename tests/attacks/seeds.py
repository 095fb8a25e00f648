"""What is attacked: small real forms of all that the suite reads, made once a process and copied for each case."""

from __future__ import annotations

import atexit
import functools
import io
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.contract.test_encoders import make_folder
from tests.helpers.toy_tips import write_toy
from tests.integration.conftest import SHAPES, write_shapes
from tips_bench.models.files.checkpoints import load_vision, save_checkpoint, tensors_of
from tips_bench.models.files.formats import TORCH_VISION

SMALL = ["--set", "image.short_side=84", "--set", "probe.max_patches=600"]
HOME = Path(tempfile.mkdtemp(prefix="attack-seeds-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)


def run_shapes(folder: Path, *arguments: str, model: str = "pixels") -> list[str]:
    """The arguments of a run on the shapes, whose data and card are put into the folder."""
    shutil.copytree(shapes_folder(), folder / "data" / "shapes")
    write_card(folder, "task", SHAPES)
    return ["run", "--task", "shapes", "--model", model, "--out", "out", "--workers", "0", *SMALL, *arguments]


@functools.cache
def shapes_folder() -> Path:
    """Four images to fit on and three to score, as a folder of images and labels."""
    write_shapes(HOME / "shapes", train=4, val=3)
    return HOME / "shapes"


def write_card(folder: Path, kind: str, card: Any, name: str | None = None) -> Path:
    """One of the user's own cards: a mapping, or the text of a file."""
    place = {"task": "tasks", "protocol": "tasks/protocols", "model": "model_zoo"}[kind]
    path = folder / "tips-bench-cards" / place / f"{name or card['name']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(card, bytes):
        path.write_bytes(card)
    else:
        text = card if isinstance(card, str) else yaml.safe_dump(card, sort_keys=False)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return path


TOY: dict[str, Any] = {
    "name": "toy",
    "title": "A small tower",
    "source": "tips",
    "architecture": {"vision": {"embed_dim": 48, "depth": 3, "num_heads": 4, "mlp_dim": 96, "position_grid": [4, 4]}},
    "patch_size": 14,
    "embed_dim": 48,
    "depth": 3,
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
    "resolution": 56,
    "global_tokens": 2,
    "license": "none",
    "citation": "none",
    "homepage": "none",
}


@functools.cache
def tips_folder() -> Path:
    """A small TIPS model of both towers with its config.json and tokenizer, in Hugging Face layout."""
    return write_toy(HOME / "tips")


@functools.cache
def tips_tensors() -> dict[str, np.ndarray]:
    """The image tower of that model under its official names."""
    tower = load_vision(tips_folder())
    return {name: tensor.numpy() for name, tensor in tensors_of(tower, TORCH_VISION, "").items()}


@functools.cache
def tips_npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, **tips_tensors())  # type: ignore[arg-type]
    return file.getvalue()


@functools.cache
def tips_safetensors() -> bytes:
    save_checkpoint(HOME / "own.safetensors", vision=load_vision(tips_folder()))
    return (HOME / "own.safetensors").read_bytes()


def npz_with(**members: bytes) -> bytes:
    """The image tower as an .npz in which some members hold other bytes, with right check sums."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in tips_tensors().items():
            archive.writestr(f"{name}.npy", members.get(name) or npy(array))
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array))
    return file.getvalue()


@functools.cache
def transformers_folder(family: str) -> Path:
    """A small model of transformers with random weights, as a repository holds it."""
    return make_folder(family, HOME / family)
