"""What a weight file holds, told from its names and shapes before a tensor is read: which tower, named how, of what shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tips_bench.errors import UserError
from tips_bench.models.configs import Config, Kind, TextConfig, VisionConfig, published_config
from tips_bench.models.files.formats import HEAD_PREFIXES, TEMPERATURE_KEYS, TEXT_NAMINGS, TOWER_PREFIXES, VISION_NAMINGS, Naming
from tips_bench.models.files.weight_files import WeightFile

NOUN: dict[Kind, str] = {"vision": "image tower", "text": "text tower"}

# What our own files keep their configs under, in the metadata of safetensors.
_OWN_KEY = "tips-bench/weights/1"
_NAMINGS = {"vision": VISION_NAMINGS, "text": TEXT_NAMINGS}
_ARTICLE: dict[Kind, str] = {"vision": "an", "text": "a"}
_OTHER: dict[Kind, Kind] = {"vision": "text", "text": "vision"}
# A file with a smaller share of the names is of another kind; with a larger one it is a damaged file of this kind.
_MIN_OVERLAP = 0.5
_LISTED = 3


@dataclass(frozen=True)
class Layout:
    """How a file names a tower, and what stands before every name."""

    kind: Kind
    naming: Naming
    prefix: str


def find_layout(file: WeightFile, kind: Kind) -> Layout:
    """The naming that most of a tower's names are found in. Errors: none fits half of them."""
    if found := _best(file, kind):
        return found
    other, names = _OTHER[kind], _some(sorted(file.shapes)) or "none"
    what = f"it holds {_ARTICLE[other]} {NOUN[other]}" if _best(file, other) else f"its names are like {names}"
    known = ", ".join(dict.fromkeys(naming.name for naming in _NAMINGS[kind]))
    raise UserError(f"there is no {NOUN[kind]} in this file: {what}", where=file.path, fix=f"Known formats: {known}.")


def _best(file: WeightFile, kind: Kind) -> Layout | None:
    keys = set(file.shapes)
    candidates = [Layout(kind, naming, prefix) for naming in _NAMINGS[kind] for prefix in naming.prefixes]
    overlaps = [layout.naming.overlap(keys, layout.prefix) for layout in candidates]
    return candidates[overlaps.index(max(overlaps))] if max(overlaps) >= _MIN_OVERLAP else None


def resolve_config(file: WeightFile, layout: Layout, stated: Mapping[str, Any], config: Config | None) -> Config:
    """The config to load a file with: the caller's, which may not contradict what the file says, else the file's own.

    stated: what a config.json says and shapes do not (num_heads, layer_norm_eps, gelu), as far as it says it. The kind of GELU is the
    file's, because the same architecture was published with both.
    """
    own = _own_config(file, layout.kind)
    if config is None:
        return own or infer_config(file, layout, stated)
    said = own.to_dict() if own else dict(stated)
    gelu = said.get("gelu", layout.naming.gelu)
    if isinstance(config, VisionConfig) and gelu is not None:
        config = replace(config, gelu=gelu)
    for field, value in said.items():
        if field not in ("name", "init_values") and value != (expected := getattr(config, field)):
            raise UserError(
                f"the file holds {field} = {value} where {expected} is expected for {config.name!r}",
                where=f"{file.path}: {NOUN[layout.kind]}",
                fix="Give the weights of that architecture, or the architecture of these weights.",
            )
    return config


def own_metadata(configs: Mapping[Kind, Config]) -> dict[str, str]:
    """The metadata of a file of our own format. One entry alone: safetensors writes several in an order that changes from run to run."""
    return {_OWN_KEY: json.dumps({kind: config.to_dict() for kind, config in configs.items()})}


def _own_config(file: WeightFile, kind: Kind) -> Config | None:
    """The config in the metadata of a file of our own format."""
    if _OWN_KEY not in file.metadata:
        return None
    where = f"{file.path}: metadata {_OWN_KEY}"
    try:
        configs = json.loads(file.metadata[_OWN_KEY])
    except ValueError as error:
        raise UserError(f"it is not JSON ({error})", where=where) from error
    if not isinstance(configs, dict) or not isinstance(configs.get(kind), dict):
        raise UserError(f"it holds no config of the {NOUN[kind]}", where=where)
    return (VisionConfig if kind == "vision" else TextConfig).from_dict(configs[kind], where=f"{where}: {kind}")


def infer_config(file: WeightFile, layout: Layout, stated: Mapping[str, Any]) -> Config:
    """The config that a file's shapes describe. Errors: one that neither they nor `stated` nor the published sizes make complete."""
    naming, kind = layout.naming, layout.kind
    ffn = naming.ffn_kind(file.shapes, layout.prefix)
    shapes = _Shapes(file, layout, ffn)
    hidden = shapes["blocks.0.mlp.w3.weight" if ffn == "swiglu" else "blocks.0.mlp.fc2.weight"]
    values: dict[str, Any] = {"name": file.path.name, "embed_dim": hidden[0], "mlp_dim": hidden[1]}
    values["depth"] = naming.depth(file.shapes, layout.prefix)
    if kind == "vision":
        values |= {"ffn": ffn, "patch_size": shapes["patch_embed.proj.weight"][-1]}
        values |= {"gelu": naming.gelu or "erf", "num_global_tokens": 1 + shapes["register_tokens"][1]}
        values["position_grid"] = _position_grid(file, layout, shapes)
    else:
        values["vocab_size"] = shapes["token_embed.weight"][0]
    if naming.heads is not None:
        values["num_heads"] = file.shapes[naming.heads][0]
    values |= stated
    if "num_heads" not in values:
        values["num_heads"] = _published_heads(file, kind, values)
    return (VisionConfig if kind == "vision" else TextConfig)(**values)


class _Shapes:
    """Shapes of a tower's parameters, worked out from a file's."""

    def __init__(self, file: WeightFile, layout: Layout, ffn: str) -> None:
        templates = [*layout.naming.shared, *layout.naming.ffn[ffn]]
        self._file = file
        self._entries = {name: entry for template in templates for entry in [template.at(layout.prefix, 0)] for name in entry.own}

    def __getitem__(self, own: str) -> tuple[int, ...]:
        entry = self._entries[own]
        if missing := [name for name in entry.file if name not in self._file.shapes]:
            where = f"{self._file.path}: {missing[0]}"
            raise UserError("the tensor is missing, and the shape of the tower cannot be told without it", where=where)
        parts = [torch.empty(self._file.shapes[name], device="meta") for name in entry.file]
        try:
            built = entry.rule.build(parts, [])
        except (RuntimeError, IndexError) as error:
            found = [list(part.shape) for part in parts]
            raise UserError(f"tensors of the shapes {found} do not make {own}", where=f"{self._file.path}: {entry.file[0]}") from error
        return tuple(built[entry.own.index(own)].shape)


def _position_grid(file: WeightFile, layout: Layout, shapes: _Shapes) -> tuple[int, int]:
    if layout.naming.grid is not None:
        _, rows, columns, _ = file.shapes[layout.naming.grid]
        return rows, columns
    count = shapes["pos_embed"][1] - 1
    side = round(count**0.5)
    if side * side != count:
        raise UserError(
            f"{count} position embeddings do not make a square grid", where=f"{file.path}: {layout.prefix}pos_embed", fix="Give a config."
        )
    return side, side


def _published_heads(file: WeightFile, kind: Kind, values: Mapping[str, Any]) -> int:
    config = published_config(kind, values["embed_dim"], values["depth"], values["mlp_dim"])
    if config is None:
        raise UserError(
            f"the number of heads is not in the file, and no published {NOUN[kind]} has its shape",
            where=file.path,
            fix="Give a config, or put the config.json beside it.",
        )
    return config.num_heads


def check(file: WeightFile, layout: Layout, config: Config, expected: Mapping[str, Tensor]) -> None:
    """Compares all names and shapes of a file with those a tower needs."""
    if missing := [name for name in expected if name not in file.shapes]:
        shape = list(expected[missing[0]].shape)
        raise UserError(
            f"missing: {len(missing)} of the {len(expected)} tensors of {config.name!r}, the first of shape {shape}",
            where=f"{file.path}: {_some(missing)}",
            fix="Give a complete file of that architecture.",
        )
    others = (*TOWER_PREFIXES[_OTHER[layout.kind]], *HEAD_PREFIXES)
    known = {*expected, *TEMPERATURE_KEYS}
    if extra := [name for name in file.shapes if name not in known and not name.startswith(others)]:
        raise UserError(
            f"unexpected: {len(extra)} tensors do not belong to {config.name!r} with its {config.depth} blocks",
            where=f"{file.path}: {_some(extra)}",
            fix="Give a file that contains only the weights of that architecture.",
        )
    for name, tensor in expected.items():
        if file.shapes[name] != tuple(tensor.shape):
            raise UserError(
                f"the shape is {list(file.shapes[name])} where {list(tensor.shape)} is expected for {config.name!r}",
                where=f"{file.path}: {name}",
                fix="Give the weights of that architecture.",
            )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
