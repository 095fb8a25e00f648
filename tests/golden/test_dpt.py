"""The DPT heads against outputs that google-deepmind/tips (commit 4db271d) computed, on random weights in its own file format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from tips_bench.models.files.dpt_heads import load_dpt

DATA = Path(__file__).parent / "data"
TOLERANCE = 1e-5
DEPTHS = (0.001, 10.0)


def arrays(name: str) -> dict[str, torch.Tensor]:
    with np.load(DATA / name, allow_pickle=False) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive}


@pytest.mark.parametrize(("suffix", "outputs"), [(".safetensors", "torch_dpt_io.npz"), (".npz", "torch_dpt_loaded_io.npz")])
@pytest.mark.parametrize("kind", ["segmentation", "depth", "normals"])
def test_a_head_gives_the_official_outputs(kind, suffix, outputs, tmp_path):
    """A state_dict as it is, and an .npz as the official loader reads it, which turns the kernels of the transposed convolutions."""
    stored, weights = arrays("torch_dpt_io.npz"), DATA / f"torch_dpt_{kind}_weights.npz"
    path = tmp_path / f"head{suffix}"
    if suffix == ".npz":
        path.write_bytes(weights.read_bytes())
    else:
        save_file({name: tensor.contiguous() for name, tensor in arrays(weights.name).items()}, path)
    layers = [(stored[f"features/{i}/cls1"], stored[f"features/{i}/patches"].permute(0, 2, 3, 1)) for i in range(4)]
    head = load_dpt(path, kind, embed_dim=32, depths=DEPTHS if kind == "depth" else None)
    found_BCHW = head(layers)
    if kind == "depth":
        share_BCHW = found_BCHW.relu() + DEPTHS[0]
        share_BCHW /= share_BCHW.sum(1, keepdim=True)
        found_BCHW = torch.einsum("bchw,c->bhw", share_BCHW, torch.linspace(*DEPTHS, head.config.outputs))[:, None]
    found_BCHW = F.interpolate(found_BCHW, (42, 56), mode="bilinear", align_corners=False)
    wanted_BCHW = arrays(outputs)[f"{kind}/at_42x56"]
    assert found_BCHW.shape == wanted_BCHW.shape
    assert (found_BCHW - wanted_BCHW).abs().max().item() <= TOLERANCE
