"""Nearest patches of a memory: exact ones against the whole matrix, indexes against exact ones, memories with gaps and on a disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tips_bench.errors import UserError
from tips_bench.features import affinity, patch_search
from tips_bench.features.affinity import NOTHING
from tips_bench.features.cache import to_disk
from tips_bench.features.patch_search import PatchSearch, SearchCard, build_index, found_share, read_index, save_index
from tips_bench.strict import parse


def points(number: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    """Points around a few centers."""
    draw = np.random.default_rng(seed)
    centers = draw.standard_normal((20, dim))
    return (centers[draw.integers(20, size=number)] + 0.5 * draw.standard_normal((number, dim))).astype(np.float32)


def mapped(folder: Path, features_ND: np.ndarray) -> np.memmap:
    features_ND.tofile(folder / "features.bin")
    return np.memmap(folder / "features.bin", features_ND.dtype, "c", shape=features_ND.shape)


def plain(queries_QD: np.ndarray, keys_ND: np.ndarray, rows_M: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(cosines_Qk, rows_Qk) by a sort of all, in float64."""
    units = [array / np.linalg.norm(array, axis=1, keepdims=True) for array in (queries_QD.astype(float), keys_ND[rows_M].astype(float))]
    cosines_QM = units[0] @ units[1].T
    order_Qk = np.argsort(-cosines_QM, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines_QM, order_Qk, 1), rows_M[order_Qk]


@pytest.mark.parametrize("resident", [0, 1 << 31])
def test_exact_neighbors_are_those_of_the_whole_matrix_in_memory_and_on_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resident: int
) -> None:
    monkeypatch.setattr(patch_search, "RESIDENT_BYTES", resident)
    monkeypatch.setattr(patch_search, "KEY_ROWS", 70)
    features_ND, queries_QD = points(500), points(40, seed=1)
    rows_M = np.delete(np.arange(500), [0, 7, 130, 131, 499])
    search = PatchSearch(mapped(tmp_path, features_ND), rows_M)
    for _ in range(2):
        found = search.nearest(torch.from_numpy(queries_QD), 9)
        cosines_Qk, rows_Qk = plain(queries_QD, features_ND, rows_M, 9)
        np.testing.assert_array_equal(found.rows_Qk, rows_Qk)
        np.testing.assert_allclose(found.similarities_Qk, cosines_Qk, atol=1e-6)


def test_neighbors_by_distance_are_weighed_by_cosine() -> None:
    features_ND, queries_QD = points(300) * np.linspace(0.5, 2, 300, dtype=np.float32)[:, None], points(20, seed=1)
    found = PatchSearch(features_ND, np.arange(300), distance="euclidean").nearest(torch.from_numpy(queries_QD), 5)
    distance_QN = np.linalg.norm(queries_QD[:, None].astype(float) - features_ND, axis=2)
    near_Qk = np.argsort(distance_QN, axis=1)[:, :5]
    for query, rows_k in enumerate(near_Qk):
        cosines_k, by_cosine_k = plain(queries_QD[query : query + 1], features_ND, np.sort(rows_k), 5)
        np.testing.assert_array_equal(found.rows_Qk[query], by_cosine_k[0])
        np.testing.assert_allclose(found.similarities_Qk[query], cosines_k[0], atol=1e-6)


def test_features_in_half_precision_are_read_as_they_were_stored(tmp_path: Path) -> None:
    half_ND = torch.from_numpy(points(200)).bfloat16()
    found = PatchSearch(mapped(tmp_path, to_disk(half_ND)), np.arange(200)).nearest(half_ND.float(), 1)
    assert found.rows_Qk[:, 0].tolist() == list(range(200))


CARDS = {
    "ivf": {"lists": 16, "probes": 16},
    "hnsw": {"links": 16, "explored": 400},
    "ivf-pq": {"lists": 8, "probes": 8, "code_bytes": 8, "candidates": 150},
}


@pytest.mark.parametrize("kind", CARDS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of faiss's own import
def test_an_index_with_all_effort_finds_nearly_all_and_gives_exact_cosines(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch_search, "RESIDENT_BYTES", 0)  # candidates are read from the disk
    card = SearchCard(type=kind, **CARDS[kind])  # type: ignore[arg-type]
    features_ND, rows_M = mapped(tmp_path, points(1200)), np.arange(3, 1200)
    save_index(build_index(PatchSearch(features_ND, rows_M, card)), tmp_path / "index")
    search = PatchSearch(features_ND, rows_M, card, index=read_index(tmp_path / "index", card))
    queries_QD = torch.from_numpy(points(60, seed=1))
    found, exact = search.nearest(queries_QD, 10), PatchSearch(features_ND, rows_M).nearest(queries_QD, 10)
    share = found_share(found.rows_Qk, exact.rows_Qk)
    assert share == 1 if kind == "ivf" else share > 0.95
    assert search.recall(10) == pytest.approx(share, abs=0.05)
    _, true_Qk = plain(queries_QD.numpy(), features_ND, np.arange(1200), 1200)
    cosines_QN = plain(queries_QD.numpy(), features_ND, np.arange(1200), 1200)[0]
    for query in range(0, 60, 7):
        place = {row: at for at, row in enumerate(true_Qk[query])}
        wanted = [cosines_QN[query, place[int(row)]] for row in found.rows_Qk[query]]
        np.testing.assert_allclose(found.similarities_Qk[query], wanted, atol=1e-6)


def test_less_effort_finds_fewer_and_recall_says_so() -> None:
    features_ND = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
    few, many = (SearchCard(type="ivf", lists=40, probes=probes) for probes in (1, 20))
    shares = []
    for card in (few, many):
        search = PatchSearch(features_ND, np.arange(2000), card)
        shares.append(PatchSearch(features_ND, np.arange(2000), card, index=build_index(search)).recall(10))
    assert shares[0] < 0.6 < 0.95 < shares[1] <= 1


def test_the_share_found_counts_only_neighbors_that_there_are() -> None:
    assert found_share(torch.tensor([[1, 2], [3, NOTHING]]), torch.tensor([[2, 5], [3, NOTHING]])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "ivf", "lists": 4}, "ivf needs probes"),
        ({"type": "hnsw", "links": 4, "explored": 8, "lists": 3}, "hnsw has no lists"),
        ({"candidates": 3}, "exact has no candidates"),
    ],
)
def test_a_card_says_which_number_is_missing_or_too_many(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(SearchCard, options, where="here")


def test_cells_and_codes_that_do_not_fit_are_user_errors() -> None:
    features_ND = points(50)
    with pytest.raises(UserError, match="60 lists for 50 patches"):
        build_index(PatchSearch(features_ND, np.arange(50), SearchCard(type="ivf", lists=60, probes=1)))
    with pytest.raises(UserError, match="does not divide 16 features"):
        build_index(PatchSearch(features_ND, np.arange(50), SearchCard(type="ivf-pq", lists=2, probes=1, code_bytes=3)))


def test_a_broken_index_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a saved index"):
        read_index(tmp_path / "index", SearchCard(type="ivf", lists=2, probes=1))


def test_many_queries_are_answered_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    features_ND, queries_QD = points(300), torch.from_numpy(points(90, seed=1))
    whole = PatchSearch(features_ND, np.arange(300)).nearest(queries_QD, 4)
    monkeypatch.setattr(affinity, "BLOCK_VALUES", 5000)
    monkeypatch.setattr(patch_search, "CANDIDATE_VALUES", 400)
    assert torch.equal(PatchSearch(features_ND, np.arange(300)).nearest(queries_QD, 4).rows_Qk, whole.rows_Qk)
