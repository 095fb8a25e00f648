"""Zero-shot maps against what the code of SCLIP, NACLIP, ClearCLIP and ProxyCLIP computes from the same weights.

data/zeroshot_sources.npz holds what their segmentors gave on a CPU in float32, from a photo to the class of each pixel: wangf3014/SCLIP
b56bd30 (clip_segmentor.py), sinahmr/NACLIP 0cac3a6 (naclip.py), mc-lan/ClearCLIP ad68a40 (clearclip_segmentor.py) and mc-lan/ProxyCLIP
e7b767f (proxyclip_segmentor.py). For each method: texts, the embeddings of all names; for each photo: cosines before the softmax, of every
fourth row and column, and classes. Their CLIP had the weights of `fill` (seed 0) at the sizes of `tower`; ProxyCLIP's second encoder was
replaced by the plain function of colors in `Colors`. Numbers and two photos of scikit-image (public domain), no code.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import transformers
from PIL import Image
from torch import nn
from torch.nn import functional as F

from tips_bench.adapters.zeroshot_segmentation import ZeroShotAdapter
from tips_bench.cards import ProtocolCard, TaskCard, load_card, override
from tips_bench.encoders.base import Encoder, EncoderSpec, ImageFeatures
from tips_bench.encoders.last_block import Attention, Reading
from tips_bench.encoders.open_clip import OpenClipEncoder
from tips_bench.encoders.transformers import FAMILIES, TransformersEncoder
from tips_bench.features.cache import FeatureCache
from tips_bench.features.class_prompts import prompts_of
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor
from tips_bench.features.prompts import embed_names
from tips_bench.features.upsampling import IMAGENET_MEAN, IMAGENET_STD

DATA = Path(__file__).parent / "data" / "zeroshot_sources.npz"
NAMES = [["sky", "wall", "tree"], ["astronaut"], ["cat", "kitten"], ["cup of coffee"], ["flag"]]
CLASSES = ["background", "astronaut", "cat", "coffee", "flag"]
SMALL = ["probe.vocabulary=theirs", "probe.probability_threshold=0.25", "image.short_side=96"]
WINDOWS = ["inference.window=64", "inference.stride=32"]
# what the sources were run with, beside the shipped card
CASES = {
    "sclip": ("sclip", [*SMALL, *WINDOWS, "probe.logit_scale=65.0", "probe.area_threshold=0.2"]),
    "naclip": ("naclip", [*SMALL, *WINDOWS]),
    "naclip_whole": ("naclip", [*SMALL, "inference.mode=whole", "inference.window=null", "inference.stride=null"]),
    "clearclip": ("clearclip", [*SMALL, "inference.window=90", "inference.stride=48"]),
    "proxyclip": ("proxyclip", [*SMALL, "image.short_side=112", "inference.window=112", "inference.stride=56"]),
}
PHOTOS = ("portrait", "wide")
SPEC: dict[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711), "weights_sha256": "x", "license": "x",
}  # fmt: skip


def fill(module: nn.Module, seed: int) -> nn.Module:
    """Standard normals of numpy, drawn for the parameters in the order of their names and scaled by their kind."""
    rng, parameters = np.random.default_rng(seed), dict(module.named_parameters())
    for name in sorted(parameters):
        shape = tuple(parameters[name].shape)
        drawn = rng.standard_normal(shape, dtype=np.float32)
        if not shape:
            continue
        if len(shape) == 1:
            drawn = 0.5 * drawn if "class_embedding" in name else 0.1 * drawn + name.endswith("weight")
        elif "positional" in name or "token_embedding" in name:
            drawn = 0.5 * drawn
        elif "conv1" in name:
            drawn = drawn / np.sqrt(np.prod(shape[1:]))
        else:
            drawn = 1.5 * drawn / np.sqrt(shape[0] if name.endswith("proj") or "projection" in name else shape[-1])
        parameters[name].data.copy_(torch.from_numpy(np.asarray(drawn, np.float32)))
    return module.eval()


def tower() -> nn.Module:
    """OpenAI's architecture, 3 blocks of 128 features and 2 heads, patches of 16 px, native at 64 px."""
    image = {"layers": 3, "width": 128, "head_width": 64, "patch_size": 16, "image_size": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    return fill(open_clip.CLIP(32, image, text, quick_gelu=True), 0).requires_grad_(False)


def spec() -> EncoderSpec:
    return EncoderSpec(name="tiny", patch_size=16, embed_dim=128, depth=3, resolution=64, global_tokens=1, has_text=True, **SPEC)


@pytest.fixture(scope="module")
def of_open_clip() -> OpenClipEncoder:
    encoder = OpenClipEncoder.__new__(OpenClipEncoder)
    encoder.spec, encoder.device, encoder.dtype = spec(), torch.device("cpu"), torch.float32
    encoder.name, encoder.model, encoder.has_values = "ViT-B-16-quickgelu", tower(), True
    encoder._tokenizer = open_clip.tokenize
    return encoder


@pytest.fixture(scope="module")
def of_transformers(of_open_clip: OpenClipEncoder) -> TransformersEncoder:
    """The same image tower as transformers holds it."""
    shape = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 64}
    vision = transformers.CLIPVisionConfig(patch_size=16, projection_dim=32, hidden_act="quick_gelu", **shape)
    model = transformers.CLIPVisionModelWithProjection(vision).eval().requires_grad_(False)
    source, inner = of_open_clip.model.visual, model.vision_model
    inner.embeddings.class_embedding.data = source.class_embedding
    inner.embeddings.position_embedding.weight.data = source.positional_embedding
    model.visual_projection.weight.data = source.proj.T.contiguous()
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (inner.embeddings.patch_embedding, source.conv1), (inner.pre_layrnorm, source.ln_pre), (inner.post_layernorm, source.ln_post)
    ]  # fmt: skip
    for block, theirs in zip(inner.encoder.layers, source.transformer.resblocks, strict=True):
        pairs += [(block.layer_norm1, theirs.ln_1), (block.layer_norm2, theirs.ln_2), (block.self_attn.out_proj, theirs.attn.out_proj)]
        pairs += [(block.mlp.fc1, theirs.mlp.c_fc), (block.mlp.fc2, theirs.mlp.c_proj)]
        parts = zip(theirs.attn.in_proj_weight.chunk(3), theirs.attn.in_proj_bias.chunk(3), strict=True)
        for ours, (weight, bias) in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
            pairs.append((getattr(block.self_attn, ours), SimpleNamespace(state_dict=lambda w=weight, b=bias: {"weight": w, "bias": b})))
    for ours, theirs in pairs:
        ours.load_state_dict(theirs.state_dict())
    encoder = TransformersEncoder.__new__(TransformersEncoder)
    encoder.spec, encoder.device, encoder.dtype, encoder.has_values = spec(), torch.device("cpu"), torch.float32, True
    encoder.family, encoder.model, encoder.vision = FAMILIES["clip"], model, inner
    encoder.encode_text = of_open_clip.encode_text  # type: ignore[method-assign]
    return encoder


class Colors(Encoder):
    """Mean color and mean square of each patch of 8 px."""

    def __init__(self) -> None:
        stated = SPEC | {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        self.spec = EncoderSpec(name="colors", patch_size=8, embed_dim=6, depth=1, resolution=64, global_tokens=0, has_text=False, **stated)
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def _encode(self, pixels_B3HW: torch.Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        maps = torch.cat([F.avg_pool2d(pixels_B3HW, 8), F.avg_pool2d(pixels_B3HW**2, 8)], 1).permute(0, 2, 3, 1)
        nothing = maps.new_zeros(len(maps), 0, 6)
        return ImageFeatures(nothing, [maps], [nothing])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for name in ("images", "labels"):
        (folder / name / "val").mkdir(parents=True)
    with np.load(DATA, allow_pickle=False) as golden:
        for photo in PHOTOS:
            Image.fromarray(golden[f"images/{photo}"]).save(folder / f"images/val/{photo}.png")
            Image.fromarray(np.zeros(golden[f"images/{photo}"].shape[:2], np.uint8)).save(folder / f"labels/val/{photo}.png")
    (folder / "classes.json").write_text(json.dumps({"classes": CLASSES, "palette": [[1, 2, number] for number in range(5)]}))
    return folder


def task(protocol: str) -> TaskCard:
    data = load_card("task", "zeroshot-voc21").model_dump(mode="json")
    options = {"names": {name: name for name in CLASSES}, "background": "background", "vocabularies": {"theirs": NAMES}}
    place = {"reader": "folder", "root": ".", "splits": {"test": "val"}}
    return TaskCard.model_validate(
        data | {"name": "theirs", "protocol": protocol, "protocols": [protocol], "data": place, "options": options}
    )


@pytest.mark.parametrize("library", ["of_open_clip", "of_transformers"])
@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_cosines_and_maps_are_the_sources(case: str, library: str, folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    name, changes = CASES[case]
    shipped = load_card("protocol", name).for_task("theirs").model_dump(mode="json")
    card = ProtocolCard.model_validate(override(shipped, changes))
    adapter, encoder = ZeroShotAdapter(task(name), card), request.getfixturevalue(library)
    test = adapter.open(folder, None).test
    proxy = Colors() if card.features.proxy else None
    extractor = Extractor(encoder, card.image, card.features, batch_size=3, workers=1, proxy=proxy)
    scratch = FeatureCache(tmp_path)
    context = RunContext(extractor, card, load_card("model", "pixels"), scratch, scratch, 0)
    with np.load(DATA, allow_pickle=False) as golden:
        wanted = {key: golden[key] for key in golden.files}
    for _, sample, pieces, _ in adapter.name_cosines(context, test.reader, test.indices):
        cosines_THW = torch.cat(list(pieces), 1).numpy()
        assert np.abs(cosines_THW[:, ::4, ::4] - wanted[f"{case}/{sample.id}/cosines"]).max() < 1e-4
    pixels = equal = 0
    for found in adapter._predict(context, test.reader, test.indices, None):
        theirs_HW = wanted[f"{case}/{found.sample.id}/classes"]
        assert len(np.unique(theirs_HW)) > 1
        pixels, equal = pixels + theirs_HW.size, equal + int((found.predicted_SHW[0] == theirs_HW).sum())
    assert equal / pixels >= 0.9999, f"{pixels - equal} of {pixels} pixels differ"


def test_names_are_embedded_as_the_sources_do_it(of_open_clip: OpenClipEncoder, tmp_path: Path) -> None:
    names = [name for names in NAMES for name in names]
    found_TD = embed_names(of_open_clip, names, prompts_of("openai-80"), FeatureCache(tmp_path))
    with np.load(DATA, allow_pickle=False) as golden:
        for case in CASES:
            assert np.abs(found_TD.numpy() - golden[f"{case}/texts"]).max() < 1e-5


@pytest.mark.parametrize("attention", ["sclip", "naclip", "clearclip"])
@pytest.mark.parametrize("positions", ["encoder", "dino"])
def test_both_libraries_read_the_same_tower_alike(
    attention: Attention, positions: Any, of_open_clip: OpenClipEncoder, of_transformers: TransformersEncoder
) -> None:
    side = 64 if positions == "encoder" else 96  # the libraries have position embeddings of their own at other sizes
    pixels, reading = torch.rand(2, 3, side, 64, generator=torch.Generator().manual_seed(0)), Reading(attention, positions)
    first, second = (encoder.read_image(pixels, reading)[0] for encoder in (of_open_clip, of_transformers))
    assert first.shape == (2, side // 16, 4, 32) and torch.allclose(first, second, atol=1e-4)
