"""Folders in Hugging Face layout: what their JSON files say of an image encoder. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError

CONFIG_FILE = "config.json"
# Files that say how an image becomes pixels; the second is the newer name.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
MAX_SIDE = 1 << 14  # pixels
_TIPS_TYPES = ("tipsv2", "tipsv2_vision_model", "tipsv2_text_model")


@dataclass(frozen=True)
class ModelConfig:
    """A config.json. model_type: transformers' name of the architecture, "" where none is given."""

    path: Path
    values: dict[str, Any]

    @property
    def model_type(self) -> str:
        return str(self.values.get("model_type", ""))

    @property
    def is_tips(self) -> bool:
        """Whether it describes TIPS: in transformers' words, or in the flat ones of google/tipsv2-*, which name a vision_fn."""
        return self.model_type in _TIPS_TYPES or "vision_fn" in self.values


def read_model_config(path: Path) -> ModelConfig:
    """Errors: no file, not JSON, not an object."""
    return ModelConfig(path, _read(path))


def read_normalization(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of RGB in [0, 1]. Errors: no file that says so."""
    for name in PROCESSOR_FILES:
        if (folder / name).is_file():
            values = _read(folder / name)
            values = values.get("image_processor", values)
            if values.get("do_normalize") is False:
                return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
            if len(values.get("image_mean") or ()) == len(values.get("image_std") or ()) == 3:
                return tuple(map(float, values["image_mean"])), tuple(map(float, values["image_std"]))
            raise UserError("image_mean and image_std are not three numbers each", where=folder / name)
    raise UserError(
        f"there is no {PROCESSOR_FILES[0]}, so the normalisation of pixels is unknown",
        where=folder,
        fix="Add the file, or write a model card.",
    )


def read_side(folder: Path) -> int | None:
    """The side in pixels of the square that a folder's processor makes of an image; None = it does not say so."""
    for name in PROCESSOR_FILES:
        if (folder / name).is_file():
            values = _read(folder / name)
            size = values.get("image_processor", values).get("size")
            sides = {size.get("height"), size.get("width")} if isinstance(size, dict) else {size}
            side = sides.pop() if len(sides) == 1 else None
            return side if type(side) is int and 0 < side <= MAX_SIDE else None
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from error
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=path) from error
    if not isinstance(values, dict):
        raise UserError(f"it holds a {type(values).__name__}, expected an object", where=path)
    return values
