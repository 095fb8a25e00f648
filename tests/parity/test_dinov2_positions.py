"""DINOv2's models through timm against tensors that DINOv2's own class computed, at sizes other than that of its positions."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from tips_bench import load_encoder
from tips_bench.encoders import resolve_model_card

GOLDEN = Path(__file__).parent / "data/dinov2_positions.npz"
TOLERANCE = 1e-5
SIZES = ["70x70", "42x42", "56x98", "112x70"]
SMALL = {"img_size": 70, "embed_dim": 24, "depth": 2, "num_heads": 3}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kind", "name"), [("plain", "vit_small_patch14_dinov2"), ("registers", "vit_small_patch14_reg4_dinov2")])
def test_positions_are_resized_as_dinov2_does_it(kind: str, name: str, size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", functools.partial(timm.create_model, **SMALL))
    with np.load(GOLDEN, allow_pickle=False) as golden:
        prefix = f"{kind}/weights/"
        state = {key.removeprefix(prefix): torch.from_numpy(golden[key]) for key in golden if key.startswith(prefix)}
        pixels_1_3HW, cls_1D, patches_1PD = (
            torch.from_numpy(golden[f"{key}/{size}"]) for key in ("pixels", f"{kind}/cls", f"{kind}/patches")
        )
    torch.save(state, tmp_path / "weights.pth")
    card = resolve_model_card(f"timm:{name}")
    encoder = load_encoder(card, weights=tmp_path / "weights.pth", device="cpu")
    found = encoder.encode_image(pixels_1_3HW)
    assert (found.patches[0].flatten(1, 2) - patches_1PD).abs().max() <= TOLERANCE
    assert (found.globals_BKD[:, 0] - cls_1D).abs().max() <= TOLERANCE
