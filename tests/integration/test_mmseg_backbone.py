"""An encoder of the registry serves as the backbone of a real mmsegmentation model: it trains a head, predicts, and stays frozen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData

from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.integrations.mmseg_backbone import TipsBenchEncoder
from tips_bench.openmmlab import import_mmseg

import_mmseg()
import mmseg.models  # noqa: E402, F401  (registers EncoderDecoder)
from mmengine.optim import OptimWrapper  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

ENCODER = {"encoder": "timm:vit_tiny_patch16_224", "weights": "random:0", "device": "cpu"}
CLASSES = 3


def build(backbone: dict[str, Any], channels: int, index: list[int], **preprocessor: Any) -> Any:
    """From the text of a config, as a user writes it."""
    config = Config(
        {
            "custom_imports": {"imports": ["tips_bench.integrations.mmseg_backbone"]},
            "model": {
                "type": "EncoderDecoder",
                "data_preprocessor": {
                    "type": "SegDataPreProcessor",
                    "mean": [0] * 3,
                    "std": [255] * 3,
                    "bgr_to_rgb": True,
                    "seg_pad_val": 255,
                    "size": (64, 64),
                    "test_cfg": {"size_divisor": 16},
                    **preprocessor,
                },
                "backbone": {"type": "TipsBenchEncoder", **backbone},
                "decode_head": {
                    "type": "FCNHead",
                    "in_channels": [channels] * len(index),
                    "in_index": index,
                    "input_transform": "resize_concat",
                    "channels": channels * len(index),
                    "num_convs": 0,
                    "concat_input": False,
                    "num_classes": CLASSES,
                    "norm_cfg": {"type": "BN"},
                    "loss_decode": {"type": "CrossEntropyLoss"},
                },
                "test_cfg": {"mode": "whole"},
            },
        }
    )
    with DefaultScope.overwrite_default_scope("mmseg"):  # default_scope = "mmseg" of a config
        return MODELS.build(config.model)


def batch(number: int, height: int, width: int) -> dict[str, Any]:
    """Images whose left third is red, middle green, right blue, in BGR, with those three classes."""
    generator = torch.Generator().manual_seed(0)
    labels_HW = torch.arange(width).mul(3).div(width, rounding_mode="floor").expand(height, width)
    inputs, samples = [], []
    for _ in range(number):
        image_3HW = torch.randint(0, 60, (3, height, width), generator=generator, dtype=torch.uint8)
        image_3HW += (torch.nn.functional.one_hot(labels_HW, 3).permute(2, 0, 1).flip(0) * 190).to(torch.uint8)
        sample = SegDataSample(metainfo={"ori_shape": (height, width), "img_shape": (height, width)})
        sample.gt_sem_seg = PixelData(data=labels_HW[None].clone())
        inputs.append(image_3HW)
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def test_a_head_trains_and_predicts_on_a_frozen_encoder() -> None:
    torch.manual_seed(0)
    model = build({**ENCODER, "layers": [5, -1]}, 192, [0, 1])
    encoder = model.backbone.encoder
    pixels = torch.rand(1, 3, 64, 64)
    before = encoder.encode_image(pixels).patches[0].clone()
    assert not list(model.backbone.parameters()) and not any(key.startswith("backbone") for key in model.state_dict())
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2))
    model.init_weights()
    model.train()
    losses = [float(model.train_step(batch(2, 64, 64), optimizer)["decode.loss_ce"].detach()) for _ in range(25)]
    assert losses[-1] < losses[0] / 3
    assert torch.equal(encoder.encode_image(pixels).patches[0], before)
    model.eval()
    predicted = model.test_step(batch(2, 50, 70))  # padded to 64 x 80 by the preprocessor, cut back by mmseg
    for sample in predicted:
        assert sample.pred_sem_seg.data.shape == (1, 50, 70)
        assert (sample.pred_sem_seg.data == sample.gt_sem_seg.data).float().mean() > 0.7


def test_the_maps_are_the_encoders_own_features_for_rgb_in_zero_to_one() -> None:
    model = build({**ENCODER, "layers": [3, -1], "norm": False}, 192, [0, 1])
    data = batch(2, 64, 64)
    processed = model.data_preprocessor(data, training=True)
    expected = load_encoder(ENCODER["encoder"], ENCODER["weights"], "cpu").encode_image(
        torch.stack([image_3HW.flip(0).float() / 255 for image_3HW in data["inputs"]]), layers=(3, -1), norm=False
    )
    maps = model.extract_feat(processed["inputs"])
    assert len(maps) == 2 == len(model.backbone.out_channels)
    for map_BDhw, patches_BhwD in zip(maps, expected.patches, strict=True):
        assert map_BDhw.is_contiguous() and map_BDhw.shape == (2, 192, 4, 4)
        np.testing.assert_allclose(map_BDhw.numpy(), patches_BhwD.permute(0, 3, 1, 2).numpy(), atol=1e-5)


def test_raw_pixels_serve_as_a_backbone_too() -> None:
    encoder = load_encoder("pixels", device="cpu")
    backbone = TipsBenchEncoder("pixels", device="cpu")
    side = 2 * encoder.spec.patch_size
    assert backbone(torch.rand(1, 3, side, side))[0].shape == (1, encoder.spec.embed_dim, 2, 2)


def test_a_preprocessor_that_normalises_is_refused() -> None:
    model = build(ENCODER, 192, [0], mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    with pytest.raises(UserError, match=r"not in \[0, 1\]\. Set data_preprocessor to mean="):
        model.test_step(batch(1, 64, 64))


def test_a_size_that_the_encoder_would_pad_is_refused_where_it_pads() -> None:
    backbone = TipsBenchEncoder(**ENCODER)
    if backbone.encoder.spec.pad == "center":
        with pytest.raises(UserError, match=r"60x64 pixels are not a multiple of the patch size 16\. .*size_divisor=16"):
            backbone(torch.rand(1, 3, 60, 64))
    else:
        assert backbone(torch.rand(1, 3, 60, 64))[0].shape[-2:] == (4, 4)


def test_an_unknown_encoder_or_layer_is_refused_when_the_model_is_built() -> None:
    with pytest.raises(UserError, match="tips-g14"):
        build({"encoder": "tips-g41"}, 192, [0])
    with pytest.raises(UserError, match="has 12 blocks"):
        build({**ENCODER, "layers": [12]}, 192, [0])
