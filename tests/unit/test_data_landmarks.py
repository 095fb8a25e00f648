"""Readers of landmarks and places: what is read, how queries are cut, and what broken lists get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.landmark_sets import write_amstertime, write_answers, write_gldv2, write_gldv2_lists, write_revisited
from tips_bench.data.amstertime import amstertime
from tips_bench.data.checks.images import check_landmarks, check_ranked
from tips_bench.data.gldv2 import gldv2
from tips_bench.data.images import read_image
from tips_bench.data.revisited import revisited
from tips_bench.errors import UserError

OXFORD = {"dataset": "roxford5k"}


def test_queries_the_database_and_the_answers(tmp_path: Path) -> None:
    lists = write_revisited(tmp_path)
    query, database = (revisited(tmp_path, split, **OXFORD) for split in ("query", "database"))
    assert query.ids == lists["qimlist"] and database.ids == sorted(lists["imlist"]) and query.groups == [f"place{n}_" for n in range(4)]
    assert query.answers(1) == {
        "easy": ("place1_000000", "place1_000003"),
        "hard": ("place1_000001",),
        "junk": ("place1_000002",),
    }
    assert database.answers(0) == {} and query.fingerprint != database.fingerprint
    assert revisited(tmp_path, "query", group="query", **OXFORD).groups == query.ids


def test_a_query_is_cut_as_pillow_cuts_it(tmp_path: Path) -> None:
    write_revisited(tmp_path)
    whole = revisited(tmp_path, "query", **OXFORD)
    cut = whole.cropped()
    image_HW3 = read_image(whole.file(0), turned=False)
    np.testing.assert_array_equal(cut.load(0).image_HW3, np.asarray(Image.fromarray(image_HW3).crop((8.4, 6.6, 71.5, 60.2))))
    assert cut.size(0) == cut.load(0).image_HW3.shape[:2] == (53, 64) and whole.size(0) == (80, 96)
    np.testing.assert_array_equal(whole.load(0).image_HW3, image_HW3)
    assert cut.fingerprint != whole.fingerprint and cut.answers(0) == whole.answers(0)


def test_a_million_other_images_are_in_the_database_and_answer_nothing(tmp_path: Path) -> None:
    lists = write_revisited(tmp_path, others=3)
    database = revisited(tmp_path, "database", distractors=True, **OXFORD)
    assert len(database) == len(lists["imlist"]) + 3 and "revisitop1m/0/other1.jpg" in database.ids
    assert database.load(database.ids.index("revisitop1m/0/other1.jpg")).image_HW3.shape == (40, 40, 3)


BROKEN = {
    "no list of answers": (lambda lists: lists.pop("gnd"), "gnd"),
    "answers for another number of queries": (lambda lists: lists["gnd"].pop(), "4 queries and the answers of 3"),
    "an image behind the end": (lambda lists: lists["gnd"][0]["hard"].append(16), "image 16 of 16"),
    "a place below 0": (lambda lists: lists["gnd"][0]["hard"].append(-1), r"gnd\.0\.hard"),
    "an image of two kinds": (lambda lists: lists["gnd"][0]["hard"].append(0), "two kinds"),
    "a box of three numbers": (lambda lists: lists["gnd"][0]["bbx"].pop(), "bbx"),
    "a box that is not finite": (lambda lists: lists["gnd"][0]["bbx"].__setitem__(0, float("nan")), "bbx"),
    "an image listed twice": (lambda lists: lists["imlist"].append(lists["imlist"][0]), "listed twice"),
    "a query in the database": (lambda lists: lists["imlist"].append(lists["qimlist"][0]), "listed twice"),
    "a name outside the folder": (lambda lists: lists["qimlist"].__setitem__(0, "../../secret"), "outside"),
    "an image that is not there": (lambda lists: lists["qimlist"].__setitem__(0, "nothing"), "missing"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_lists_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    lists = write_revisited(tmp_path)
    change, words = BROKEN[name]
    change(lists)
    write_answers(tmp_path, lists)
    with pytest.raises(UserError, match=words):
        revisited(tmp_path, "query", **OXFORD)


def test_a_box_outside_the_image_is_refused_and_one_over_the_edge_is_black_there(tmp_path: Path) -> None:
    lists = write_revisited(tmp_path)
    lists["gnd"][0]["bbx"], lists["gnd"][1]["bbx"] = [200, 0, 300, 20], [80, 60, 112, 90]
    write_answers(tmp_path, lists)
    cut = revisited(tmp_path, "query", **OXFORD).cropped()
    with pytest.raises(UserError, match="the box"):
        cut.load(0)
    assert cut.load(1).image_HW3.shape == (30, 32, 3) and not cut.load(1).image_HW3[:, 16:].any()


def test_numpys_places_are_read(tmp_path: Path) -> None:
    lists = write_revisited(tmp_path)
    plain = revisited(tmp_path, "query", **OXFORD)
    for one in lists["gnd"]:
        one |= {kind: np.array(one[kind]) for kind in ("bbx", "easy", "hard", "junk")}
    write_answers(tmp_path, lists)
    assert revisited(tmp_path, "query", **OXFORD).fingerprint == plain.fingerprint


def test_each_image_of_amstertime_is_searched_in_the_other_folder(tmp_path: Path) -> None:
    write_amstertime(tmp_path)
    query, gallery = (amstertime(tmp_path, split) for split in ("query", "gallery"))
    assert query.ids == gallery.ids and len(query) == 12 and query.groups == [f"{n:04d}" for n in range(6)] * 2
    assert query.answers(0) == {"right": ("old/0000",)} and query.answers(6) == {"right": ("new/0000",)} and gallery.answers(0) == {}
    for index, id in enumerate(query.ids):
        assert query.classes[query.part_N[index]].startswith(id[:3])
        (right,) = query.answers(index)["right"]
        assert gallery.part_N[gallery.ids.index(right)] == query.part_N[index]


def test_an_image_without_its_counterpart_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    write_amstertime(tmp_path)
    (tmp_path / "old" / "0003.jpg").unlink()
    with pytest.raises(UserError, match="0003"):
        amstertime(tmp_path, "query")
    with pytest.raises(UserError):
        amstertime(tmp_path / "nowhere", "query")
    with pytest.raises(UserError, match="split"):
        amstertime(tmp_path, "test")


def test_a_check_counts_answers_and_finds_a_box_outside_its_image(tmp_path: Path) -> None:
    lists = write_revisited(tmp_path / "oxford")
    query = revisited(tmp_path / "oxford", "query", **OXFORD)
    assert check_landmarks(query, 4).ok and check_landmarks(query).facts["easy"] == "8 images, 2 to 2 for a query, 0 without"
    lists["gnd"][2]["bbx"] = [200, 0, 300, 20]
    write_answers(tmp_path / "oxford", lists)
    report = check_landmarks(revisited(tmp_path / "oxford", "query", **OXFORD))
    assert len(report.faults) == 1 and "the box" in report.faults[0]
    write_amstertime(tmp_path / "now")
    assert check_ranked(amstertime(tmp_path / "now", "query"), 12).facts == {"right": "12 images, 1 to 1 for a query, 0 without"}


def test_queries_of_a_usage_and_the_index_of_google_landmarks(tmp_path: Path) -> None:
    write_gldv2(tmp_path)
    private, public, index = (gldv2(tmp_path, split) for split in ("private", "public", "index"))
    assert private.ids == ["0" * 16, "2" * 16] and public.ids == ["1" * 16] and len(index) == 12, "the ignored query is in no split"
    assert private.answers(1) == {"right": ("2a" * 8, "2b" * 8, "2c" * 8)} and index.answers(0) == {}
    assert private.load(1).image_HW3.shape == (80, 96, 3) and index.groups == index.ids
    assert len({private.fingerprint, public.fingerprint, index.fingerprint}) == 3
    assert check_ranked(private, 2).facts == {"right": "6 images, 3 to 3 for a query, 0 without"}


def test_queries_that_share_a_right_image_are_of_one_landmark(tmp_path: Path) -> None:
    lists = write_gldv2(tmp_path, places=6)
    lists["solution"] = "id,images,Usage\n" + "".join(
        f"{query * 16},{' '.join(image * 8 for image in images)},Private\n"
        for query, images in (("0", ["0a"]), ("1", ["1a", "2a"]), ("2", ["2a", "3a"]), ("3", ["3a", "3b"]), ("4", ["4a"]))
    )
    write_gldv2_lists(tmp_path, lists)
    assert [group[0] for group in gldv2(tmp_path, "private").groups] == ["0", "1", "1", "1", "4"]


BROKEN_TABLES = {
    "another header": ("solution", "images,Usage", "images", "columns"),
    "another usage": ("solution", "Public", "Secret", "Secret"),
    "an image that the index lacks": ("index", "0a" * 8 + "\n", "", "not in the index"),
    "an id with a path": ("index", "0a" * 8, "../../../../secret", "line 2"),
    "an image listed twice": ("index", "0b" * 8, "0a" * 8, "not in the index"),
    "a query listed twice": ("solution", "3" * 16, "0" * 16, "listed twice"),
    "a query without images": ("solution", "0a0a0a0a0a0a0a0a 0b0b0b0b0b0b0b0b 0c0c0c0c0c0c0c0c", "", "has no images"),
    "a line of too many cells": ("solution", ",Public", ",Public,1", "line 3"),
    "an open quote": ("solution", "1a", '"1a', "cannot read"),
    "no query of the usage": ("solution", "Private", "Public", "no query"),
}


@pytest.mark.parametrize("name", BROKEN_TABLES)
def test_broken_tables_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    lists, (table, old, new, words) = write_gldv2(tmp_path), BROKEN_TABLES[name]
    assert old in lists[table]
    lists[table] = lists[table].replace(old, new)
    write_gldv2_lists(tmp_path, lists)
    with pytest.raises(UserError, match=words):
        gldv2(tmp_path, "private")


def test_an_index_with_an_image_twice_without_a_file_or_without_a_list_is_refused(tmp_path: Path) -> None:
    lists = write_gldv2(tmp_path)
    write_gldv2_lists(tmp_path, lists | {"index": lists["index"] + "0a" * 8 + "\n"})
    with pytest.raises(UserError, match="listed twice"):
        gldv2(tmp_path, "index")
    write_gldv2_lists(tmp_path, lists | {"index": lists["index"] + "f" * 16 + "\n"})
    with pytest.raises(UserError, match="missing"):
        gldv2(tmp_path, "index")
    with pytest.raises(UserError, match="cannot read"):
        gldv2(tmp_path / "nowhere", "index")
    with pytest.raises(UserError, match="split"):
        gldv2(tmp_path, "test")
