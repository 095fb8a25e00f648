"""Candidates are the nearest by embedding and by hash, over all files of a library and without the image itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.curation import drawing, signed
from tips_bench.corpus.curation import candidates as module
from tips_bench.corpus.curation.alike import find_pairs, load_pairs
from tips_bench.corpus.curation.candidates import NOTHING, candidates
from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.library import Library
from tips_bench.corpus.curation.looks import SIDE, hash_distances
from tips_bench.corpus.curation.near import find_near, nearest_rank
from tips_bench.npz import save_npz

CARD = DuplicateCard(neighbors=3, bits=26)
SIZES_N2 = np.random.default_rng(1).integers(1, 4, (52, 2))  # many of one size


def library(folder: Path, counts: tuple[int, ...] = (17, 0, 30, 5)) -> tuple[Library, np.ndarray, np.ndarray]:
    """(library of random signatures, embeddings_ND, hashes_N4)."""
    rng = np.random.default_rng(0)
    total = sum(counts)
    embeddings_ND = rng.standard_normal((total, 8)).astype(np.float16)
    hashes_N4 = rng.integers(0, 1 << 63, (total, 4)).astype(np.uint64)
    hashes_N4[20], hashes_N4[3, 2:] = hashes_N4[4], hashes_N4[40, :2]  # equal, and equal to a mirrored one
    start = 0
    for number, count in enumerate(counts):
        part = slice(start, start + count)
        arrays = {
            "embeddings_ND": embeddings_ND[part],
            "hashes_N4": hashes_N4[part],
            "places_N": np.arange(count),
            "sizes_N2": SIZES_N2[part],
        }
        save_npz(folder / f"{number}.npz", thumbnails_NSS=np.zeros((count, SIDE, SIDE), np.uint8), **arrays)
        start += count
    return Library.make(folder, {f"{number}.npz": f"{number}.tar" for number in range(len(counts))}), embeddings_ND, hashes_N4


@pytest.mark.parametrize("with_faiss", [True, False])
def test_candidates_are_those_of_a_search_through_all_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_faiss: bool) -> None:
    if not with_faiss:
        monkeypatch.setattr(module, "_faiss", lambda: None)
    monkeypatch.setattr(module, "BLOCK", 7)
    among, embeddings_ND, hashes_N4 = library(tmp_path)
    own = among.rows(2)
    found_nR = candidates(embeddings_ND[own], hashes_N4[own], among, CARD, own)
    near_NN = embeddings_ND.astype(np.float32) @ embeddings_ND.astype(np.float32).T
    differ_NN = hash_distances(hashes_N4, hashes_N4).astype(int)
    for row, found in zip(range(own.start, own.stop), found_nR.tolist(), strict=True):
        others = [other for other in range(len(among)) if other != row]
        near = sorted(others, key=lambda other: -near_NN[row, other])[:3]
        inside = [other for other in others if differ_NN[row, other] <= CARD.bits]
        alike = sorted(inside, key=lambda other: (differ_NN[row, other], other))[:3]
        largest = sorted(inside, key=lambda other: (-SIZES_N2[other].prod(), other))[:1] or [NOTHING]
        assert found == [*near, *alike, *[NOTHING] * (3 - len(alike)), *largest]
    assert 4 in found_nR[20 - own.start] and 3 in found_nR[40 - own.start]


def test_the_rank_of_an_image_is_its_best_among_the_nearest_of_any_query(tmp_path: Path) -> None:
    among, embeddings_ND, _ = library(tmp_path)
    kept_N = np.arange(len(among)) % 3 > 0
    near_NN = embeddings_ND.astype(np.float32) @ embeddings_ND.astype(np.float32).T
    expected_N = np.full(len(among), 4)
    for query in range(len(among)):
        for rank, row in enumerate(sorted(np.flatnonzero(kept_N).tolist(), key=lambda row: -near_NN[query, row])[:4]):
            expected_N[row] = min(expected_N[row], rank)
    save_npz(tmp_path / "kept.npz", kept_N=kept_N)
    found = [tmp_path / "of-2.npz", tmp_path / "of-4.npz"]
    for (first, behind), done in zip([(0, 2), (2, 4)], found, strict=True):
        find_near(str(tmp_path), first, behind, str(tmp_path), str(tmp_path / "kept.npz"), 4, str(done))
    assert (nearest_rank(found, len(among), 4) == expected_N).all()


def test_a_row_is_found_in_its_file(tmp_path: Path) -> None:
    among, embeddings_ND, _ = library(tmp_path)
    assert [among.find(row) for row in (0, 16, 17, 46, 47, 51)] == [(0, 0), (0, 16), (2, 0), (2, 29), (3, 0), (3, 4)]
    kept_N = np.arange(len(among)) % 2 == 0
    parts = list(among.embeddings(kept_N))
    assert (np.concatenate([part for _, part in parts]) == embeddings_ND[kept_N]).all() and [first for first, _ in parts] == [0, 9, 9, 24]
    assert Library.load(tmp_path) == among


@pytest.mark.parametrize("with_faiss", [True, False])
def test_an_index_is_made_once_for_each_file_and_what_made_it_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_faiss: bool
) -> None:
    if not with_faiss:
        monkeypatch.setattr(module, "_faiss", lambda: None)
    monkeypatch.setattr(module, "BLOCK", 7)
    made = list[int]()

    class Counted(module.Index):
        def __init__(self, embeddings_MD: np.ndarray) -> None:
            made.append(len(embeddings_MD))
            super().__init__(embeddings_MD)

    monkeypatch.setattr(module, "Index", Counted)
    among, embeddings_ND, hashes_N4 = library(tmp_path)
    candidates(embeddings_ND, hashes_N4, among, CARD, None)
    assert made == among.counts
    assert module.search_library() == ("faiss" if with_faiss else "numpy")


@pytest.mark.parametrize("files", [1, 2], ids=["a-file-of-each-set", "two-files-of-the-first"])
def test_like_images_of_one_data_set_do_not_hide_the_copy_in_another(tmp_path: Path, files: int) -> None:
    """Nine images of the first set have the embedding of the image, the copy in the second set has one that is less near."""
    picture, crowd = drawing(1), [drawing(number) for number in range(10, 19)]
    near_D, less_D = np.eye(8)[0], np.eye(8)[0] + np.eye(8)[1]
    corpus = signed(tmp_path / "corpus", [[picture.crop((24, 18, 136, 102))]], [near_D[None]])
    halves = [crowd] if files == 1 else [crowd[:5], crowd[5:]]
    embeddings = [np.tile(near_D, (len(half), 1)) for half in halves] + [less_D[None]]
    sets = signed(tmp_path / "sets", [*halves, [picture]], embeddings, ["first (test)"] * files + ["second (test)"])
    assert sets.by_source() == {"first (test)": range(files), "second (test)": range(files, files + 1)}
    find_pairs(str(corpus.folder), 0, str(sets.folder), DuplicateCard(bits=0).model_dump(), str(tmp_path / "matches.npz"))
    matches = load_pairs([tmp_path / "matches.npz"])
    assert matches.rows_P.tolist() == [0] and matches.others_P.tolist() == [9]


def test_every_copy_of_a_picture_knows_the_largest(tmp_path: Path) -> None:
    sizes_N2 = np.full((300, 2), 100)
    sizes_N2[211] = 400
    for number in range(3):
        part = slice(100 * number, 100 * number + 100)
        arrays = {"embeddings_ND": np.ones((100, 1), np.float16), "hashes_N4": np.zeros((100, 4), np.uint64), "places_N": np.arange(100)}
        save_npz(tmp_path / f"{number}.npz", sizes_N2=sizes_N2[part], **arrays)
    among = Library.make(tmp_path, {f"{number}.npz": f"{number}.tar" for number in range(3)})
    block = next(among.blocks())
    found_NR = candidates(block.embeddings_MD, block.hashes_M4, among, CARD, among.rows(0))
    assert (found_NR == 211).any(1).all()
