"""Cells: each image is a member of one and visits others, what is kept of it is what its signatures say, and blocks change no pair."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.curation import drawing, signed
from tips_bench.corpus.curation import cells
from tips_bench.corpus.curation.alike import Pairs, find_pairs, find_pairs_in_cell, load_pairs
from tips_bench.corpus.curation.candidates import NOTHING, By, candidates
from tips_bench.corpus.curation.card import CellCard, DuplicateCard
from tips_bench.corpus.curation.cells import cells_of, divide, make_centroids, nearest_cells, parts, read_cell, read_centroids
from tips_bench.corpus.curation.library import Library
from tips_bench.errors import UserError

COUNTS = (13, 0, 20, 11)
CARD = CellCard(images=10, sample=8)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Drawings, of which every third is a smaller or a mirrored copy of an earlier one, with random embeddings that say nothing of it."""
    files, start = list[list[Image.Image]](), 0
    for count in COUNTS:
        images = [drawing(3 * (row // 6) if row % 3 == 2 else row) for row in range(start, start + count)]
        files.append([image.resize((120, 90)).transpose(0) if row % 2 else image for row, image in enumerate(images)])
        start += count
    return signed(tmp_path / "signed", files)


def divided(library: Library, folder: Path, by: By, visited: int) -> np.ndarray:
    """[K,D] the centroids, once all parts are written."""
    make_centroids(library, by, CARD, 0, folder / "centroids.npz")
    for number, (first, behind) in enumerate(parts(library)):
        done = folder / f"{number:06d}.npy"
        divide(str(library.folder), first, behind, by, str(folder / "centroids.npz"), visited, str(done))
    return read_centroids(folder / "centroids.npz")


def pairs_in_cells(library: Library, folder: Path, by: By, visited: int, card: DuplicateCard) -> Pairs:
    count = len(divided(library, folder, by, visited))
    for number in range(count):
        find_pairs_in_cell(str(folder), number, by, card.model_dump(), str(folder / f"{number}.npz"))
    return load_pairs([folder / f"{number}.npz" for number in range(count)])


def links(pairs: Pairs) -> set[tuple[int, int]]:
    return {(min(one, other), max(one, other)) for one, other in zip(pairs.rows_P.tolist(), pairs.others_P.tolist(), strict=True)}


def test_the_nearest_cells_are_those_of_all_distances() -> None:
    rng = np.random.default_rng(0)
    vectors_ND, centroids_KD = (rng.integers(-2, 3, (count, 3)).astype(np.float32) for count in (40, 12))
    far_NK = ((vectors_ND[:, None] - centroids_KD[None]) ** 2).sum(2)
    found_NV = nearest_cells(vectors_ND, centroids_KD, 5)
    np.testing.assert_array_equal(np.take_along_axis(far_NK, found_NV, 1), np.sort(far_NK, 1)[:, :5])
    assert all(len(set(row)) == 5 for row in found_NV.tolist())
    assert nearest_cells(vectors_ND, centroids_KD, 50).shape == (40, 12)


def test_a_cell_is_visited_once_although_the_mirrored_image_is_near_it_too() -> None:
    centroids_KD = np.eye(3, dtype=np.float32)
    vectors_ND = np.array([[3, 2, 1], [1, 2, 3]], np.float32)
    assert cells_of([vectors_ND, vectors_ND[:, ::-1]], centroids_KD, 2).tolist() == [[0, 1, 2, -1], [2, 1, 0, -1]]


@pytest.mark.parametrize("by", ["embedding", "hash"])
def test_an_image_is_a_member_of_its_nearest_cell_and_kept_as_it_was_signed(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: By
) -> None:
    monkeypatch.setattr(cells, "PART", 20)
    monkeypatch.setattr(cells, "BLOCK", 7)
    assert parts(library) == [(0, 3), (3, 4)]
    centroids_KD = divided(library, tmp_path / "cells", by, 2)
    vectors = [np.concatenate(side) for side in zip(*(cells._vectors(library, file, by) for file in range(4)), strict=True)]
    expected_NV, seen = cells_of(vectors, centroids_KD, 2), list[int]()
    hashes_N4, embeddings_ND = (np.concatenate([library.array(file, name) for file in range(4)]) for name in ("hashes_N4", "embeddings_ND"))
    for number in range(len(centroids_KD)):
        for kind, entries in enumerate(read_cell(tmp_path / "cells", number)):
            blocks = [block for _, block in entries.in_memory()]
            rows = [row for block in blocks for row in block.rows_N.tolist()]
            there_N = expected_NV[:, 0] == number if kind == 0 else (expected_NV[:, 1:] == number).any(1)
            assert (
                rows == np.flatnonzero(there_N).tolist() and len(entries) == len(rows) and all(len(block.rows_N) <= 7 for block in blocks)
            )
            for block in blocks:
                file, place = library.find(int(block.rows_N[0]))
                np.testing.assert_array_equal(block.thumbnail(0).gray_SS, library.read(file).thumbnail(place).gray_SS)
                assert block.thumbnail(0).aspect == library.read(file).thumbnail(place).aspect
                np.testing.assert_array_equal(block.hashes_N4, hashes_N4[block.rows_N])
                if by == "embedding":
                    np.testing.assert_array_equal(block.embeddings_ND, embeddings_ND[block.rows_N])
            seen += rows if kind == 0 else []
    assert sorted(seen) == list(range(len(library)))


@pytest.mark.parametrize("by", ["embedding", "hash"])
def test_in_cells_that_are_all_visited_no_pair_of_all_pairs_is_missed(library: Library, tmp_path: Path, by: By) -> None:
    card = DuplicateCard()
    for number in range(len(COUNTS)):
        find_pairs(str(library.folder), number, str(library.folder), card.model_dump(), str(tmp_path / f"{number}.npz"))
    exact = links(load_pairs([tmp_path / f"{number}.npz" for number in range(len(COUNTS))]))
    assert len(exact) >= 12 and links(pairs_in_cells(library, tmp_path / "all", "hash", 64, card)) >= exact
    few = links(pairs_in_cells(library, tmp_path / "few", by, 1, card))
    assert few <= links(pairs_in_cells(library, tmp_path / "more", by, 64, card))
    assert by == "embedding" or len(few & exact) > 0.8 * len(exact)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of faiss's own import
def test_what_is_nearest_in_the_cells_of_an_image_is_what_an_inverted_file_of_faiss_finds(library: Library, tmp_path: Path) -> None:
    faiss = importlib.import_module("faiss")

    centroids_KD, embeddings_ND = divided(library, tmp_path, "embedding", 2), np.concatenate([part for _, part in library.embeddings()])
    lists = faiss.IndexFlatL2(centroids_KD.shape[1])
    lists.add(centroids_KD)
    index = faiss.IndexIVFFlat(lists, centroids_KD.shape[1], len(centroids_KD), faiss.METRIC_INNER_PRODUCT)
    index.add(embeddings_ND)
    index.nprobe, card = 2, DuplicateCard(neighbors=3)
    _, expected_NR = index.search(embeddings_ND, 4)
    found = [set[int]() for _ in range(len(library))]
    for number in range(len(centroids_KD)):
        members, visitors = read_cell(tmp_path, number)
        rows_M = np.concatenate([block.rows_N for _, block in members.in_memory()])
        for entries, inside in ((members, True), (visitors, False)):
            for first, own in entries.in_memory():
                itself = slice(first, first + len(own.rows_N)) if inside else None
                places_NR = candidates(own.embeddings_ND, own.hashes_N4, members, card, itself, ["embedding"])
                for row, places in zip(own.rows_N.tolist(), places_NR.tolist(), strict=True):
                    found[row] |= {int(rows_M[place]) for place in places if place != NOTHING}
    for row, near in enumerate(found):
        ours = sorted(near, key=lambda other: -float(embeddings_ND[row] @ embeddings_ND[other]))[:3]
        assert ours == [other for other in expected_NR[row].tolist() if other not in (row, -1)][:3]


def test_neither_the_size_of_blocks_nor_that_of_parts_changes_the_pairs(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pairs_in_cells(library, tmp_path / "whole", "hash", 2, DuplicateCard())
    monkeypatch.setattr(cells, "PART", 20)
    monkeypatch.setattr(cells, "BLOCK", 3)
    small = pairs_in_cells(library, tmp_path / "small", "hash", 2, DuplicateCard())
    assert links(small) == links(whole) and len(links(whole)) >= 10


def test_a_broken_index_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "000000.npy").write_bytes(b"no index")
    with pytest.raises(UserError, match="not an index of the images of cells, or a broken one"):
        read_cell(tmp_path, 0)
