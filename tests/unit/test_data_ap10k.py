"""AP-10K's pairs: by the rules written out in plain loops, whole and in their numbers, and what is refused."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.pair_sets import write_ap10k
from tips_bench.data import ap10k as module
from tips_bench.data.ap10k import ap10k
from tips_bench.data.checks.pairs import check_keypoints
from tips_bench.errors import UserError

GOLDEN = Path(__file__).parents[1] / "parity" / "data" / "ap10k.npz"


def annotations(root: Path) -> dict[int, dict]:
    """Image -> what is told of it, with the names of its species and family."""
    found: dict[int, dict] = {}
    for name in ("train", "test", "val"):
        data = json.loads((root / "annotations" / f"ap10k-{name}-split1.json").read_text())
        kinds = {kind["id"]: kind for kind in data["categories"]}
        for one in data["annotations"]:
            kind = kinds[one["category_id"]]
            found.setdefault(one["image_id"], one | {"species": kind["name"], "family": kind["supercategory"]})
    return found


def mutual(a: dict, b: dict) -> float:
    """As prepare_ap10k.ipynb counts points that two photos show."""
    return (np.array(a["keypoints"]).reshape(-1, 3)[:, 2] / 2 * np.array(b["keypoints"]).reshape(-1, 3)[:, 2] / 2).sum()


def by_rule(root: Path, kind: str) -> dict[str, set[frozenset[int]]]:
    """Category -> all pairs that may be drawn, of a set with few enough photos for all to be in the test split."""
    kept = {number: one for number, one in annotations(root).items() if number != 2 and one["num_keypoints"] >= 3}
    found: dict[str, set[frozenset[int]]] = {}
    for (i, a), (j, b) in combinations(kept.items(), 2):
        relation = "intra-species" if a["species"] == b["species"] else "cross-species" if a["family"] == b["family"] else "cross-family"
        name = {"intra-species": a["species"], "cross-species": a["family"], "cross-family": "all"}[kind]
        if relation == kind and mutual(a, b) >= 3:
            found.setdefault(name, set()).add(frozenset((i, j)))
    return found


@pytest.mark.parametrize("kind", ["intra-species", "cross-species", "cross-family"])
def test_pairs_are_all_that_the_rules_allow(tmp_path, kind):
    write_ap10k(tmp_path)
    reader = ap10k(tmp_path, "test", pairs=kind)
    found: dict[str, set[frozenset[int]]] = {}
    for id in reader.ids:
        numbers, _, name = id.partition(":")
        found.setdefault(name, set()).add(frozenset(int(number) for number in numbers.split("-")))
    assert found == by_rule(tmp_path, kind) and reader.classes == sorted(found) and len(reader) == sum(map(len, found.values()))
    told = annotations(tmp_path)
    for index, id in enumerate(reader.ids):
        pair, (first, second) = reader.load(index), (told[int(number)] for number in id.partition(":")[0].split("-"))
        points = [np.array(one["keypoints"]).reshape(-1, 3) for one in (first, second)]
        seen = (points[0][:, 2] > 0) & (points[1][:, 2] > 0)
        assert np.array_equal(pair.points_2K2, np.stack([of_one[seen, :2] for of_one in points])) and pair.box == (10, 20, 70, 100)
    assert check_keypoints(reader).ok and ap10k(tmp_path, "test", pairs=kind).ids == reader.ids


@pytest.mark.parametrize("kind", ["intra-species", "cross-species", "cross-family"])
def test_pairs_are_those_that_the_sources_notebook_writes(tmp_path, kind):
    photos = {("Bovidae", "cow"): 5, ("Bovidae", "sheep"): 3, ("Felidae", "cat"): 3, ("Felidae", "lion"): 2, ("Ursidae", "bear"): 4}
    write_ap10k(tmp_path, photos)
    found = {tuple(sorted(map(int, id.partition(":")[0].split("-")))) for id in ap10k(tmp_path, "test", pairs=kind).ids}
    with np.load(GOLDEN) as theirs:
        assert found == set(map(tuple, theirs[kind].tolist()))


def test_the_last_of_a_species_are_for_testing_and_those_before_them_for_validation(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TEST", 3)
    monkeypatch.setattr(module, "VAL", 2)
    write_ap10k(tmp_path, {("Felidae", "cat"): 9})
    used = {
        split: {int(number) for id in ap10k(tmp_path, split).ids for number in id.partition(":")[0].split("-")} for split in ("test", "val")
    }
    assert used == {"test": {7, 8, 9}, "val": {5, 6}}


def test_so_many_pairs_are_drawn_and_always_the_same(tmp_path, monkeypatch):
    write_ap10k(tmp_path)
    every = ap10k(tmp_path, "test", pairs="cross-family").ids
    monkeypatch.setitem(module.DRAWN, "cross-family", {"test": 4, "val": 2})
    few = ap10k(tmp_path, "test", pairs="cross-family")
    assert len(few) == 4 and set(few.ids) < set(every) and set(few.groups) == {"Bovidae, Felidae"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keypoints": [1, 2]}, "no annotations of AP-10K"),
        ({"bbox": [1, 2, 0, 0]}, "no extent"),
        ({"category_id": 99}, "no annotations of AP-10K"),
        ({"bbox": None}, "no annotations of AP-10K"),
    ],
)
def test_annotations_that_contradict_themselves_are_refused_by_name(tmp_path, change, said):
    write_ap10k(tmp_path)
    path = tmp_path / "annotations/ap10k-train-split1.json"
    data = json.loads(path.read_text())
    data["annotations"][0] |= change
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=said):
        ap10k(tmp_path, "test")


def test_files_that_are_missing_say_how_to_get_them(tmp_path):
    with pytest.raises(UserError, match=r"several animals is missing.*is_crowd"):
        ap10k(tmp_path, "test")
    write_ap10k(tmp_path)
    (tmp_path / "annotations/ap10k-val-split1.json").unlink()
    with pytest.raises(UserError, match="cannot read the annotations"):
        ap10k(tmp_path, "test")
    with pytest.raises(UserError, match="split"):
        ap10k(tmp_path, "train")


def test_no_pair_at_all_is_an_error(tmp_path):
    write_ap10k(tmp_path, {("Felidae", "cat"): 3})
    with pytest.raises(UserError, match="no two images"):
        ap10k(tmp_path, "test", pairs="cross-species")
