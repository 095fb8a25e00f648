"""Random DPT heads, and the files that the three published layouts keep them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tips_bench.models.dpt import DptConfig, DptDecoder

FLAX_HEADS = {"segmentation": "pixel_segmentation", "depth": "pixel_depth_classif", "normals": "pixel_normals"}
OUTPUTS = {"segmentation": 7, "depth": 16, "normals": 3}


def random_head(kind: str, embed_dim: int = 32, channels: int = 16, seed: int = 0, outputs: int | None = None) -> DptDecoder:
    """Weights of a size that lets every layer reach the output."""
    torch.manual_seed(seed)
    widths = tuple(embed_dim // part for part in (8, 4, 2, 1))
    head = DptDecoder(DptConfig(embed_dim=embed_dim, outputs=outputs or OUTPUTS[kind], reassembled=widths, channels=channels))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter) * (1 / max(parameter[0].numel(), 1)) ** 0.5)
    return head.eval()


def random_layers(embed_dim: int = 32, grid: tuple[int, int] = (6, 8), batch: int = 2, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Four (global_BD, patches_BhwD)."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(batch, embed_dim, generator=generator), torch.randn(batch, *grid, embed_dim, generator=generator)) for _ in range(4)
    ]


def torch_arrays(head: DptDecoder, kind: str) -> dict[str, np.ndarray]:
    """As the official PyTorch code keeps it in an .npz: the kernels of the transposed convolutions unturned."""
    arrays = {name: tensor.detach().numpy() for name, tensor in head.named_parameters()}
    for index in (0, 1):
        name = f"dpt.reassemble.resize_layers.{index}.weight"
        arrays[name] = np.ascontiguousarray(arrays[name][..., ::-1, ::-1])
    return arrays | ({"bin_centers": np.linspace(0.001, 10, head.config.outputs, dtype=np.float32)} if kind == "depth" else {})


def flax_arrays(head: DptDecoder, kind: str) -> dict[str, np.ndarray]:
    """As the official Flax code keeps it: the names of google-deepmind/tips, decoders.py, `_load_dpt_state_dict`, one by one."""
    own = {name: tensor.detach().numpy() for name, tensor in head.named_parameters()}
    found: dict[str, np.ndarray] = {}

    def put(file: str, name: str, kernel: tuple[int, ...] | None, turned: bool = False) -> None:
        if kernel is not None:
            array = own.pop(f"{name}.weight").transpose(kernel)
            found[f"{file}/kernel"] = array[::-1, ::-1] if turned else array
        if f"{name}.bias" in own:
            found[f"{file}/bias"] = own.pop(f"{name}.bias")

    conv, dense, transposed = (2, 3, 1, 0), (1, 0), (2, 3, 0, 1)
    base, blocks = "decoder/dpt", "decoder/dpt/reassemble_blocks"
    for i in range(4):
        put(f"{blocks}/out_projection_{i}", f"dpt.reassemble.out_projections.{i}", conv)
        put(f"{blocks}/readout_projects_{i}", f"dpt.reassemble.readout_projects.{i}", dense)
        put(f"{base}/convs_{i}", f"dpt.convs.{i}", conv)
    put(f"{blocks}/resize_layers_0", "dpt.reassemble.resize_layers.0", transposed, turned=True)
    put(f"{blocks}/resize_layers_1", "dpt.reassemble.resize_layers.1", transposed, turned=True)
    put(f"{blocks}/resize_layers_3", "dpt.reassemble.resize_layers.3", conv)
    for i in range(4):
        fusion = f"{base}/fusion_blocks_{i}"
        for number, unit in enumerate(["main_unit"] if i == 0 else ["residual_unit", "main_unit"]):
            for layer in ("conv1", "conv2"):
                put(f"{fusion}/PreActResidualConvUnit_{number}/{layer}", f"dpt.fusion_blocks.{i}.{unit}.{layer}", conv)
        put(f"{fusion}/Conv_0", f"dpt.fusion_blocks.{i}.out_conv", conv)
    put(f"{base}/project", "dpt.project", conv)
    put(f"decoder/{FLAX_HEADS[kind]}", "head", dense)
    assert not own
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def hub_tensors(head: DptDecoder, kind: str) -> dict[str, Tensor]:
    """As google/tipsv2-*-dpt keeps it."""
    names = {"dpt.": f"{kind}_head.", "head.": f"{kind}_head.{kind}_head."}
    return {
        file + name.removeprefix(own): tensor.detach()
        for own, file in names.items()
        for name, tensor in head.named_parameters()
        if name.startswith(own)
    }


def write_head(path: Path, head: DptDecoder, kind: str, layout: str) -> Path:
    """One file in a layout: "torch", "flax" or "hub"."""
    if layout == "hub":
        save_file({name: tensor.contiguous() for name, tensor in hub_tensors(head, kind).items()}, path)
    else:
        with path.open("wb") as file:
            np.savez(file, **(torch_arrays if layout == "torch" else flax_arrays)(head, kind))
    return path
