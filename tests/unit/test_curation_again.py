"""A second look: images that stay for a pair are compared, once, and those that are lost lead to others and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.curation import drawing, signed
from tips_bench.corpus.curation import again
from tips_bench.corpus.curation.alike import Pairs, compare, joined, load_pairs
from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.cells import held
from tips_bench.corpus.curation.duplicates import stands_for
from tips_bench.corpus.curation.library import Library
from tips_bench.errors import UserError

CARD = DuplicateCard()
Link = tuple[int, int]


def cut(image: Image.Image, left: int, top: int) -> Image.Image:
    return image.crop((left, top, left + image.width * 4 // 5, top + image.height * 4 // 5))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """0 to 2: a picture, a part of it, a part of this. 3 to 5: other pictures."""
    picture = drawing(1)
    part = cut(picture, 10, 6)
    return signed(tmp_path / "signed", [[picture], [], [part, cut(part, 8, 4), drawing(3)], [drawing(4), drawing(5, 60, 80)]])


def pairs(*links: Link) -> Pairs:
    rows_P2 = np.array(links, np.int64).reshape(-1, 2)
    return Pairs(rows_P2[:, 0], rows_P2[:, 1], np.ones(len(rows_P2)), np.zeros(len(rows_P2), np.uint8))


def listed(library: Library, known: Pairs, folder: Path, *, before: tuple[Path, ...] = (), lost: tuple[int, ...] = ()) -> list[list[int]]:
    """The list of a round, which is left in a file with the round's number."""
    file, lost_N = folder / f"{len(before)}.npz", np.isin(np.arange(len(library)), lost)
    again.list_pairs(library, known, lost_N, before, file)
    return again.listed_pairs(file).tolist()


def found(library: Library, file: Path, first: int = 0) -> Pairs:
    done = file.with_name(f"found-{first}-{file.name}")
    again.find_pairs_again(str(library.folder), str(file), first, CARD.model_dump(), str(done))
    return load_pairs([done])


def test_a_part_of_a_part_is_compared_with_the_picture_and_goes_for_it(library: Library, tmp_path: Path) -> None:
    known, pixels_N = pairs((2, 1), (1, 0)), library.pixels()
    assert stands_for(known, pixels_N).tolist() == [0, 0, 2, 3, 4, 5]
    assert listed(library, known, tmp_path) == [[0, 2]]
    known = joined([known, found(library, tmp_path / "0.npz")])
    assert stands_for(known, pixels_N).tolist() == [0, 0, 0, 3, 4, 5]
    assert listed(library, known, tmp_path, before=(tmp_path / "0.npz",)) == []


def test_what_is_not_the_same_picture_is_no_pair_and_is_not_compared_again(library: Library, tmp_path: Path) -> None:
    known = pairs((5, 3), (4, 5))
    assert listed(library, known, tmp_path) == [[3, 4]] and len(found(library, tmp_path / "0.npz").rows_P) == 0
    assert listed(library, known, tmp_path, before=(tmp_path / "0.npz",)) == []


def test_two_images_that_go_lead_from_one_that_stays_to_the_other(library: Library, tmp_path: Path) -> None:
    known = pairs((1, 0), (5, 4), (5, 1), (1, 5))
    assert stands_for(known, library.pixels()).tolist() == [0, 0, 2, 3, 4, 4]
    assert listed(library, known, tmp_path) == [[0, 4]]


def test_images_whose_caption_is_lost_lead_to_others_and_none_goes_for_them(library: Library, tmp_path: Path) -> None:
    known = pairs((3, 0), (0, 4), (4, 1))
    assert listed(library, known, tmp_path) == [[0, 1]]
    assert listed(library, known, tmp_path, lost=(0,)) == [[0, 1], [3, 4]]
    assert listed(library, known, tmp_path, lost=(0, 3)) == [[0, 1]]


def test_a_list_is_compared_part_by_part_with_what_the_files_hold(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = [(row, other) for row in range(5) for other in range(row + 1, 6)]
    images = [(library.read(number), place) for number, place in map(library.find, range(6))]
    expected = [compare(images[one][0], images[other][0], np.array([[images[one][1], images[other][1]]]), CARD) for one, other in links]
    rows = held(library, np.arange(6))
    agreement_P, bits_P = compare(rows, rows, np.array(links), CARD)
    assert agreement_P.tolist() == [float(one[0]) for one, _ in expected] and bits_P.tolist() == [int(one[0]) for _, one in expected]
    monkeypatch.setattr(again, "PART", 2)
    assert listed(library, pairs((2, 1), (1, 0), (3, 5), (5, 4), (5, 2)), tmp_path) == [[0, 2], [2, 3], [3, 4]]
    parts = [found(library, tmp_path / "0.npz", first) for first in (0, 2)]
    assert [list(zip(part.rows_P.tolist(), part.others_P.tolist(), strict=True)) for part in parts] == [[(0, 2)], []]


def test_without_pairs_nothing_is_listed_and_a_broken_list_is_refused(library: Library, tmp_path: Path) -> None:
    assert listed(library, pairs(), tmp_path) == []
    (tmp_path / "0.npz").write_bytes(b"no list")
    with pytest.raises(UserError, match="not a saved list of pairs, or a broken one"):
        again.listed_pairs(tmp_path / "0.npz")
