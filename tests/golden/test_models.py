"""The towers against outputs that google-deepmind/tips (commit 4db271d) computed, on random tiny weights in its own file formats.

tests/golden/data/README.md says what each file holds. A missing file fails.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tips_bench.models.configs import TextConfig, VisionConfig
from tips_bench.models.files.checkpoints import load_text, load_vision

DATA = Path(__file__).parent / "data"
TORCH_TOLERANCE, FLAX_TOLERANCE = 1e-5, 1e-4
HEADS = 3


def vision_config(ffn: str) -> VisionConfig:
    mlp_dim = {"mlp": 192, "swiglu": 128}[ffn]
    return VisionConfig(name=f"golden-{ffn}", embed_dim=48, depth=3, num_heads=HEADS, mlp_dim=mlp_dim, ffn=ffn, position_grid=(4, 4))


def arrays(name: str) -> dict[str, torch.Tensor]:
    with np.load(DATA / name, allow_pickle=False) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive}


def assert_near(found: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max().item() <= tolerance


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("case", ["native", "wide", "small", "masked"])
@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_image_tower_gives_the_official_pytorch_outputs(ffn: str, case: str, packed: bool) -> None:
    tower = load_vision(DATA / f"torch_vision_{ffn}_weights.npz", vision_config(ffn))
    assert not packed or tower.pack()
    wanted = {key.partition("/")[2]: value for key, value in arrays(f"torch_vision_{ffn}_io.npz").items() if key.startswith(f"{case}/")}
    with torch.inference_mode():
        seen = tower(wanted["pixels"], layers=(0, 2), values=True, mask_BP=wanted.get("mask"))
    assert seen.value_patches_BhwD is not None
    found = {
        "cls1": seen.globals_BKD[:, 0],
        "cls2": seen.globals_BKD[:, 1],
        "patches": seen.patches[1].flatten(1, 2),
        "layer0_patches": seen.patches[0].permute(0, 3, 1, 2),
        "layer0_cls1": seen.layer_globals[0][:, 0],
        "layer2_patches": seen.patches[1].permute(0, 3, 1, 2),
        "layer2_cls1": seen.layer_globals[1][:, 0],
        "value_patches": seen.value_patches_BhwD,
    }
    outputs = set(wanted) - {"pixels", "mask"}
    assert outputs and outputs <= set(found)
    for name in outputs:
        assert_near(found[name], wanted[name], TORCH_TOLERANCE)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("case", ["native", "wide"])
@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_image_tower_gives_the_official_flax_outputs(ffn: str, case: str, packed: bool) -> None:
    wanted = arrays(f"scenic_vision_{ffn}_io.npz")
    tower = load_vision(DATA / f"scenic_vision_{ffn}_weights.npz")
    assert (tower.config.num_heads, tower.config.position_grid, tower.config.ffn) == (HEADS, (4, 4), ffn)
    assert not packed or tower.pack()
    with torch.inference_mode():
        seen = tower(wanted[f"{case}/pixels"])
    assert_near(seen.globals_BKD, wanted[f"{case}/cls"], FLAX_TOLERANCE)
    assert_near(seen.patches[0], wanted[f"{case}/patches"], FLAX_TOLERANCE)


@pytest.mark.parametrize(("family", "tolerance"), [("torch", TORCH_TOLERANCE), ("scenic", FLAX_TOLERANCE)])
def test_text_tower_gives_the_official_outputs(family: str, tolerance: float) -> None:
    shape = {"torch": {"depth": 2, "mlp_dim": 96}, "scenic": {"depth": 12, "mlp_dim": 192}}[family]
    config = TextConfig(name="golden", embed_dim=48, num_heads=HEADS, vocab_size=100, **shape)
    wanted = arrays(f"{family}_text_io.npz")
    tower = load_text(DATA / f"{family}_text_weights.npz", config)
    with torch.inference_mode():
        found = tower(wanted["ids"], wanted["paddings"])
    assert_near(found, wanted["embedding"], tolerance)


@pytest.mark.parametrize(("family", "key"), [("torch", "temperature"), ("scenic", "temperature_contrastive")])
def test_text_tower_carries_the_temperature_of_its_file(family: str, key: str) -> None:
    shape = {"torch": {"depth": 2, "mlp_dim": 96}, "scenic": {"depth": 12, "mlp_dim": 192}}[family]
    config = TextConfig(name="golden", embed_dim=48, num_heads=HEADS, vocab_size=100, **shape)
    wanted = float(arrays(f"{family}_text_weights.npz")[key])
    assert load_text(DATA / f"{family}_text_weights.npz", config).temperature == wanted > 0
