"""UnED's lists: eight domains, one or several classes an image, and what broken lists get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.whole_sets import write_uned
from tips_bench.data.checks.images import check_instances
from tips_bench.data.uned import UnedOptions, uned
from tips_bench.errors import UserError

DOMAINS = {"cars": "test", "gldv2": "index"}
LISTS: dict = {
    ("cars", "test"): [("cars/car_ims/1.jpg", 4), ("cars/car_ims/2.jpg", 4), ("cars/car_ims/3.jpg", 0)],
    ("gldv2", "test"): [("gldv2/images/test/a.jpg", [4, 9])],
    ("gldv2", "index"): [("gldv2/images/index/b.jpg", 9), ("gldv2/images/index/c.jpg", [3])],
}


def test_queries_and_index_of_all_domains(tmp_path: Path) -> None:
    write_uned(tmp_path, LISTS)
    query, index = (uned(tmp_path, split, domains=DOMAINS) for split in ("query", "index"))
    assert query.classes == index.classes == ["cars", "gldv2"] and (len(query), len(index)) == (4, 5)
    assert query.ids[:3] == index.ids[:3] == ["cars/car_ims/1.jpg", "cars/car_ims/2.jpg", "cars/car_ims/3.jpg"]
    assert query.labels_NL.tolist() == [[4, -1], [4, -1], [0, -1], [4, 9]] and index.labels_NL.ravel().tolist() == [4, 4, 0, 9, 3]
    assert query.domain_N.tolist() == [0, 0, 0, 1] and query.size(0) == (48, 48)
    sample = query.load(3)
    assert (sample.domain, sample.labels, sample.group) == ("gldv2", (4, 9), sample.id)
    assert query.fingerprint != index.fingerprint
    grouped = uned(tmp_path, "index", domains=DOMAINS, group="^([^/]*)/")
    assert grouped.groups == ["cars"] * 3 + ["gldv2"] * 2


def test_the_default_is_the_published_set() -> None:
    """universal_embedding/datasets.py: in three of the eight domains queries and index differ."""
    domains = UnedOptions().domains
    assert len(domains) == 8 and {name for name, index in domains.items() if index == "index"} == {"inshop", "met", "gldv2"}


def test_names_that_were_unpacked_with_escapes_are_found(tmp_path: Path) -> None:
    write_uned(tmp_path, {("rp2k", "test"): [("rp2k/all/test/可乐é/1.jpg", 0)]})
    images = tmp_path / "images" / "rp2k" / "all" / "test"
    (images / "可乐é").rename(images / "#U53ef#U4e50#U00e9")
    reader = uned(tmp_path, "query", domains={"rp2k": "test"})
    assert reader.load(0).id == "rp2k/all/test/可乐é/1.jpg"


def test_the_check_counts_domains_and_labels(tmp_path: Path) -> None:
    write_uned(tmp_path, LISTS)
    report = check_instances(uned(tmp_path, "query", domains=DOMAINS), expected=4)
    assert report.ok and report.facts == {
        "cars": "3 images of 2 labels, 1 label of one image",
        "gldv2": "1 image of 2 labels, 1 image of several, 2 labels of one image",
    }
    file = tmp_path / "images" / "cars" / "car_ims" / "2.jpg"
    file.write_bytes(file.read_bytes()[:150])
    assert len(check_instances(uned(tmp_path, "query", domains=DOMAINS), expected=9).faults) == 2


@pytest.mark.parametrize(("entries", "words"), [
    ([{"path": "a.jpg"}], "class_id"),
    ([{"path": "a.jpg", "class_id": "x"}], "class_id"),
    ([{"path": "a.jpg", "class_id": []}], "Ids are 0 or more"),
    ([{"path": "a.jpg", "class_id": -2}], "Ids are 0 or more"),
    ([{"path": "../a.jpg", "class_id": 1}], "points outside the folder"),
    ([{"path": "cars/a.jpg", "class_id": 1}] * 2, "two entries of the image"),
    ([{"path": "cars/gone.jpg", "class_id": 1}], "is missing"),
    ([], "the list is empty"),
    ({"path": "a.jpg"}, "not a list of images"),
])  # fmt: skip
def test_broken_lists_are_told(tmp_path: Path, entries: object, words: str) -> None:
    write_uned(tmp_path, {("cars", "test"): [("cars/a.jpg", 1)]})
    (tmp_path / "info_files" / "cars" / "test.json").write_text(json.dumps(entries))
    with pytest.raises(UserError, match=words):
        uned(tmp_path, "query", domains={"cars": "test"})


def test_a_list_that_is_not_there_and_a_split_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cars/test\.json: cannot read"):
        uned(tmp_path, "query")
    with pytest.raises(UserError, match="there is no split named 'val'"):
        uned(tmp_path, "val")
    with pytest.raises(UserError, match="domains"):
        uned(tmp_path, "query", domains={"cars": "val"})
