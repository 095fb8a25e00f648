"""benchmarks/corpus_seeds.py, raw_corpus.py and scaling_law.py: differences over seeds, what is planted and found, and the fit."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from benchmarks import caption_agreement, raw_corpus, rooms_describer, scaling_law
from benchmarks.corpus_seeds import SHIPPED, Length, changes, paired, table
from benchmarks.raw_corpus import Planted, copied_rows, copies_of, left_over, picture, swapped
from tips_bench.cards import load_card
from tips_bench.corpus.captioners.base import Question
from tips_bench.corpus.curation.agreeing import WebCaptions
from tips_bench.corpus.store import Sample, read_samples, write_shard
from tips_bench.training.recipe_files import load_recipe

WIDTHS_R, SIZES_R = np.repeat([0.3e6, 1.0e6, 3.6e6], 3), np.tile([512.0, 2048.0, 7680.0], 3)
VALUES = np.array([2.5, 0.3, 0.4, 0.5, 0.6])


def losses() -> np.ndarray:
    """Of nine runs that follow the law exactly."""
    center = float(np.exp(np.log(WIDTHS_R).mean())), float(np.exp(np.log(SIZES_R).mean()))
    floor, a, alpha, b, beta = VALUES
    return np.asarray(floor + a * (center[0] / WIDTHS_R) ** alpha + b * (center[1] / SIZES_R) ** beta)


def test_a_difference_over_seeds_has_the_interval_of_a_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    before_S, after_S = rng.normal(size=5), rng.normal(1, 1, 5)
    found, expected = paired(list(before_S), list(after_S)), stats.ttest_rel(after_S, before_S).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    with pytest.raises(ValueError, match="no spread"):
        paired([1.0], [2.0])


def test_the_table_marks_only_differences_whose_interval_leaves_zero_out() -> None:
    text = table({"score": {"raw": [1.0, 1.1, 0.9], "engine": [2.0, 2.1, 1.91], "clean": [0.0, 2.0, 1.0]}}, "raw")
    assert "**+1.00" in text and "| -0.00 [" in text.replace("+0.00", "-0.00")


@pytest.mark.parametrize(("length", "steps"), [("short", [250, 75]), ("on", [300]), ("full", [12000, 3600])])
def test_a_run_has_the_length_that_was_asked_for_and_five_looks_at_the_held_out_rooms(
    tmp_path: Path, length: Length, steps: list[int]
) -> None:
    recipe = load_recipe(SHIPPED, changes("whole", 3, f"{tmp_path}/*.tar", tmp_path, length))
    assert [stage.steps for stage in recipe.stages] == steps
    assert recipe.seed == 3 and recipe.data.held_out is not None and sum(steps) // recipe.data.held_out.every == 5
    assert (recipe.model.begin.vision is not None) == (length == "on")


def test_the_fit_finds_the_law_that_the_runs_follow_and_says_what_another_run_has() -> None:
    law = scaling_law.fit_law(WIDTHS_R, SIZES_R, losses())
    assert law.values == pytest.approx(VALUES, rel=1e-4)
    value, low, high = law.predict(7.8e6, 4096)
    center = law.center
    assert value == pytest.approx(2.5 + 0.3 * (center[0] / 7.8e6) ** 0.4 + 0.5 * (center[1] / 4096) ** 0.6, rel=1e-4)
    assert low <= value <= high


def test_most_intervals_of_predictions_hold_what_is_measured() -> None:
    rng, hits = np.random.default_rng(0), 0
    floor, a, alpha, b, beta = VALUES
    for _ in range(60):
        law = scaling_law.fit_law(WIDTHS_R, SIZES_R, losses() + rng.normal(0, 0.005, 9))
        truth = floor + a * (law.center[0] / 2e6) ** alpha + b * (law.center[1] / 4096) ** beta
        _, low, high = law.predict(2e6, 4096)
        hits += low <= truth + rng.normal(0, 0.005) <= high
    assert hits >= 51


def test_a_surface_on_logarithms_has_its_terms_and_says_what_another_run_has() -> None:
    n_R, d_R = np.log2(WIDTHS_R) - np.log2(WIDTHS_R).mean(), np.log2(SIZES_R) - np.log2(SIZES_R).mean()
    values_R = 1 + 0.5 * n_R - 0.25 * d_R + 0.125 * n_R * d_R + np.random.default_rng(0).normal(0, 0.01, 9)
    surface = scaling_law.fit_surface(WIDTHS_R, SIZES_R, values_R, (2 * float(WIDTHS_R[0]), float(SIZES_R[0])))
    truth = dict(zip(scaling_law.TERMS, (1, 0.5, -0.25, 0.125, 0), strict=True))
    assert all(low < truth[name] < high for name, (_, low, high) in surface.terms.items())
    assert surface.sd == pytest.approx(0.01, rel=0.6)
    n, d = float(n_R[0]) + 1, float(d_R[0])
    assert surface.further[1] < 1 + 0.5 * n - 0.25 * d + 0.125 * n * d < surface.further[2]


def test_the_size_of_towers_follows_from_three_widths() -> None:
    runs = [scaling_law.Run(width, 1, 0, 1000 + 30 * width + 7 * width**2, 0.0, 0.0, 0.0) for width in scaling_law.WIDTHS]
    assert scaling_law.towers(384, runs) == pytest.approx(1000 + 30 * 384 + 7 * 384**2)


def test_data_sizes_are_beginnings_of_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling_law, "SIZES", (2, 5))
    monkeypatch.setattr(scaling_law, "PREDICTED", (384, 3))
    monkeypatch.setattr(scaling_law, "SHARD", 2)
    write_shard(tmp_path / "train-000.tar", [Sample(f"{n}", b"x", "jpg", {"web": "w"}) for n in range(6)])
    scaling_law.subsets(tmp_path, tmp_path)
    keys = [[one.key for shard in sorted((tmp_path / f"data-{size}").glob("*.tar")) for one in read_samples(shard)] for size in (2, 3, 5)]
    assert keys[0] == keys[1][:2] == keys[2][:2] and keys[1] == keys[2][:3] and len(set(keys[2])) == 5


def room(key: str, seed: int) -> Planted:
    noise_HW3 = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise_HW3).save(out, "PNG")
    return Planted(Sample(key, out.getvalue(), "png", {"web": f"web {key}"}), "room", key, (f"all of {key}", f"names of {key}"))


def test_copies_show_what_their_originals_show_and_few_images_have_most_of_them() -> None:
    rooms = [room(f"{n}", n) for n in range(4)]
    made = list(copies_of(rooms, np.random.default_rng(0)))
    assert len(made) == 2 and all(one.sample.image != rooms[int(one.shows)].sample.image for one in made)
    assert all(one.synthetic == rooms[int(one.shows)].synthetic for one in made)
    counts = np.sort(np.bincount(copied_rows(1000, 5000, np.random.default_rng(0)), minlength=1000))[::-1]
    assert counts[:100].sum() > 2000 and counts[:100].sum() < 4000


def test_captions_that_are_handed_on_stay_the_same_captions() -> None:
    captions = [f"{n}" for n in range(100)]
    found = swapped(captions, np.random.default_rng(0))
    assert sorted(found) == sorted(captions) and sum(one != two for one, two in zip(captions, found, strict=True)) == 40


def test_what_a_curation_left_over_is_counted_by_what_was_planted() -> None:
    rows = [("room", "train00000_00_1"), ("copy", "train00000_00_1"), ("room", "train00000_00_2"), ("room", "train00001_00_1")]
    rows += [("copy", "train00001_00_1"), ("test", "val00001_00"), ("test", "val00002_00")]
    known = {f"{n}": {"kind": kind, "shows": shows} for n, (kind, shows) in enumerate(rows)}
    dropped = [
        {"image": "000.tar/1", "same_as": "000.tar/0"},
        {"image": "000.tar/2", "same_as": "000.tar/0"},
        {"image": "000.tar/5", "same_as": "rooms-retrieval (test)/COCO_val2014_000000500002"},
    ]
    found = left_over(known, dropped)
    assert (found["right pairs"], found["pairs of one room"], found.get("wrong pairs", 0)) == (2, 1, 0)
    assert (found["copies"], found["copies left"]) == (2, 1) and (found["test images"], found["test images left"]) == (2, 1)
    assert (found["pictures"], found["pictures lost"]) == (3, 1)
    assert picture("COCO_val2014_000000500021") == "val00020_00" and picture("val00020_01") == "val00020_01"


def test_the_describer_answers_each_prompt_with_its_own_caption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_corpus, "planted_tests", lambda rng: iter(()))
    samples = [room(f"train00000_00_{n}", n).sample for n in range(4)]
    for sample in samples:
        sample.said["synthetic"] = [f"all {sample.key}", f"names {sample.key}", f"one {sample.key}"]
    write_shard(tmp_path / "train-000.tar", samples)
    raw_corpus.plant([tmp_path / "train-000.tar"], tmp_path / "raw", tmp_path / "table.json", 0)
    monkeypatch.setenv(rooms_describer.TABLE, str(tmp_path / "table.json"))
    raw = list(read_samples(tmp_path / "raw" / "000.tar"))
    assert len(raw) == 6 and all("synthetic" not in one.said for one in raw)
    words = [load_card("prompt", name).text("a web caption", "a short one") for name in rooms_describer.PROMPTS]
    said = rooms_describer.describe([Question(raw[0].image, raw[0].extension, text, 64) for text in words])
    assert [one.split(" ")[0] for one in said] == ["names", "all", "one"] and len({one.split(" ")[1] for one in said}) == 1


def test_captions_of_other_images_are_counted_by_whether_they_stay() -> None:
    captions = WebCaptions(np.arange(10), np.zeros(10, np.int64), np.linspace(1, 0.1, 10, dtype=np.float32))
    right_T = np.array([True] * 5 + [False, True] + [False] * 3)
    lines = caption_agreement.table(right_T, captions).splitlines()
    assert lines[2 + caption_agreement.SHARES.index(0.6)] == "| 0.6 | 0.500 | 0.75 | 0.75 | 0.83 | 0.83 |"
