"""`corpus curate --agree`: web captions are compared with their images, and those that agree least go, whatever stops it."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch.nn import functional as F

from tests.helpers.curation import drawing, encoded
from tests.helpers.kills import kills_at_each_file
from tests.helpers.text_models import CORPUS, small_tips
from tips_bench.corpus.card import CROISSANT, README
from tips_bench.corpus.check import check_corpus
from tips_bench.corpus.curation.card import curation_card
from tips_bench.corpus.curation.curate import TAKEN_OUT, curate
from tips_bench.corpus.curation.signatures import Signer
from tips_bench.corpus.curation.wish import Wish
from tips_bench.corpus.plan import curation_plan
from tips_bench.corpus.store import Sample, read_samples, shards_of, write_shard
from tips_bench.encoders import load_encoder
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen

TWO = "07"  # the image with two web captions
NONE, GONE = "08", "no web caption agrees with the image"


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signer:
    """Two shards of six images each, and an encoder at random."""
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    for shard in range(2):
        samples = [Sample(f"{one:02d}", encoded(drawing(one)), "png", _said(one)) for one in range(6 * shard, 6 * shard + 6)]
        write_shard(tmp_path / "raw" / f"{shard:03d}.tar", samples)
    return Signer(small_tips(tmp_path / "model"), device="cpu")


def _said(one: int) -> dict[str, Any]:
    texts = [f"{CORPUS[one % 5]} {CORPUS[(one + 2) % 5]}", CORPUS[one % 3]]
    web = {TWO: texts, NONE: None}.get(f"{one:02d}", texts[0])
    return {"synthetic": ["drawn"]} | ({} if web is None else {"web": web})


def samples_of(folder: Path) -> dict[str, Sample]:
    """Key in the source -> sample."""
    found = [sample for shard in shards_of(folder) for sample in read_samples(shard)]
    return {str(sample.said.get("origin", sample.key)).rpartition("/")[2]: sample for sample in found}


def cosines(folder: Path, signer: Signer) -> dict[tuple[str, int], float]:
    """(key, number of the web caption) -> its cosine, one image and one text at a time."""
    encoder, found = load_encoder(signer.model, device="cpu"), {}
    for key, sample in samples_of(folder).items():
        image_HW3 = np.asarray(Image.open(io.BytesIO(sample.image)).resize((56, 56), Image.Resampling.BILINEAR))
        image_D = encoder.embed_image(torch.tensor(image_HW3).permute(2, 0, 1)[None] / 255)[0, 0]
        web = sample.said.get("web", [])
        for number, text in enumerate(web if isinstance(web, list) else [web]):
            found[key, number] = float(F.cosine_similarity(image_D, encoder.encode_text([text])[0], dim=0))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name not in (CROISSANT, README)}


@pytest.mark.parametrize("share", [0.75, 0.34])
def test_captions_that_agree_best_stay_and_an_image_that_loses_all_goes(tmp_path: Path, signer: Signer, share: float) -> None:
    made = curate(tmp_path / "raw", tmp_path / "out", Wish(signer, agree=share))
    known, raw, out = cosines(tmp_path / "raw", signer), samples_of(tmp_path / "raw"), samples_of(tmp_path / "out")
    agree = sorted(known, key=lambda caption: -known[caption])[: round(share * len(known))]
    assert set(out) == {key for key, _ in agree} | {NONE}
    step = made.steps[-1]
    assert step.settings["agree"] == share and step.dropped == {GONE: len(raw) - len(out)}
    two = [text for number, text in enumerate(raw[TWO].said["web"]) if (TWO, number) in agree]
    assert step.notes == {TAKEN_OUT: 2 - len(two) if two else 0}
    if len(two) == 1:
        raw[TWO].said["web"] = two
    assert all(sample.said["synthetic"] == ["drawn"] and sample.said.get("web") == raw[key].said.get("web") for key, sample in out.items())
    lines = [json.loads(line) for line in (tmp_path / "out" / "captions.jsonl").read_text().splitlines()]
    gone = {(line["image"].rpartition("/")[2], line["web"]): line["cosine"] for line in lines}
    assert set(gone) == set(known) - set(agree)
    assert all(gone[caption] == pytest.approx(known[caption], abs=0.01) for caption in gone)


def test_what_was_taken_out_is_told_on_the_page_the_card_and_by_the_check(tmp_path: Path, signer: Signer) -> None:
    known = cosines(tmp_path / "raw", signer)
    better = max((TWO, 0), (TWO, 1), key=lambda caption: known[caption])
    share = (sorted(known.values(), reverse=True).index(known[better]) + 1) / len(known)
    curate(tmp_path / "raw", tmp_path / "out", Wish(signer, agree=share))
    assert ("curate: " + TAKEN_OUT, "1") in check_corpus(tmp_path / "out").facts()
    assert f"{TAKEN_OUT} | 1 |" in (tmp_path / "out" / README).read_text() and TAKEN_OUT in (tmp_path / "out" / CROISSANT).read_text()
    page = (tmp_path / "out" / "curation.html").read_text()
    assert f"12 web captions were compared with their images, {round(share * 12)} agree" in page and page.count("<figure>") == 12


def test_of_copies_one_whose_caption_agrees_stays_though_it_is_smaller(tmp_path: Path, signer: Signer) -> None:
    small, large = drawing(1), drawing(1).resize((320, 240))
    write_shard(tmp_path / "texts" / "000.tar", [Sample("a", encoded(small), "png", {"web": CORPUS})])
    order = sorted(range(len(CORPUS)), key=lambda number: cosines(tmp_path / "texts", signer)["a", number])
    said = {"a-small": (small, CORPUS[order[-1]]), "large": (large, CORPUS[order[0]])}
    write_shard(tmp_path / "copies" / "000.tar", [Sample(key, encoded(image), "png", {"web": text}) for key, (image, text) in said.items()])
    curate(tmp_path / "copies", tmp_path / "by-size", Wish(signer, dedup=True))
    curate(tmp_path / "copies", tmp_path / "by-caption", Wish(signer, dedup=True, agree=0.5))
    assert set(samples_of(tmp_path / "by-size")) == {"large"} and set(samples_of(tmp_path / "by-caption")) == {"a-small"}


def test_copies_that_are_known_by_one_whose_caption_is_lost_are_compared_with_each_other(tmp_path: Path, signer: Signer) -> None:
    """Each has one candidate: a brighter and a darker copy have the picture between them, which goes."""
    brightness = ImageEnhance.Brightness(drawing(1))
    images = {"picture": drawing(1), "brighter": brightness.enhance(1.2), "darker": brightness.enhance(0.8), "other": drawing(2)}
    write_shard(tmp_path / "texts" / "000.tar", [Sample(key, encoded(image), "png", {"web": CORPUS}) for key, image in images.items()])
    known = cosines(tmp_path / "texts", signer)
    order = {key: sorted(range(len(CORPUS)), key=lambda number: known[key, number]) for key in images}
    said = {key: CORPUS[order[key][0 if key == "picture" else -1]] for key in images}
    assert known["picture", order["picture"][0]] < min(known[key, order[key][-1]] for key in images if key != "picture")
    write_shard(tmp_path / "copies" / "000.tar", [Sample(key, encoded(image), "png", {"web": said[key]}) for key, image in images.items()])
    for rounds, stay in ((0, {"brighter", "darker", "other"}), (1, {"brighter", "other"})):
        card = curation_card(["duplicates.neighbors=1", "duplicates.largest=0", "duplicates.bits=0", f"duplicates.rounds={rounds}"])
        curate(tmp_path / "copies", tmp_path / f"out-{rounds}", Wish(signer, card, dedup=True, agree=0.75))
        assert set(samples_of(tmp_path / f"out-{rounds}")) == stay


def test_shares_encoders_and_corpora_that_cannot_be_used_are_refused(tmp_path: Path, signer: Signer) -> None:
    raw = tmp_path / "raw"
    with pytest.raises(UserError, match=r"1\.5 is no share between 0 and 1"):
        curation_plan(raw, raw, Wish(signer, agree=1.5))
    with pytest.raises(UserError, match="encoder pixels has no text tower"):
        curate(raw, tmp_path / "out", Wish(Signer("pixels", device="cpu"), agree=0.5))
    write_shard(tmp_path / "mute" / "000.tar", [Sample("a", encoded(drawing(1)), "png", {"synthetic": "drawn"})])
    with pytest.raises(UserError, match="no image of the corpus has a web caption"):
        curate(tmp_path / "mute", tmp_path / "mute-out", Wish(signer, agree=0.5))
    assert curation_plan(raw, raw / "new", Wish(signer, agree=0.5))["images whose web captions are compared with them"] == 12


def test_stopped_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, looked_at = Wish(signer, curation_card(["samples=4"]), dedup=True, agree=0.7, keep=6), "shards that were looked at already"
    assert curation_plan(tmp_path / "raw", tmp_path / "once", asked)[looked_at] == 0
    curate(tmp_path / "raw", tmp_path / "once", asked)
    plan = curation_plan(tmp_path / "raw", tmp_path / "once", asked)
    assert plan[looked_at] == plan["shards"]
    kills = kills_at_each_file(lambda: curate(tmp_path / "raw", tmp_path / "killed", asked), monkeypatch)
    assert kills >= 5 and contents(tmp_path / "killed") == contents(tmp_path / "once")


@pytest.mark.nightly
def test_executors_make_the_same_corpus(tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    asked = Wish(signer, dedup=True, agree=0.7)
    curate(tmp_path / "raw", tmp_path / "here", asked)
    curate(tmp_path / "raw", tmp_path / "there", asked, Chosen("local", {}, at_once=2))
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
