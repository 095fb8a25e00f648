"""DINO through timm against its own class, at sizes other than that of its positions.

data/dino.npz: normalized pixels, and what facebookresearch/dino 7c446df, vision_transformer.py, get_intermediate_layers gives for them with
the weights of `fill` (seed 1): 2 blocks of 24 features and 3 heads, patches of 8 px, native at 32 px.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from tests.parity.test_zeroshot_sources import fill
from tips_bench import load_encoder
from tips_bench.encoders import resolve_model_card

DATA = Path(__file__).parent / "data" / "dino.npz"


@pytest.mark.parametrize("size", ["32x32", "48x40", "24x64"])
def test_tokens_are_those_of_dinos_own_class(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 3}
    monkeypatch.setattr(timm, "create_model", functools.partial(timm.create_model, **small))
    encoder = load_encoder(resolve_model_card("timm:vit_small_patch8_224.dino"), "random", device="cpu")
    fill(encoder.model, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.spec.mean, encoder.spec.std))
    with np.load(DATA, allow_pickle=False) as golden:
        encoder._has_seen_pixels = True  # the numbers are not those of a photo
        found = encoder.encode_image(torch.from_numpy(golden[f"normalized/{size}"]) * std + mean)
        wanted = golden[f"tokens/{size}"]
    assert np.abs(found.patches[0].flatten(1, 2).numpy() - wanted[:, 1:]).max() < 1e-5
    assert np.abs(found.globals_BKD.numpy() - wanted[:, :1]).max() < 1e-5
