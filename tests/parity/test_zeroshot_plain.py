"""Zero-shot maps against google-deepmind/tips (pytorch/TIPS_zeroshot_segmentation.ipynb) and TCL's sliding window, written out plainly.

The plain version takes one image and one window at a time, in float64, from the PNG on, with torchvision's and torch's own functions.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms import functional as TF

from tests.helpers.toy_tips import write_toy
from tips_bench import load_encoder
from tips_bench.adapters.zeroshot_segmentation import ZeroShotAdapter
from tips_bench.cards import ProtocolCard, TaskCard, load_card, override
from tips_bench.data.images import resize, resize_shape
from tips_bench.features.cache import FeatureCache
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor

SIZES = [(60, 83), (97, 60), (56, 56), (57, 150), (70, 71)]
CLASSES = ["ground", "disc", "bar", "ring", "lamp", "sofa", "red book"]
TASK = {
    "name": "toy", "family": "zeroshot-segmentation", "title": "x", "version": 1, "protocol": "tips-slide", "protocols": ["tips-slide"],
    "data": {"reader": "folder", "root": ".", "splits": {"test": "val"}}, "primary": "mIoU", "license": "x", "citation": "x",
    "homepage": "x", "how_to_get": "x", "options": {"names": {name: name for name in CLASSES}},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    write_toy(folder / "toy")
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name / "val").mkdir(parents=True)
    for number, size in enumerate(SIZES):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"images/val/{number}.png")
        Image.fromarray(rng.integers(0, 7, size, dtype=np.uint8)).save(folder / f"labels/val/{number}.png")
    (folder / "classes.json").write_text(json.dumps({"classes": CLASSES, "palette": [[1, 2, number] for number in range(7)]}))
    return folder


def text_features(encoder, prompts: list[str]) -> torch.Tensor:
    found = []
    for name in CLASSES:
        texts = F.normalize(encoder.encode_text([prompt.format(name) for prompt in prompts]).double(), dim=-1)
        found.append(F.normalize(texts.mean(0), dim=-1))
    return torch.stack(found)


def values(encoder, window_3HW: torch.Tensor) -> torch.Tensor:
    """[h,w,D] of one window, enlarged to whole patches."""
    size = [-(-side // 14) * 14 for side in window_3HW.shape[1:]]
    if size != list(window_3HW.shape[1:]):
        window_3HW = F.interpolate(window_3HW[None], size=size, mode="bicubic", align_corners=False)[0]
    tower = encoder.tower
    tower.unpack()
    return F.normalize(tower.double()(window_3HW[None], values=True).value_patches_BhwD[0], dim=-1)


def corners(side: int, window: int, stride: int) -> list[int]:
    grids = max(side - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride + window, side) - window, 0) for i in range(grids)]


def plain(encoder, image: Image.Image, card: ProtocolCard, outer: tuple[int, int]) -> torch.Tensor:
    """[C,H,W] class scores."""
    width, height = image.size
    side, window, stride = card.image.short_side, card.inference.window, card.inference.stride
    if card.image.library == "torchvision":
        size = [side, int(side * width / height)] if height <= width else [int(side * height / width), side]
        pixels_3HW = TF.to_tensor(TF.resize(image, size, TF.InterpolationMode(card.image.interpolation))).double()
    else:  # mmcv's resizing is held to mmcv elsewhere
        shape = resize_shape(height, width, side)
        pixels_3HW = torch.from_numpy(resize(np.array(image), shape, "bilinear")).permute(2, 0, 1).double() / 255
    text_CD = text_features(encoder, card.probe["prompts"])
    if card.inference.mode == "whole":
        cosines = torch.einsum("cd,hwd->chw", text_CD, values(encoder, pixels_3HW))
        return F.interpolate(cosines[None], size=outer, mode="bilinear", align_corners=False)[0]
    _, height, width = pixels_3HW.shape
    total, cover = torch.zeros(len(CLASSES), height, width).double(), torch.zeros(height, width)
    for top, left in itertools.product(corners(height, window, stride), corners(width, window, stride)):
        part = np.s_[top : top + min(window, height), left : left + min(window, width)]
        cosines = torch.einsum("cd,hwd->chw", text_CD, values(encoder, pixels_3HW[:, *part]))
        cosines = F.interpolate(cosines[None], size=pixels_3HW[:, *part].shape[1:], mode="bilinear", align_corners=False)[0]
        total[:, *part] += cosines if card.probe["softmax"] is None else (card.probe["softmax"] * cosines).softmax(0)
        cover[part] += 1
    return F.interpolate((total / cover)[None], size=outer, mode="bilinear", align_corners=False)[0]


CASES = [
    ("tips-slide", ["inference.window=56", "inference.stride=42"]),
    ("tips-slide", ["inference.window=56", "inference.stride=29", "probe.softmax=20.0"]),
    ("tips-slide", ["inference.window=50", "inference.stride=33"]),  # windows that are no whole number of patches
    ("tips-slide", ["inference.window=80", "inference.stride=42"]),  # larger than the short side
    ("tips-values", []),
    ("tcl-slide", ["inference.window=56", "inference.stride=28", "probe.background=names", "probe.shares=[]"]),
]


@pytest.mark.parametrize(("protocol", "overrides"), CASES, ids=lambda value: value if isinstance(value, str) else "+".join(value))
@torch.inference_mode()
def test_maps_are_those_of_the_plain_version(folder: Path, tmp_path: Path, protocol: str, overrides: list[str]) -> None:
    data = override(load_card("protocol", protocol).model_dump(mode="json"), ["image.short_side=56", *overrides])
    card = ProtocolCard.model_validate(data)
    adapter = ZeroShotAdapter(TaskCard.model_validate(TASK), card)
    splits = adapter.open(folder, None)
    test = splits.test
    assert splits.train is None
    encoder, twin = (load_encoder(folder / "toy", device="cpu") for _ in range(2))
    extractor = Extractor(encoder, card.image, card.features, batch_size=3, workers=1)
    scratch = FeatureCache(tmp_path)
    context = RunContext(extractor, card, load_card("model", "tips-nano"), scratch, scratch, 0)
    seen = 0
    for _, sample, score_HW, predicted_HW, _ in adapter._scored(context, test.reader, test.indices):
        image = Image.open(folder / f"images/val/{sample.id}.png")
        scores_CHW = plain(twin, image, card, sample.labels_HW.shape)
        best_2HW = scores_CHW.topk(2, 0).values
        assert np.abs(score_HW - best_2HW[0].numpy()).max() < 1e-5
        sure_HW = (best_2HW[0] - best_2HW[1]).numpy() > 2e-6
        assert sure_HW.mean() > 0.99
        assert (predicted_HW == scores_CHW.argmax(0).numpy())[sure_HW].all()
        assert len(np.unique(predicted_HW)) > 1
        seen += 1
    assert seen == len(SIZES)
