"""Released DPT heads from files: google-deepmind/tips in Flax and PyTorch, and google/tipsv2-*-dpt, which transformers writes too.

A file's names say how it is laid out, all but the PyTorch one's say which head it is, and its shapes say how large. As for the
towers, names and shapes are compared before the first tensor is read, and what is missing, left over, of another shape or not finite
is an error.

Flax transposes a convolution without turning its kernel, PyTorch turns it by 180 degrees, so such a kernel is turned on reading.
The converters of google-deepmind/tips forgot that: its loader turns the two kernels of an .npz with PyTorch's names (4db271d,
pytorch/decoders.py:551-553), and so does this one. A .safetensors file with those names is a plain state_dict. A file of the old converter
(scripts/convert_segmentation_checkpoint.py) has names of neither kind.

Sources: google-deepmind/tips, pytorch/decoders.py; transformers/conversion_mapping.py ("tipsv2_dpt").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tips_bench.errors import UserError
from tips_bench.models.dpt import LAYERS, DptConfig, DptDecoder
from tips_bench.models.files.formats import HEAD_PREFIXES, TOWER_PREFIXES
from tips_bench.models.files.weight_files import WeightFile, open_weights

Kind = Literal["segmentation", "depth", "normals"]
KINDS: tuple[Kind, ...] = ("segmentation", "depth", "normals")
BINS = "bin_centers"  # a buffer that the PyTorch depth head stores beside its parameters
_FLAX_HEADS: dict[Kind, str] = {"segmentation": "pixel_segmentation", "depth": "pixel_depth_classif", "normals": "pixel_normals"}
_MIN_OVERLAP = 0.5  # of a head's names; with fewer a file is of another kind, with more a damaged one of this kind
_FIX = "Give the complete file of the head."


@dataclass(frozen=True)
class Layout:
    """How a file names a head. kind: which one, where the names say it. key: of a parameter. flax: kernels are laid out as Flax has them.

    beside: beginnings of names that the file may hold beyond the head.
    """

    name: str
    kind: Kind | None
    key: Callable[[str], str]
    flax: bool = False
    beside: tuple[str, ...] = ()


def _flax_key(kind: Kind, own: str) -> str:
    module, _, leaf = own.rpartition(".")
    leaf = {"weight": "kernel", "bias": "bias"}[leaf]
    if module == "head":
        return f"decoder/{_FLAX_HEADS[kind]}/{leaf}"
    module = module.removeprefix("dpt.").replace("reassemble.out_projections", "reassemble.out_projection")
    if unit := re.fullmatch(r"fusion_blocks\.(\d)\.(main|residual)_unit\.(conv\d)", module):
        number = int(unit[2] == "main" and unit[1] != "0")  # counted by block: the first one has no residual unit
        module = f"fusion_blocks_{unit[1]}/PreActResidualConvUnit_{number}/{unit[3]}"
    else:
        module = re.sub(r"fusion_blocks\.(\d)\.out_conv", r"fusion_blocks_\1/Conv_0", module)
        module = re.sub(r"\.(\d)$", r"_\1", module).replace("reassemble.", "reassemble_blocks/")
    return f"decoder/dpt/{module}/{leaf}"


def _hub_key(kind: Kind, own: str) -> str:
    return f"{kind}_head.{own.removeprefix('dpt.')}" if own.startswith("dpt.") else f"{kind}_head.{kind}_head.{own.removeprefix('head.')}"


def _layouts() -> list[Layout]:
    towers = tuple(prefix for prefixes in TOWER_PREFIXES.values() for prefix in prefixes)
    found = [Layout("PyTorch", None, lambda own: own, beside=(BINS,))]
    for kind in KINDS:
        others = tuple(prefix for prefix in HEAD_PREFIXES if prefix != f"{kind}_head.")
        found.append(Layout("Flax", kind, lambda own, kind=kind: _flax_key(kind, own), flax=True))  # type: ignore[misc]
        found.append(Layout("Hugging Face", kind, lambda own, kind=kind: _hub_key(kind, own), beside=(*others, *towers)))  # type: ignore[misc]
    return found


LAYOUTS = _layouts()


def load_dpt(
    path: Path | str,
    kind: Kind,
    *,
    embed_dim: int,
    relu: bool = False,
    depths: tuple[float, float] | None = None,
    device: torch.device | str = "cpu",
) -> DptDecoder:
    """A released head in evaluation mode without gradients.

    path: a file, or a folder in Hugging Face layout. embed_dim: D of the tower that the head is for. relu: see DptConfig. depths: of the
    first and the last bin, in metres, which a file that states its bins may not contradict.
    Errors: no head of this kind in the file, one for another tower, any tensor that does not fit.
    """
    with open_weights(path) as file:
        layout = _find_layout(file, kind)
        config = _infer(file, layout, relu)
        if config.embed_dim != embed_dim:
            problem = f"the head is for towers of {config.embed_dim} features a patch, this one has {embed_dim}"
            raise UserError(problem, where=file.path, fix="Give the head of this model.")
        with torch.device("meta"):
            decoder = DptDecoder(config)
        expected = {layout.key(name): to_file(name, tensor, layout.flax) for name, tensor in decoder.named_parameters()}
        _check(file, layout, expected)
        if depths is not None and BINS in file.shapes and BINS in layout.beside:
            _check_bins(file, config.outputs, depths)
        decoder = decoder.to_empty(device=device)
        with torch.no_grad():
            for name, parameter in decoder.named_parameters():
                tensor = from_file(name, file.read(layout.key(name)), layout.flax)
                unturned = file.is_npz and not layout.flax and _is_transposed(name) and tensor.ndim == 4
                parameter.copy_(tensor.flip(2, 3) if unturned else tensor)
    return decoder.eval().requires_grad_(False)


def to_file(name: str, tensor: Tensor, flax: bool) -> Tensor:
    """A parameter as a file holds it: in Flax inputs stand before outputs, and the kernel's sides first."""
    if not flax or tensor.ndim == 1:
        return tensor
    if tensor.ndim == 2:
        return tensor.transpose(0, 1)
    return tensor.permute(2, 3, 0, 1).flip(0, 1) if _is_transposed(name) else tensor.permute(2, 3, 1, 0)


def from_file(name: str, tensor: Tensor, flax: bool) -> Tensor:
    """The inverse of `to_file`."""
    if not flax or tensor.ndim == 1:
        return tensor
    if tensor.ndim == 2:
        return tensor.transpose(0, 1)
    return tensor.flip(0, 1).permute(2, 3, 0, 1) if _is_transposed(name) else tensor.permute(3, 2, 0, 1)


def _is_transposed(name: str) -> bool:
    return re.search(r"resize_layers\.[01]\.", name) is not None


def _names() -> list[str]:
    """Every parameter of a head, whatever its size."""
    with torch.device("meta"):
        return [name for name, _ in DptDecoder(DptConfig(embed_dim=1, outputs=1, reassembled=(1,) * LAYERS, channels=1)).named_parameters()]


def _find_layout(file: WeightFile, kind: Kind) -> Layout:
    """The layout of the file's head of this kind. Errors: no head, or only others."""
    names = _names()

    def overlap(layout: Layout) -> float:
        return sum(layout.key(name) in file.shapes for name in names) / len(names)

    present = {layout: overlap(layout) for layout in LAYOUTS}
    fitting = [layout for layout in LAYOUTS if layout.kind in (kind, None)]
    best = max(fitting, key=lambda layout: present[layout] + (layout.key("head.weight") in file.shapes))
    if present[best] < _MIN_OVERLAP or (best.kind is not None and best.key("head.weight") not in file.shapes):
        held = sorted({layout.kind for layout in LAYOUTS if layout.kind and layout.key("head.weight") in file.shapes})
        what = f"it holds one for {', '.join(held)}" if held else f"its names are like {', '.join(sorted(file.shapes)[:3]) or 'none'}"
        known = ", ".join(dict.fromkeys(layout.name for layout in LAYOUTS))
        raise UserError(f"there is no DPT head for {kind} in this file: {what}", where=file.path, fix=f"Known formats: {known}.")
    if best.kind is None and (BINS in file.shapes) != (kind == "depth"):
        what = "a buffer of depth bins, so its head is for depth" if kind != "depth" else f"no {BINS}, so its head is not for depth"
        raise UserError(f"a head for {kind} is wanted, and the file holds {what}", where=file.path, fix="Give the other file.")
    return best


def _infer(file: WeightFile, layout: Layout, relu: bool) -> DptConfig:
    def shape(own: str, axes: int) -> tuple[int, ...]:
        key = layout.key(own)
        found = file.shapes.get(key)
        if found is None:
            problem = "the tensor is missing, and the size of the head cannot be told without it"
            raise UserError(problem, where=f"{file.path}: {key}", fix=_FIX)
        if len(found) != axes:
            raise UserError(f"the shape is {list(found)} where {axes} axes are expected", where=f"{file.path}: {key}", fix=_FIX)
        return tuple(from_file(own, torch.empty(found, device="meta"), layout.flax).shape)

    return DptConfig(
        embed_dim=shape("dpt.reassemble.readout_projects.0.weight", 2)[0],
        outputs=shape("head.weight", 2)[0],
        reassembled=tuple(shape(f"dpt.reassemble.out_projections.{index}.weight", 4)[0] for index in range(LAYERS)),
        channels=shape("dpt.project.weight", 4)[0],
        relu=relu,
    )


def _check(file: WeightFile, layout: Layout, expected: Mapping[str, Tensor]) -> None:
    """Compares all names and shapes of a file with those of the head."""
    where = f"{file.path}: "
    if missing := [name for name in expected if name not in file.shapes]:
        raise UserError(f"missing: {len(missing)} of the {len(expected)} tensors of the head", where=where + missing[0], fix=_FIX)
    if extra := sorted(name for name in file.shapes if name not in expected and not name.startswith(layout.beside)):
        raise UserError(f"unexpected: {len(extra)} tensors do not belong to the head", where=where + extra[0], fix=_FIX)
    for name, tensor in expected.items():
        if file.shapes[name] != tuple(tensor.shape):
            problem = f"the shape is {list(file.shapes[name])} where {list(tensor.shape)} is expected"
            raise UserError(problem, where=where + name, fix=_FIX)


def _check_bins(file: WeightFile, count: int, depths: tuple[float, float]) -> None:
    expected = torch.linspace(*depths, count)
    found = file.read(BINS)
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-5, atol=1e-5):
        problem = f"the file's {found.numel()} bins are not {count} even steps from {depths[0]:g} to {depths[1]:g} m"
        raise UserError(problem, where=f"{file.path}: {BINS}", fix="Give the head that the protocol is for.")
