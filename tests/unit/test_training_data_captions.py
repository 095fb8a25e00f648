"""Captions of a sample: read from .json or .txt, chosen for each global token, cut into pieces."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.shards import sample, small_recipe, write_shard, write_shards
from tips_bench.corpus.store import as_said
from tips_bench.errors import UserError
from tips_bench.models.tokenizer import Tokenizer
from tips_bench.training.batches import Report
from tips_bench.training.captions import Captions, choose, read_captions, tokenizer_file, train_tokenizer, wanted_kinds
from tips_bench.training.first_samples import check_first_samples
from tips_bench.training.recipe import ContrastivePart
from tips_bench.training.shards import SampleFault
from tips_bench.training.sources import shard_order

BOTH = ("web", "synthetic")


def in_json(**said: Any) -> dict[str, bytes]:
    return {"json": json.dumps(said).encode()}


def method(captions: list[list[str]], synthetic: str = "uniform") -> ContrastivePart:
    return ContrastivePart.model_validate({"weight": 1.0, "captions": captions, "synthetic": synthetic, "temperature": 0.07})


@pytest.mark.parametrize(
    ("members", "web", "synthetic"),
    [
        (in_json(web="a", synthetic=["b", "c"]), ["a"], ["b", "c"]),
        (in_json(web="a", synthetic="b", width=3), ["a"], ["b"]),
        (in_json(web=[" a "], synthetic="b\n"), ["a"], ["b"]),
        ({"txt": b"a\nb\nc\n"}, ["a"], ["b", "c"]),
        ({"txt": "ä\r\nb".encode()}, ["ä"], ["b"]),
        ({"txt": b"x\ny", **in_json(web="a", synthetic="b")}, ["a"], ["b"]),
    ],
)
def test_captions_are_read_from_json_or_else_from_the_lines_of_a_text(
    members: dict[str, bytes], web: list[str], synthetic: list[str]
) -> None:
    assert read_captions(members, BOTH) == Captions(web, synthetic)


@pytest.mark.parametrize(
    ("members", "web"),
    [
        ({"txt": b"x", **in_json(caption="x", key="0", status="success")}, ["x"]),
        ({"txt": b"Sofa\n- 2 seats\n", **in_json(caption="Sofa\n- 2 seats\n", url="https://a")}, ["Sofa\n- 2 seats"]),
        (in_json(caption="a room"), ["a room"]),
        (in_json(caption=["a room", "again"]), ["a room", "again"]),
        (in_json(caption="other", web="a room"), ["a room"]),
    ],
    ids=["img2dataset", "alt-text of two lines", "hugging face", "several", "web comes first"],
)
def test_a_caption_key_is_the_web_caption_as_img2dataset_datacomp_and_hugging_face_have_it(
    members: dict[str, bytes], web: list[str]
) -> None:
    assert read_captions(members, ["web"]) == Captions(web, [])
    assert as_said(members.get("json"), members.get("txt"))["web"] in (web, web[0])  # type: ignore[index]
    with pytest.raises(SampleFault, match="no synthetic caption"):
        read_captions(members, BOTH)


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({}, "no captions"),
        ({"json": b"{"}, "broken captions"),
        ({"json": b"\xff\xfe"}, "broken captions"),
        ({"json": b"[" * 100_000}, "broken captions"),
        (in_json(web=3, synthetic="b"), "broken captions"),
        ({"json": b'["a", "b"]'}, "broken captions"),
        ({"txt": b"\xff\xfe\n"}, "broken captions"),
        (in_json(synthetic="b"), "no web caption"),
        (in_json(web=None, synthetic="b"), "no web caption"),
        (in_json(caption=None), "no web caption"),
        (in_json(web=" ", synthetic="b"), "empty web caption"),
        (in_json(web="a"), "no synthetic caption"),
        (in_json(web="a", synthetic=[]), "no synthetic caption"),
        (in_json(web="a", synthetic=["", "\t"]), "empty synthetic caption"),
        ({"txt": b""}, "empty web caption"),
        ({"txt": b"a"}, "no synthetic caption"),
    ],
)
def test_what_cannot_be_used_has_a_name(members: dict[str, bytes], fault: str) -> None:
    with pytest.raises(SampleFault) as raised:
        read_captions(members, BOTH)
    assert str(raised.value) == fault


def test_a_kind_that_is_not_wanted_may_be_missing() -> None:
    assert read_captions(in_json(synthetic="b"), ["synthetic"]).synthetic == ["b"]
    assert read_captions({"txt": b"a"}, ["web"]).web == ["a"]


def test_an_empty_caption_among_others_is_left_out_and_told() -> None:
    assert read_captions(in_json(web="a", synthetic=["", "b"]), BOTH) == Captions(["a"], ["b"], ("empty synthetic caption",))


@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_make_a_fault(data: bytes) -> None:
    for extension in ("json", "txt"):
        with contextlib.suppress(SampleFault):
            read_captions({extension: data}, BOTH)


def test_each_token_gets_its_kind_of_caption() -> None:
    said, rng = Captions(["w"], ["s0", "s1"]), np.random.default_rng(0)
    assert choose(said, method([["web"], ["synthetic"]], "first"), rng) == ["w", "s0"]
    assert choose(said, method([["synthetic"]], "first"), rng) == ["s0"]
    assert wanted_kinds(method([["synthetic"]])) == ["synthetic"] and set(wanted_kinds(method([["web", "synthetic"]]))) == set(BOTH)
    assert wanted_kinds(None) == []


def test_synthetic_captions_and_kinds_are_drawn_uniformly() -> None:
    said, rng = Captions(["w"], ["s0", "s1", "s2"]), np.random.default_rng(0)
    several = Counter(choose(said, method([["synthetic"]]), rng)[0] for _ in range(3000))
    assert all(abs(several[text] - 1000) < 120 for text in said.synthetic)
    mixed = Counter(choose(said, method([["web", "synthetic"]]), rng)[0] for _ in range(3000))
    assert abs(mixed["w"] - 1500) < 140


TEXTS = [f"{color} {thing} on the {side}" for color in ("Red", "green") for thing in ("sofa", "bed", "lamp") for side in ("left", "right")]


def test_a_trained_tokenizer_is_the_same_again_and_pads_with_zero(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_tokenizer(TEXTS, tmp_path / name, 48)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    tokenizer = Tokenizer(tmp_path / "a")
    ids_TL, paddings_TL = tokenizer(["Red sofa", "red sofa", ""])
    assert tokenizer.vocab_size == 48 and ids_TL[0].equal(ids_TL[1])
    assert 1 not in ids_TL[0] and ids_TL[0, 0] > 1 and ids_TL[2].eq(0).all() and paddings_TL[2].eq(1).all()


def test_too_few_captions_for_a_vocabulary_are_said_to_be_that(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.text\.vocab_size: no tokenizer of 4000 pieces"):
        train_tokenizer(TEXTS, tmp_path / "a", 4000)
    assert list(tmp_path.iterdir()) == []


def test_a_run_trains_its_tokenizer_once_on_captions_that_are_whole(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path, [12, 12])
    write_shard(tmp_path / "train-001.tar", [sample(50, json=b"{"), *(sample(number) for number in range(60, 80))])
    recipe = small_recipe(pattern)
    first = tokenizer_file(recipe, shard_order(recipe), tmp_path / "run").read_bytes()
    write_shards(tmp_path, [30, 3])
    assert tokenizer_file(recipe, shard_order(recipe), tmp_path / "run").read_bytes() == first
    other = tokenizer_file(recipe, shard_order(recipe), tmp_path / "other").read_bytes()
    assert Tokenizer(tmp_path / "run" / "tokenizer.model").vocab_size == 48 and other != b""


def test_a_tokenizer_that_is_named_is_taken(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path, [2])
    recipe = small_recipe(pattern, f"data.tokenizer={{file: {tmp_path}/own.model}}")
    assert tokenizer_file(recipe, shard_order(recipe), tmp_path / "run") == tmp_path / "own.model"


def img2dataset(number: int) -> dict[str, Any]:
    """A sample as img2dataset writes it: what it knows of the image in a .json, the caption in a .txt."""
    said = {"caption": f"a thing {number}", "url": "https://example.org/a.jpg", "key": f"{number:09d}", "status": "success", "width": 48}
    return sample(number, json=json.dumps(said).encode(), txt=f"a thing {number}".encode())


def test_shards_of_img2dataset_are_found_before_the_first_step_and_read_where_web_captions_suffice(tmp_path: Path) -> None:
    shard = str(write_shard(tmp_path / "00000.tar", [img2dataset(number) for number in range(12)]))
    recipe = small_recipe(shard)
    with pytest.raises(UserError) as raised:
        check_first_samples(recipe, shard_order(recipe))
    said = str(raised.value)
    assert "none of the first 12 samples can be used (no synthetic caption 12)" in said and "captions=[[web]]" in said
    assert ".jpg" in said and ".txt" in said and "\n" not in said
    web = small_recipe(shard, "method.contrastive.captions=[[web]]")
    check_first_samples(web, shard_order(web))


@pytest.mark.parametrize(("without", "begins"), [(5, True), (6, False)])
def test_a_run_begins_where_half_of_the_first_samples_can_be_used(tmp_path: Path, without: int, begins: bool) -> None:
    samples = [sample(number, **({"json": json.dumps({"web": "a"}).encode()} if number < without else {})) for number in range(10)]
    recipe = small_recipe(str(write_shard(tmp_path / "a.tar", samples)))
    with contextlib.nullcontext() if begins else pytest.raises(UserError, match=r"only 4 of the first 10 .*\(no synthetic caption 6\)"):
        check_first_samples(recipe, shard_order(recipe))
    none = small_recipe(str(write_shard(tmp_path / "b.tar", [sample(number, jpg=None) for number in range(3)])))
    with pytest.raises(UserError, match=r"no image 3"):
        check_first_samples(none, shard_order(none))


def test_a_run_that_skips_more_than_half_of_its_samples_ends() -> None:
    Report(drawn=999, skipped=999).check()
    Report(drawn=1000, skipped=500).check()
    with pytest.raises(UserError, match=r"too many samples cannot be used: skipped 501 of 1000 samples: no web caption 501 \(a.tar: 7\)"):
        Report(1000, 501, {"no web caption": 501}, {"no web caption": "a.tar: 7"}).check()
