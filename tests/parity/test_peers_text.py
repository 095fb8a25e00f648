"""Retrieval, zero-shot classification, prompts and text against numbers that CLIP_benchmark's and big_vision's own functions computed."""

from __future__ import annotations

import hashlib
import importlib.util
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.contract.test_encoders import make_folder
from tests.helpers.tokenizer_files import odd_texts, write_spiece
from tips_bench import load_encoder
from tips_bench.cards import FeatureCard, ImageCard, load_card
from tips_bench.encoders.transformers import TransformersEncoder
from tips_bench.features.cache import FeatureCache
from tips_bench.features.class_prompts import BIG_VISION_PROMPTS, OPENAI_NAMES, canonical, canonical_name, names_of, prompts_of
from tips_bench.features.extract import Extractor
from tips_bench.features.prompts import embed_names
from tips_bench.metrics.classification import count, summary
from tips_bench.metrics.ranks import count_images, fixed_point
from tips_bench.metrics.retrieval import summary as retrieval_summary
from tips_bench.probes.image_heads import Affine, AffineHeads, rank_all

DATA = Path(__file__).parent / "data"
CASES = (0, 1, 2)  # five captions an image, one, three to seven


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / name, allow_pickle=False) as archive:
        return dict(archive)


def scored(case: int) -> dict[str, float]:
    """Our metrics in percent."""
    stored = golden("clip_benchmark.npz")
    images_ID, texts_TD, starts = (stored[f"retrieval/{case}/{key}"] for key in ("images", "texts", "starts"))
    counts_IM = count_images(fixed_point(images_ID), fixed_point(texts_TD), starts)
    return {name: float(value) for name, value in retrieval_summary(counts_IM.sum(0)[None]).items()}


@pytest.mark.parametrize("case", CASES)
def test_retrieval_is_that_of_clip_benchmark_and_of_big_vision(case: int) -> None:
    found, first, second = scored(case), golden("clip_benchmark.npz"), golden("big_vision.npz")
    for k in (1, 5, 10):
        for ours, theirs, side in (
            ("text-to-image R", "image_retrieval", "text_to_image"),
            ("image-to-text R", "text_retrieval", "image_to_text"),
        ):
            value = found[f"{ours}@{k}"] / 100
            assert value == pytest.approx(float(first[f"retrieval/{case}/{theirs}_recall@{k}"]), abs=1e-6)
            assert value == pytest.approx(float(second[f"retrieval/{case}/{side}/Recall@{k}"]), abs=1e-12)
    assert 0.5 < found["text-to-image R@1"] / 100 < 0.8, "a set on which ranks differ"


def test_zero_shot_classification_is_that_of_clip_benchmark(tmp_path: Path) -> None:
    stored = golden("clip_benchmark.npz")
    texts_CPD, images_ND, labels_N = (stored[f"classification/{key}"] for key in ("texts", "images", "labels"))
    classes, prompts, dim = texts_CPD.shape
    encoder = load_encoder("tips-tiny-random", device="cpu")

    def encode_text(texts: list[str]) -> torch.Tensor:
        return torch.from_numpy(np.stack([texts_CPD[tuple(map(int, text.split("|")))] for text in texts]))

    encoder.encode_text = encode_text  # type: ignore[method-assign]
    names, filled = [str(number) for number in range(classes)], [f"{{}}|{number}" for number in range(prompts)]
    weight_CD = embed_names(encoder, names, filled, FeatureCache(tmp_path))
    assert np.abs(weight_CD.numpy().T - stored["classification/classifier"]).max() <= 1e-6
    head = AffineHeads([Affine(np.arange(dim), weight_CD[None], torch.zeros(1, classes))], None)
    ranks_NS = rank_all(head, images_ND, labels_N)
    found = summary(np.stack([count(ranks_S, None) for ranks_S in ranks_NS]).sum(0)[None])
    for top in (1, 5):
        assert float(found[f"top{top}"][0]) / 100 == pytest.approx(float(stored[f"classification/top{top}"]), abs=1e-12)


def sha256(texts: list[str]) -> bytes:
    return hashlib.sha256("\n".join(texts).encode()).digest()


def test_prompts_and_names_are_those_of_big_vision() -> None:
    stored = golden("big_vision.npz")
    prompts = prompts_of(BIG_VISION_PROMPTS)
    assert len(prompts) == int(stored["prompts/number"]) == 81
    assert sha256(sorted(prompts)) == stored["prompts/sha256_of_sorted"].tobytes()
    names = [canonical_name(name) for name in names_of(OPENAI_NAMES, [""] * 1000, where="test")]
    assert sha256(names) == stored["names/sha256"].tobytes()


def test_texts_are_made_canonical_as_big_vision_does_it() -> None:
    wanted = golden("big_vision.npz")["canonical/sha256_of_each"]
    texts = odd_texts()
    assert len(texts) == len(wanted) == 240
    assert [text for text, each in zip(texts, wanted, strict=True) if sha256([canonical(text, kept="{}{}")]) != each.tobytes()] == []


@pytest.mark.skipif(
    importlib.util.find_spec("google") is None, reason="protobuf is not installed: transformers cannot read SigLIP's tokenizer"
)
def test_siglip_reads_the_ids_of_big_vision(tmp_path: Path) -> None:
    """big_vision lets the evaluation make texts canonical, transformers the tokenizer: on texts that are, the ids are equal."""
    stored, texts = golden("big_vision.npz"), odd_texts()
    write_spiece(make_folder("siglip", tmp_path))
    (tmp_path / "spiece.model").write_bytes(stored["tokens/model"].tobytes())
    encoder = load_encoder(tmp_path, device="cpu")
    assert isinstance(encoder, TransformersEncoder)
    found = encoder._tokenized(texts)["input_ids"].numpy()
    wanted = stored["tokens/ids_of_canonical"]
    assert found.shape == wanted.shape
    plain = [place for place, text in enumerate(texts) if "_" not in text]  # transformers drops what big_vision makes a space
    assert [texts[place] for place in plain if not np.array_equal(found[place], wanted[place])] == []


@pytest.mark.parametrize("shape", ["97x140", "60x50"])
def test_pixels_are_those_of_big_vision_but_for_the_rounding(shape: str) -> None:
    height, width = map(int, shape.split("x"))
    image_HW3 = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    spec = load_card("model", "siglip-b16")
    card: ImageCard = load_card("protocol", "zeroshot-bigvision").image
    encoder = types.SimpleNamespace(
        spec=types.SimpleNamespace(resolution=64, depth=spec.depth, patch_size=16, preprocessing=None, name="small")
    )
    encoder.resolve_layers = lambda layers: layers
    found_3HW = Extractor(encoder, card, FeatureCard()).pixels(image_HW3)  # type: ignore[arg-type]
    wanted_HW3 = golden("big_vision.npz")[f"pixels/{shape}"].astype(int)
    difference = np.rint(found_3HW.numpy().transpose(1, 2, 0) * 255).astype(int) - wanted_HW3
    assert set(np.unique(difference)) <= {0, 1}, "OpenCV rounds where big_vision cuts"
