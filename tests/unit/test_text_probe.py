"""Prompts, text embeddings, several names a class, softmax in windows, and the threshold of a background."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.helpers.contexts import fitting
from tips_bench.cards import SelectionCard, WindowCard, parse
from tips_bench.encoders.base import EncoderSpec
from tips_bench.errors import UserError
from tips_bench.features import geometry
from tips_bench.features.cache import FeatureCache
from tips_bench.features.geometry import Windows
from tips_bench.features.probabilities import Probabilities
from tips_bench.features.prompts import embed_names
from tips_bench.metrics.segmentation import count, summary
from tips_bench.probes.training_free.class_names import TextHead, TextOptions, Threshold, best_class, choose_threshold

OPTIONS = {"type": "text", "prompts": ["a {}.", "the {}."], "softmax": None, "upsample": "image", "background": "names"}


class Texts:
    """An encoder whose text embeddings are drawn from the text."""

    def __init__(self, seed: int = 0) -> None:
        self.device, self.dtype, self.seed, self.asked = torch.device("cpu"), torch.float32, seed, []
        stated = {"patch_size": 1, "embed_dim": 8, "depth": 1, "mean": (0, 0, 0), "std": (1, 1, 1), "resolution": 8, "global_tokens": 1}
        self.spec = EncoderSpec(name="texts", has_text=True, weights_sha256="x", license="x", **stated)

    def encode_text(self, texts):
        self.asked += texts
        return torch.stack([torch.randn(8, generator=torch.Generator().manual_seed(self.seed + sum(map(ord, text)))) for text in texts])


def test_an_embedding_is_the_normalised_mean_of_the_normalised_prompts(tmp_path):
    encoder = Texts()
    found = embed_names(encoder, ["cat", "red book"], ["a {}.", "the {}: {}"], FeatureCache(tmp_path))
    for embedding_D, texts in zip(found, (["a cat.", "the cat: cat"], ["a red book.", "the red book: red book"]), strict=True):
        wanted = F.normalize(encoder.encode_text(texts).double(), dim=1).mean(0)
        assert torch.allclose(embedding_D.double(), wanted / wanted.norm(), atol=1e-6)


def test_a_killed_run_embeds_only_the_names_that_are_missing(tmp_path):
    cache, encoder = FeatureCache(tmp_path), Texts()

    def dying(texts, ask=encoder.encode_text):
        if texts[0] == "a dog.":
            raise KeyboardInterrupt
        return ask(texts)

    encoder.encode_text = dying
    with pytest.raises(KeyboardInterrupt):
        embed_names(encoder, ["cat", "dog"], ["a {}."], cache)
    cache.close()
    again = Texts()
    found = embed_names(again, ["cat", "dog"], ["a {}."], FeatureCache(tmp_path))
    assert again.asked == ["a cat.", "a dog."]  # the first tells the tower, the second was missing
    assert torch.equal(found, embed_names(Texts(), ["cat", "dog"], ["a {}."], FeatureCache(tmp_path / "other")))


def test_a_cache_serves_all_sets_and_knows_another_tower_and_other_prompts(tmp_path):
    names, prompts = ["cat", "dog", "cow"], ["a {}.", "the {}."]
    asked = []
    for seed, chosen in ((0, prompts), (0, prompts), (1, prompts), (0, prompts[:1])):
        encoder = Texts(seed)
        embed_names(encoder, names, chosen, FeatureCache(tmp_path, "texts"))
        asked.append(len(encoder.asked))
    assert asked == [7, 1, 7, 4]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompts": []}, "there is no prompt"),
        ({"prompts": ["a photo."]}, r"'a photo\.' has no place for the name: put \{\} where it goes"),
        ({"prompts": ["a {name}."]}, r"'a \{name\}\.' has no place for the name"),
        ({"prompts": ["{} and {0}"]}, "a brace beside"),
        ({"prompts": ["a {}.", "a {}."]}, r"'a \{\}\.' is there twice"),
        ({"softmax": 1.0, "upsample": "labels"}, "a softmax is taken in the pixels of the image"),
        ({"softmax": 0.0}, "greater than 0"),
        ({"shares": [0.1]}, "background names has no threshold"),
        ({"background": "threshold"}, "needs either threshold or shares"),
        ({"background": "threshold", "threshold": 0.1, "shares": [0.1]}, "needs either threshold or shares"),
        ({"background": "threshold", "shares": [0.5, 0.1]}, "shares ascend"),
        ({"background": "threshold", "shares": [1.0]}, "shares ascend"),
    ],
)
def test_wrong_options_are_one_sentence(changes, words):
    with pytest.raises(UserError, match=words) as error:
        parse(TextOptions, OPTIONS | changes, where="protocol x", prefix="probe.")
    assert "\n" not in str(error.value)


def test_a_class_of_several_names_has_the_best_of_their_cosines_and_can_be_left_out():
    generator = torch.Generator().manual_seed(0)
    weight_TD = F.normalize(torch.randn(5, 8, generator=generator), dim=1)
    head = TextHead(weight_TD, torch.tensor([0, 1, 1, 2, 0]), torch.arange(3))
    features = torch.randn(2, 3, 4, 8, generator=generator)
    cosines = F.cosine_similarity(features[:, None].double(), weight_TD[None, :, None, None].double(), dim=-1)
    wanted = torch.stack([cosines[:, [0, 4]].amax(1), cosines[:, [1, 2]].amax(1), cosines[:, 3]], 1)
    assert torch.allclose(head(features).double(), wanted, atol=1e-6)
    rest = head.without(0)
    assert torch.equal(rest(features), head(features)[:, 1:]) and rest.id_C.tolist() == [1, 2]
    assert best_class(iter([rest(features)[0]]), rest.id_C)[1].min() == 1


@settings(max_examples=25, deadline=None)
@given(
    inner=st.tuples(st.integers(5, 24), st.integers(5, 24)),
    outer=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    window=st.integers(3, 20),
    stride=st.integers(1, 20),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_probabilities_are_averaged_pixel_by_pixel(inner, outer, window, stride, padding):
    windows = Windows.of(inner, WindowCard(mode="slide", window=window, stride=min(stride, window)))
    scores_NChw = 3 * torch.randn(len(windows.tops) * len(windows.lefts), 4, 3, 2, generator=torch.Generator().manual_seed(1))
    found = torch.cat(list(Probabilities.of((3, 2), padding, windows, outer).row_chunks(scores_NChw)), 1)
    left, top, right, bottom = padding
    height, width = windows.size
    total, cover = torch.zeros(4, *inner).double(), torch.zeros(inner)
    for (y, x), scores_Chw in zip(itertools.product(windows.tops, windows.lefts), scores_NChw.double(), strict=True):
        size = top + height + bottom, left + width + right
        pixels = F.interpolate(scores_Chw[None], size, mode="bilinear")[0, :, top : top + height, left : left + width]
        total[:, y : y + height, x : x + width] += pixels.softmax(0)
        cover[y : y + height, x : x + width] += 1
    wanted = F.interpolate((total / cover)[None], outer, mode="bilinear")[0]
    assert torch.allclose(found.double(), wanted, atol=1e-5)


def test_few_rows_at_a_time_are_the_same_rows(monkeypatch):
    windows = Windows.of((20, 30), WindowCard(mode="slide", window=14, stride=9))
    scores = torch.randn(len(windows.tops) * len(windows.lefts), 5, 3, 3, generator=torch.Generator().manual_seed(2))
    probabilities = Probabilities.of((3, 3), (0, 0, 0, 0), windows, (33, 21))
    whole = torch.cat(list(probabilities.row_chunks(scores)), 1)
    monkeypatch.setitem(geometry.CHUNK_ELEMENTS, "cpu", 400)
    pieces = list(probabilities.row_chunks(scores))
    assert len(pieces) > 5 and torch.allclose(torch.cat(pieces, 1), whole, atol=1e-6)


class Maps:
    """A training split of 20 images in which class 0 is background and low scores mean background."""

    name, classes = "maps", ["background", "a", "b"]

    def __init__(self) -> None:
        self.ids = self.groups = [f"{number:02d}" for number in range(20)]
        rng = np.random.default_rng(0)
        self.labels = rng.integers(0, 3, (20, 6, 7)).astype(np.uint8)
        self.scores = np.where(self.labels > 0, rng.uniform(0.3, 1, (20, 6, 7)), rng.uniform(0, 0.5, (20, 6, 7))).astype(np.float32)
        self.guesses = np.where(self.labels > 0, self.labels, rng.integers(1, 3, (20, 6, 7))).astype(np.uint8)
        self.labels[:, 0, :2] = 255
        self.seen: list[int] = []

    def size(self, index):
        return 6, 7

    def score(self, indices):
        for index in indices:
            self.seen.append(index)
            yield index, SimpleNamespace(id=self.ids[index], labels_HW=self.labels[index]), self.scores[index], self.guesses[index], None


def context(maps, folder, indices):
    return fitting(None, maps, folder, indices=indices, selection=SelectionCard(fraction=0.3))


def test_a_threshold_is_the_best_of_its_candidates_on_held_out_training_images(tmp_path):
    maps, shares = Maps(), [0.0, 0.2, 0.4, 0.6, 0.8]
    value, choice = choose_threshold(*context(maps, tmp_path, list(range(2, 20))), maps.score, shares, 0)
    assert choice.held_out == len(maps.seen) == 5 and min(maps.seen) >= 2
    kept = maps.labels[maps.seen] != 255
    thresholds = np.quantile(maps.scores[maps.seen][kept].astype(np.float64), shares)
    wanted = []
    for threshold in thresholds:
        counts = [count(np.where(maps.scores[i] < threshold, np.uint8(0), maps.guesses[i]), maps.labels[i], 3) for i in maps.seen]
        wanted.append(float(summary(np.sum(counts, axis=0))["mIoU"]))
    assert choice.scores == pytest.approx(wanted, abs=1e-9)
    assert value == pytest.approx(thresholds[int(np.argmax(wanted))]) and choice.index == int(np.argmax(wanted)) > 0
    assert [point["share"] for point in choice.grid] == shares
    Threshold(value).save(tmp_path / "head.npz")
    assert Threshold.load(tmp_path / "head.npz") == Threshold(value)
    (tmp_path / "head.npz").write_bytes(b"no")
    with pytest.raises(UserError, match="not a saved threshold"):
        Threshold.load(tmp_path / "head.npz")


def test_a_killed_choice_is_taken_up(tmp_path):
    maps = Maps()
    whole = choose_threshold(*context(maps, tmp_path / "a", list(range(20))), maps.score, [0.1, 0.5], 0)
    held = sorted(maps.seen)

    def dying(indices):
        yield from maps.score(indices[:2])
        raise KeyboardInterrupt

    broken = context(maps, tmp_path / "b", list(range(20)))
    with pytest.raises(KeyboardInterrupt):
        choose_threshold(*broken, dying, [0.1, 0.5], 0)
    broken.context.scratch.close()
    maps.seen = []
    assert choose_threshold(*context(maps, tmp_path / "b", list(range(20))), maps.score, [0.1, 0.5], 0) == whole
    assert maps.seen == held[2:]


def test_held_out_images_without_a_label_are_refused(tmp_path):
    maps = Maps()
    maps.labels[:] = 255
    with pytest.raises(UserError, match="no pixel of the 6 held-out training images is labelled"):
        choose_threshold(*context(maps, tmp_path, list(range(20))), maps.score, [0.1], 0)
