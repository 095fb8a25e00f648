"""Towers from files and back: official PyTorch and Flax .npz, Hugging Face and our own .safetensors.

Nothing is loaded by halves: a file's names and shapes are compared with the tower before the first tensor is read, and a tensor that is
missing, left over, of another shape or not finite is an error. Formats are told by the names in the file (see `models.formats`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from tips_bench.errors import UserError
from tips_bench.files import atomic, write_text
from tips_bench.models.configs import Config, Kind, TextConfig, VisionConfig
from tips_bench.models.files import huggingface
from tips_bench.models.files.formats import OWN_TEXT, TEMPERATURE_KEYS, TORCH_TEXT, TORCH_VISION, Naming
from tips_bench.models.files.inspection import NOUN, Layout, check, find_layout, own_metadata, resolve_config
from tips_bench.models.files.weight_files import SINGLE_FILE, WeightFile, open_weights
from tips_bench.models.text import TextTower
from tips_bench.models.vision import VisionTower

Tower = VisionTower | TextTower

_TOWERS: dict[Kind, type[VisionTower] | type[TextTower]] = {"vision": VisionTower, "text": TextTower}


def load_vision(
    path: Path | str | None,
    config: VisionConfig | None = None,
    *,
    seed: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VisionTower:
    """An image tower in evaluation mode without gradients.

    path: a file, or a folder in Hugging Face layout; None = random weights of `seed`. config: what the file must hold; None = what the
    file, or the config.json beside it, says.
    Errors: the wrong kind of file, or any tensor that does not fit. Never a pickle.
    """
    return _load("vision", path, config, seed, device, dtype)


def load_text(
    path: Path | str | None,
    config: TextConfig | None = None,
    *,
    seed: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TextTower:
    """A text tower, with its temperature where the file states one. As `load_vision`."""
    return _load("text", path, config, seed, device, dtype)


def save_checkpoint(path: Path | str, *, vision: VisionTower | None = None, text: TextTower | None = None) -> None:
    """One .safetensors file of our own format, whole or not at all: "vision." and "text." names, the configs in its metadata."""
    tensors: dict[str, Tensor] = {}
    configs: dict[Kind, Config] = {}
    if vision is not None:
        tensors |= tensors_of(vision, TORCH_VISION, "vision.")
        configs["vision"] = vision.config
    if text is not None:
        tensors |= tensors_of(text, OWN_TEXT, "text.") | _temperature_tensor(text)
        configs["text"] = text.config
    _write(Path(path), tensors, own_metadata(configs))


def export_huggingface(
    folder: Path | str, vision: VisionTower, text: TextTower, *, resolution: int | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """A folder that transformers' Tipsv2Model.from_pretrained loads, with the settings of its image processor.

    resolution: pixels of the side to which that processor resizes; None = that of the position grid. dtype: of the stored weights.
    Errors: a shape that Tipsv2Config cannot state (towers of different widths, a position grid that is not square, ...).
    """
    folder = Path(folder)
    side = resolution or vision.config.position_grid[0] * vision.config.patch_size
    files = huggingface.config_files(vision.config, text.config, text.temperature, side)
    tensors = tensors_of(vision, TORCH_VISION, "vision_encoder.") | tensors_of(text, TORCH_TEXT, "text_encoder.")
    stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    _write(folder / SINGLE_FILE, stored | _temperature_tensor(text), {"format": "pt"})
    for name, content in files.items():
        write_text(folder / name, json.dumps(content, indent=2) + "\n")


def _load(kind: Kind, path: Path | str | None, config: Any, seed: int | None, device: torch.device | str, dtype: torch.dtype) -> Any:
    if path is None:
        if config is None or seed is None:
            raise UserError("random weights need a config and a seed", where=f"weights of the {NOUN[kind]}")
        return _TOWERS[kind].random(config, seed, device=device, dtype=dtype).eval().requires_grad_(False)
    if seed is not None:
        raise UserError(f"seed = {seed} would do nothing, the weights come from this file", where=path, fix="Give one of the two.")
    with open_weights(path) as file:
        layout = find_layout(file, kind)
        stated = huggingface.read_config(file.path.parent)
        config = resolve_config(file, layout, stated.of(kind), config)
        with torch.device("meta"):
            tower = _TOWERS[kind](config)
        check(file, layout, config, tensors_of(tower, layout.naming, layout.prefix))
        tower = tower.to(dtype).to_empty(device=device)
        _fill(tower, file, layout)
        if isinstance(tower, TextTower):
            tower.temperature = _temperature(file, stated.temperature)
    return tower.eval().requires_grad_(False)


@torch.no_grad()
def _fill(tower: Tower, file: WeightFile, layout: Layout) -> None:
    parameters = dict(tower.named_parameters())
    for entry in layout.naming.entries(tower.config, layout.prefix):
        own = [parameters.pop(name) for name in entry.own]
        built = entry.rule.build([file.read(name) for name in entry.file], [parameter.shape for parameter in own])
        for parameter, value in zip(own, built, strict=True):
            parameter.copy_(value)
    if parameters:
        raise AssertionError(f"the naming {layout.naming.name!r} leaves out {sorted(parameters)}")


def tensors_of(tower: Tower, naming: Naming, prefix: str) -> dict[str, Tensor]:
    """A tower's tensors under the names and in the layout of a file."""
    parameters = dict(tower.named_parameters())
    tensors: dict[str, Tensor] = {}
    for entry in naming.entries(tower.config, prefix):
        split = entry.rule.split([parameters[name].detach() for name in entry.own], tower.config)
        tensors |= dict(zip(entry.file, split, strict=True))
    return tensors


def _temperature(file: WeightFile, stated: float | None) -> float | None:
    """The temperature a file holds; else what the config.json beside it states."""
    for key in TEMPERATURE_KEYS:
        if key in file.shapes:
            tensor = file.read(key)
            if tensor.numel() != 1 or not tensor.item() > 0:
                raise UserError(f"{tensor.flatten()[:3].tolist()} is not one positive number", where=f"{file.path}: {key}")
            return float(tensor.item())
    return stated


def _temperature_tensor(text: TextTower) -> dict[str, Tensor]:
    return {} if text.temperature is None else {TEMPERATURE_KEYS[0]: torch.tensor(text.temperature)}


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    # safetensors refuses tensors that share memory or are laid out another way; they are copied one by one, only where they are.
    ready = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        try:
            save_file(ready, temporary, metadata=metadata)
        except SafetensorError as error:
            raise UserError(f"cannot write: {error}", where=path, fix="Free space there or choose another folder.") from error
