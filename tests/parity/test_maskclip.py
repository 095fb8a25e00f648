"""MaskCLIP against its own code: tests/parity/data/README.md says which functions made the golden tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.small_clip import small_clip
from tests.helpers.zeroshot_maps import context_of, score_maps, zero_shot_task
from tips_bench import load_encoder
from tips_bench.adapters.zeroshot_segmentation import ZeroShotAdapter
from tips_bench.cards import ProtocolCard, load_card, override
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.last_block import Reading, as_in_mmseg
from tips_bench.features.cache import FeatureCache

DATA = Path(__file__).parent / "data" / "maskclip.npz"


@pytest.fixture(scope="module")
def golden() -> Iterator[Any]:
    with np.load(DATA) as data:
        yield dict(data)


@pytest.fixture(scope="module")
def encoder(golden: Any, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(small_clip(tmp_path_factory.mktemp("clip"), json.loads(str(golden["manifest"]))), device="cpu")


@pytest.mark.parametrize(("task", "size", "images"), [("zeroshot-cocostuff", "short", (0, 1, 2)), ("zeroshot-pc59", "long", (1,))])
@torch.inference_mode()
def test_maps_are_those_of_the_source(golden: Any, encoder: Encoder, tmp_path: Path, task: str, size: str, images: tuple[int, ...]) -> None:
    protocol = load_card("protocol", "maskclip").for_task(task)
    own = zero_shot_task(tmp_path, json.loads(str(golden["classes"])), [golden[f"image{image}"] for image in images])
    adapter = ZeroShotAdapter(own, protocol)
    test = adapter.open(tmp_path, None).test
    context = context_of(encoder, protocol, FeatureCache(tmp_path / "cache"))
    assert torch.allclose(adapter._text_head(context).weight_TD, torch.from_numpy(golden["weight"]), rtol=0, atol=1e-6)
    equal = pixels = 0
    for image, (scores_CHW, predicted_HW) in zip(images, score_maps(adapter, context, test.reader), strict=True):
        assert np.abs(scores_CHW - golden[f"plain_{size}{image}"]).max() < 1e-5
        equal += int((predicted_HW == golden[f"plain_{size}_classes{image}"]).sum())
        pixels += predicted_HW.size
    assert equal / pixels >= 0.9999


@pytest.mark.parametrize(
    ("kind", "changes"), [("both", []), ("smooth", ["probe.absent=null"]), ("denoised", ["probe.smooth=null", "features.keys=false"])]
)
@torch.inference_mode()
def test_refined_maps_are_those_of_the_source(golden: Any, encoder: Encoder, tmp_path: Path, kind: str, changes: list[str]) -> None:
    card = load_card("protocol", "maskclip-refined").for_task("zeroshot-voc20")
    protocol = ProtocolCard.model_validate(override(card.model_dump(mode="json"), changes))
    adapter = ZeroShotAdapter(zero_shot_task(tmp_path, json.loads(str(golden["classes"])), [golden["image0"]]), protocol)
    test = adapter.open(tmp_path, None).test
    ((scores_CHW, predicted_HW),) = score_maps(adapter, context_of(encoder, protocol, FeatureCache(tmp_path / "cache")), test.reader)
    wanted_CHW = golden[f"{kind}_short0"]
    print(kind, np.abs(scores_CHW - wanted_CHW).max(), np.abs(wanted_CHW).max(), (predicted_HW == golden[f"{kind}_short_classes0"]).mean())
    assert np.abs(scores_CHW - wanted_CHW).max() < 1e-4
    # The source takes the argmax of another softmax, in which float32 makes ties of what is closer than this.
    sure_HW = np.diff(np.sort(wanted_CHW, 0)[-2:], axis=0)[0] > 1e-6
    assert sure_HW.mean() > 0.99
    assert (predicted_HW == golden[f"{kind}_short_classes0"])[sure_HW].all()


@torch.inference_mode()
def test_the_value_path_by_parts_is_the_one_by_a_mask(encoder: Encoder) -> None:
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    by_parts, _ = encoder.read_image(pixels, Reading("maskclip", "encoder"))
    assert torch.allclose(by_parts, encoder.encode_image(pixels, values=True).patches[0], atol=1e-5)


@torch.inference_mode()
def test_a_tower_is_as_in_mmsegmentation_only_for_the_while(encoder: Encoder) -> None:
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = encoder.encode_image(pixels).patches[0]
    with pytest.raises(ZeroDivisionError), as_in_mmseg(encoder.vision):
        meanwhile = encoder.encode_image(pixels).patches[0]
        _ = 1 / 0
    assert not torch.allclose(meanwhile, before, atol=1e-3)
    assert torch.equal(encoder.encode_image(pixels).patches[0], before)
    assert torch.equal(encoder.encode_text(["a cat"]), encoder.encode_text(["a cat"]))
