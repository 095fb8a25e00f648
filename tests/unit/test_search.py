"""features/search.py: the neighbours of a plain float64 sort, whatever the chunks, ties and crowds, and whoever finds the candidates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tips_bench.features import search
from tips_bench.features.search import Search


def plain(queries_QD: np.ndarray, index_ND: np.ndarray, k: int, itself_Q: np.ndarray, relevant_QN: np.ndarray) -> np.ndarray:
    """rows_Qk by sorting whole rows of exact cosines."""
    rows = []
    for query, query_D in enumerate(queries_QD.astype(np.float64)):
        keys = []
        for row, index_D in enumerate(index_ND.astype(np.float64)):
            lengths = np.linalg.norm(query_D) * np.linalg.norm(index_D)
            near = float(query_D @ index_D / lengths) if lengths else 0.0
            if row != itself_Q[query]:
                keys.append((-round(near, 11), bool(relevant_QN[query, row]), row))
        rows.append([row for _, _, row in sorted(keys)[:k]])
    return np.array(rows)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, np.ndarray, np.ndarray]:
    """Small whole numbers, so that many similarities are equal, and duplicates."""
    queries, rows, dim = draw(st.integers(1, 5)), draw(st.integers(2, 40)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    index_ND = rng.integers(-2, 3, (rows, dim)).astype(np.float32)
    queries_QD = rng.integers(-2, 3, (queries, dim)).astype(np.float32)
    itself_Q = rng.integers(-1, rows, queries)
    k = draw(st.integers(1, rows - 1))
    return queries_QD, index_ND, k, itself_Q, rng.random((queries, rows)) < 0.4


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Chunks of a few rows and hardly a spare candidate, so that every way through the code is taken."""
    monkeypatch.setattr(search, "INDEX_ROWS", 7)
    monkeypatch.setattr(search, "QUERY_ROWS", 2)
    monkeypatch.setattr(search, "EXACT_VALUES", 30)
    monkeypatch.setattr(search, "SPARE", 1)
    yield


@settings(max_examples=60, deadline=None)
@given(problems(), st.booleans())
def test_neighbours_are_those_of_a_plain_sort(problem: tuple, tight: bool) -> None:
    queries_QD, index_ND, k, itself_Q, relevant_QN = problem
    with pytest.MonkeyPatch.context() as patch:
        if tight:
            for name, value in (("INDEX_ROWS", 7), ("QUERY_ROWS", 2), ("EXACT_VALUES", 30), ("SPARE", 1)):
                patch.setattr(search, name, value)
        found = Search(index_ND).nearest(queries_QD, k, itself_Q=itself_Q, relevant=lambda q, rows: relevant_QN[q, rows])
    np.testing.assert_array_equal(found.rows_Qk, plain(queries_QD, index_ND, k, itself_Q, relevant_QN))


@pytest.mark.parametrize("dim", [5, 300])
def test_any_chunk_size_gives_the_same_numbers(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    index_ND, queries_QD = (rng.standard_normal((rows, dim)).astype(np.float32) for rows in (500, 40))
    whole = Search(index_ND).nearest(queries_QD, 20)
    for rows in (33, 64, 499):
        monkeypatch.setattr(search, "INDEX_ROWS", rows)
        monkeypatch.setattr(search, "EXACT_VALUES", 90 * rows)
        part = Search(index_ND).nearest(queries_QD, 20)
        assert np.array_equal(part.rows_Qk, whole.rows_Qk) and np.array_equal(part.similarities_Qk, whole.similarities_Qk)


def test_a_crowd_of_equals_is_ordered_by_its_rows(small_steps: None) -> None:
    index_ND = np.tile(np.array([[1.0, 0.0]], np.float32), (50, 1)) * np.linspace(0.1, 9, 50, dtype=np.float32)[:, None]
    found = Search(index_ND).nearest(np.array([[3.0, 0.0]], np.float32), 10)
    np.testing.assert_array_equal(found.rows_Qk, [np.arange(10)])
    np.testing.assert_array_equal(found.similarities_Qk, np.ones((1, 10)))


def test_only_rows_among_which_one_looks_are_found(small_steps: None) -> None:
    rng = np.random.default_rng(1)
    index_ND, queries_QD, among_N = rng.standard_normal((60, 3)).astype(np.float32), rng.standard_normal((4, 3)), np.arange(0, 60, 3)
    found = Search(index_ND, among_N=among_N).nearest(queries_QD.astype(np.float32), 6)
    inside = Search(index_ND[among_N]).nearest(queries_QD.astype(np.float32), 6)
    np.testing.assert_array_equal(found.rows_Qk, among_N[inside.rows_Qk])


def test_fewer_are_found_where_the_index_is_small() -> None:
    index_ND = np.eye(3, dtype=np.float32)
    assert Search(index_ND).nearest(index_ND, 9).rows_Qk.shape == (3, 3)
    found = Search(index_ND).nearest(index_ND[:1], 9, itself_Q=np.array([0]))
    assert found.rows_Qk.tolist() == [[1, 2]]
    assert Search(index_ND[:1]).nearest(index_ND[:1], 5, itself_Q=np.array([0])).rows_Qk.shape == (1, 0)


def test_features_stored_as_bfloat16_are_read_as_such() -> None:
    features_ND = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = Search(features_ND.view(torch.int16).numpy()).nearest(features_ND[:4].view(torch.int16).numpy(), 5)
    same = Search(features_ND.float().numpy()).nearest(features_ND[:4].float().numpy(), 5)
    np.testing.assert_array_equal(found.rows_Qk, same.rows_Qk)


@pytest.mark.parametrize(("rows", "dim"), [(300, 16), (5000, 64)])
def test_faiss_finds_the_same_as_torch(monkeypatch: pytest.MonkeyPatch, rows: int, dim: int) -> None:
    assert search._faiss() is not None, "faiss-cpu is one of the packages that tests need"
    rng = np.random.default_rng(2)
    index_ND, queries_QD = (rng.standard_normal((n, dim)).astype(np.float32) for n in (rows, 9))
    index_ND[7] = index_ND[3]  # a tie
    with_faiss = Search(index_ND).nearest(queries_QD, 12)
    monkeypatch.setattr(search, "_faiss", lambda: None)
    with_torch = Search(index_ND).nearest(queries_QD, 12)
    np.testing.assert_array_equal(with_torch.rows_Qk, with_faiss.rows_Qk)
    np.testing.assert_array_equal(with_torch.similarities_Qk, with_faiss.similarities_Qk)


@pytest.mark.parametrize("held", [7, 40, 1 << 20])
def test_all_similarities_are_those_of_plain_products_however_many_are_held(monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    rng = np.random.default_rng(0)
    queries_QD, index_ND = rng.standard_normal((5, 8)).astype(np.float32), rng.standard_normal((30, 8)).astype(np.float32)
    index_ND[3], index_ND[7] = index_ND[2], 0
    monkeypatch.setattr(search, "WHOLE_VALUES", held)
    monkeypatch.setattr(search, "INDEX_ROWS", 11)
    found = dict(Search(index_ND).similarities(queries_QD))
    lengths_QN = np.linalg.norm(queries_QD.astype(float), axis=1)[:, None] * np.linalg.norm(index_ND.astype(float), axis=1)
    near_QN = np.divide(queries_QD.astype(float) @ index_ND.T.astype(float), lengths_QN, out=np.zeros((5, 30)), where=lengths_QN > 0)
    assert list(found) == list(range(5))
    np.testing.assert_allclose(np.stack(list(found.values())), near_QN, rtol=0, atol=1e-11)
    assert all(near_N[2] == near_N[3] for near_N in found.values()), "equal images are equally near"
