"""The package from Python: a user's own encoder as an object, features from the cache, and what help() teaches."""

import ast

import numpy as np
import pytest
import torch
from PIL import Image

import tips_bench
from tips_bench import load_encoder, load_features, load_record
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.user import wrap
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.evaluation.spec import resolve
from tips_bench.features.extract import Extractor

SMALL = ["image.short_side=84", "probe.max_patches=600"]


class Colors(torch.nn.Module):
    """A user's own backbone: the mean color of each patch of 14 pixels, shifted by a weight."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor(shift))

    def forward(self, pixels_B3HW):
        return torch.nn.functional.avg_pool2d(pixels_B3HW, 14) + self.shift


def test_an_encoder_is_scored_as_an_object_and_a_module_stays_as_it_was(shapes):
    mine = Colors().double().train()
    record = evaluate("shapes", mine, out=shapes / "a", overrides=SMALL)
    assert mine.training and mine.shift.requires_grad and mine.shift.dtype == torch.float64
    assert record.model.endswith(":Colors") and record.weights is None and record.weights_sha256.startswith("output:")
    assert record.cards["model"]["embed_dim"] == 3 and record.cards["model"]["patch_size"] == 14
    function = evaluate("shapes", lambda pixels: torch.nn.functional.avg_pool2d(pixels, 14), out=shapes / "b", overrides=SMALL)
    assert function.model.endswith(":lambda") and function.metrics == record.metrics
    again = evaluate("shapes", wrap(mine), out=shapes / "a", overrides=SMALL, rerun=True)
    assert again.metrics == record.metrics and again.path == record.path
    other = evaluate("shapes", Colors(0.5), out=shapes / "a", overrides=SMALL)
    assert other.path != record.path and other.model == record.model


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (Colors, {}, "a type is no encoder. Give an Encoder, an nn.Module or a function of pixels, not its class."),
        (3, {}, "a int is no encoder"),
        (Colors(), {"weights": "w.pth"}, "weights = 'w.pth': the model is a Python object, not a card"),
        (Colors(), {"overrides": ["model.pad=resize"]}, "model.pad=resize: the model is a Python object, not a card"),
        (lambda pixels: pixels.mean((2, 3)), {}, r"it gave torch.float32 \[1, 3\] for pixels"),
    ],
)
def test_an_object_that_cannot_be_scored_is_one_sentence(shapes, model, options, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate("shapes", model, out=shapes / "a", **options)


def test_an_encoder_says_what_it_is():
    assert repr(load_encoder("tips-tiny-random", device="cpu", dtype="bf16")) == (
        "<TipsEncoder tips-tiny-random: patch 14, 192 features, 4 blocks; bfloat16 on cpu>"
    )


def test_the_features_of_a_split_are_loaded_from_the_cache_without_an_encoder(shapes, monkeypatch):
    options = {"out": shapes / "a", "overrides": SMALL}
    plain = evaluate("shapes", "tips-tiny-random", **options)
    with pytest.raises(UserError, match=r"the cache holds no features of 'test' .*Make them: tips-bench run .* --cache --rerun"):
        load_features(plain)
    record = evaluate("shapes", "tips-tiny-random", cache=True, rerun=True, dtype="fp32", **options)
    assert record.features_id == plain.features_id
    spec = resolve("shapes", "tips-tiny-random", overrides=SMALL)
    extractor = Extractor(load_encoder("tips-tiny-random", device="cpu"), spec.protocol.image, spec.protocol.features)
    image_HW3 = np.asarray(Image.open(shapes / "data" / "shapes" / "images" / "val" / "001.png"))
    expected_hwD = extractor.encode(extractor.pixels(image_HW3)[None]).features_BhwD[0].numpy()
    monkeypatch.setattr(Encoder, "encode_image", None)
    found = load_features(load_record(record.path))
    assert set(found) == set(record.counts().index) and len(found) == 8
    (one,) = (features_hwD for id, features_hwD in found.items() if "001" in id)
    assert one.shape == expected_hwD.shape == (7, 6, 192)
    np.testing.assert_allclose(one, expected_hwD, atol=1e-5)
    with pytest.raises(UserError, match="there is no split 'dev'"):
        load_features(record, "dev")


def test_the_names_at_the_top_are_there_and_help_tells_of_each():
    for name in tips_bench.__all__:
        assert getattr(tips_bench, name) is not None
        assert name in ("__version__", "Record") or name in tips_bench.__doc__
    assert {"tips-nano", "pixels"} <= set(tips_bench.list_models()) and "convex" in tips_bench.list_protocols()
    for line in tips_bench.__doc__.splitlines():
        if line.startswith("    "):
            ast.parse(line.strip())
