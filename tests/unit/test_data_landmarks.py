"""The layouts of Revisited Oxford and Paris and of AmsterTime: what is read, how queries are cut, and what broken lists get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.landmark_sets import write_amstertime, write_answers, write_revisited
from tips_bench.data.amstertime import amstertime
from tips_bench.data.checks.images import check_landmarks, check_ranked
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
