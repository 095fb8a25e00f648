"""Which images of a group stay, how a draw is balanced, and what k-means over blocks finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans

from tips_bench.corpus.curation import kmeans as kmeans_room
from tips_bench.corpus.curation.alike import Pairs
from tips_bench.corpus.curation.balance import draw, shares
from tips_bench.corpus.curation.card import BalanceCard, curation_card
from tips_bench.corpus.curation.choice import Choice
from tips_bench.corpus.curation.duplicates import stands_for
from tips_bench.corpus.curation.hierarchy import build, nearest_members
from tips_bench.corpus.curation.kmeans import Assignment, Points, assign, kmeans
from tips_bench.corpus.curation.page import _dropped_pairs
from tips_bench.errors import UserError


def pairs(*links: tuple[int, int]) -> Pairs:
    rows_P2 = np.array(links, np.int64).reshape(-1, 2)
    return Pairs(rows_P2[:, 0], rows_P2[:, 1], np.ones(len(rows_P2)), np.zeros(len(rows_P2), np.uint8))


def in_blocks(points_ND: np.ndarray, size: int) -> Points:
    return Points(len(points_ND), points_ND.shape[1], lambda: (points_ND[first : first + size] for first in range(0, len(points_ND), size)))


def test_the_largest_of_paired_images_stays_and_of_equal_ones_the_first() -> None:
    pixels_N = np.array([5, 9, 9, 1, 7, 7, 3])
    stays_N = stands_for(pairs((0, 2), (0, 1), (2, 1), (5, 4)), pixels_N)
    assert stays_N.tolist() == [1, 1, 1, 3, 4, 4, 6]
    assert stands_for(pairs(), pixels_N).tolist() == list(range(7))


def test_a_chain_of_pairs_drops_no_image_that_is_not_the_same_picture_as_the_one_that_stays() -> None:
    pixels_N = np.array([9, 8, 7, 6, 5])
    assert stands_for(pairs((0, 1), (1, 2), (2, 3), (3, 4)), pixels_N).tolist() == [0, 0, 2, 2, 4]
    rng = np.random.default_rng(0)
    links, pixels_N = rng.integers(0, 60, (90, 2)), rng.integers(1, 4, 60)
    stays_N = stands_for(pairs(*map(tuple, links.tolist())), pixels_N)
    known = {frozenset(link) for link in links.tolist()}
    assert all({row, other} in known for row, other in enumerate(stays_N.tolist()) if row != other)
    kept = set(np.flatnonzero(stays_N == np.arange(60)).tolist())
    assert not any(len(link) == 2 and link <= kept for link in known)


def test_groups_do_not_depend_on_the_order_of_pairs() -> None:
    rng = np.random.default_rng(0)
    links, pixels_N = rng.integers(0, 60, (40, 2)), rng.integers(1, 4, 60)
    expected = stands_for(pairs(*map(tuple, links.tolist())), pixels_N)
    other = links[rng.permutation(40)][:, ::-1]
    assert (stands_for(pairs(*map(tuple, other.tolist())), pixels_N) == expected).all()


def test_shares_are_equal_as_far_as_clusters_reach_and_meet_the_number() -> None:
    rng = np.random.default_rng(0)
    assert shares(np.array([1, 10, 100]), 21, rng).tolist() == [1, 10, 10]
    share_K = shares(np.array([1, 10, 100, 100]), 34, rng)
    assert share_K[:2].tolist() == [1, 10] and sorted(share_K[2:].tolist()) == [11, 12]
    assert shares(np.array([2, 3]), 99, rng).tolist() == [2, 3] and shares(np.array([2, 3]), 0, rng).tolist() == [0, 0]


def test_kmeans_is_lloyds_algorithm_whatever_the_blocks() -> None:
    rng = np.random.default_rng(1)
    points_ND = rng.standard_normal((500, 6)).astype(np.float32)
    start_KD = points_ND[:7]
    theirs = KMeans(7, init=start_KD, n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(points_ND)
    for size in (500, 64):
        points = in_blocks(points_ND, size)
        centroids_KD = kmeans(points, 7, 100, rng, start_KD)
        np.testing.assert_allclose(centroids_KD, theirs.cluster_centers_, atol=1e-5)
        assert (assign(points, centroids_KD).cluster_N == theirs.labels_).all()


def test_a_cluster_without_points_gets_the_farthest_one() -> None:
    points_ND = np.array([[0.0], [0.1], [0.2], [9.0]], np.float32)
    centroids_KD = kmeans(Points.of(points_ND), 2, 10, np.random.default_rng(0), np.array([[0.0], [500.0]], np.float32))
    np.testing.assert_allclose(np.sort(centroids_KD[:, 0]), [0.1, 9.0], atol=1e-6)


def test_points_are_read_by_their_rows_across_blocks() -> None:
    points_ND = np.arange(20, dtype=np.float32).reshape(10, 2)
    rows = np.array([0, 3, 4, 9])
    assert (in_blocks(points_ND, 4).at(rows) == points_ND[rows]).all()


def test_the_nearest_members_of_each_cluster_are_found() -> None:
    found = Assignment(np.array([0, 1, 0, 0, 1]), np.array([3.0, 1.0, 1.0, 2.0, 1.0]))
    assert nearest_members(found, 2).tolist() == [1, 2, 3, 4]


def uneven(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(points_ND, kind_N): eight kinds of images, each half as frequent as the one before."""
    sizes = [1024 >> kind for kind in range(8)]
    centers = 4 * rng.standard_normal((8, 16))
    points = [centers[kind] + rng.standard_normal((size, 16)) for kind, size in enumerate(sizes)]
    return np.concatenate(points).astype(np.float32), np.repeat(np.arange(8), sizes)


def test_a_draw_from_the_tree_is_more_even_than_a_random_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    points_ND, kind_N = uneven(rng)
    card = BalanceCard(members=[16, 8], rounds=3, nearest=4)
    levels = build(Points.of(points_ND), card, 0, tmp_path)
    assert [len(level.centroids_KD) for level in levels] == [127, 15]
    rows = draw(levels, 200, 0)
    assert len(rows) == 200 and (np.diff(rows) > 0).all()
    drawn_K, random_K = np.bincount(kind_N[rows], minlength=8), 200 * np.bincount(kind_N) / len(kind_N)

    def entropy(counts: np.ndarray) -> float:
        share = counts[counts > 0] / counts.sum()
        return float(-(share * np.log(share)).sum())

    assert entropy(drawn_K) > entropy(random_K) + 0.4, (drawn_K, random_K)
    assert (draw(levels, 200, 0) == rows).all() and (draw(levels, 200, 1) != rows).any()
    assert len(draw(levels, 10_000, 0)) == len(points_ND)


def test_a_tree_is_taken_up_where_it_was_left_and_comes_out_the_same(tmp_path: Path) -> None:
    points_ND, _ = uneven(np.random.default_rng(3))
    card = BalanceCard(members=[64, 8], rounds=1)
    once = build(Points.of(points_ND), card, 0, tmp_path / "once")
    build(Points.of(points_ND), card.model_copy(update={"members": [64]}), 0, tmp_path / "twice")
    twice = build(in_blocks(points_ND, 300), card, 0, tmp_path / "twice")
    for one, other in zip(once, twice, strict=True):
        assert (one.centroids_KD == other.centroids_KD).all() and (one.parent_N == other.parent_N).all()


def test_above_the_most_clusters_a_sample_decides_the_centroids_and_every_point_gets_one(tmp_path: Path) -> None:
    points_ND = np.random.default_rng(3).normal(size=(1000, 4)).astype(np.float32)
    read = list[int]()

    def counted() -> Iterator[np.ndarray]:
        read.append(1)
        yield from np.array_split(points_ND, 4)

    card = BalanceCard(members=[10, 5], most_clusters=20, rounds=2, nearest=3)
    levels = build(Points(1000, 4, counted), card, 0, tmp_path)
    assert [len(level.centroids_KD) for level in levels] == [20, 4] and len(levels[0].parent_N) == 1000
    assert len(read) == 2  # once for the sample, once for the nearest centroids, however many iterations
    np.testing.assert_array_equal(levels[0].parent_N, assign(Points.of(points_ND), levels[0].centroids_KD).cluster_N)
    assert len(draw(levels, 100, 0)) == 100


def test_many_clusters_start_from_points_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans_room, "MOST_SEEDED", 5)
    points_ND = np.arange(60, dtype=np.float32)[:, None]
    centroids_KD = kmeans(Points.of(points_ND), 6, 50, np.random.default_rng(0))
    assert len(np.unique(centroids_KD)) == 6 and np.bincount(assign(Points.of(points_ND), centroids_KD).cluster_N).min() > 0


def test_points_in_memory_come_in_blocks_and_give_the_same_centroids(monkeypatch: pytest.MonkeyPatch) -> None:
    points_ND = np.random.default_rng(5).integers(0, 50, (90, 2)).astype(np.float32)
    start_KD = np.concatenate([points_ND[:6], np.full((2, 2), 900, np.float32)])  # two that no point is near to
    whole_KD = kmeans(Points.of(points_ND), 8, 30, np.random.default_rng(0), start_KD)
    monkeypatch.setattr(kmeans_room, "BLOCK_ROWS", 7)
    np.testing.assert_allclose(kmeans(Points.of(points_ND), 8, 30, np.random.default_rng(0), start_KD), whole_KD, rtol=1e-6)


def test_a_number_of_the_card_is_changed_by_its_name() -> None:
    assert curation_card(["duplicates.bits=9", "contamination.splits=[train, test]"]).duplicates.bits == 9
    with pytest.raises(UserError, match=r"duplicates\.bit.*duplicates\.bits"):
        curation_card(["duplicates.bit=9"])
    with pytest.raises(UserError, match=r"duplicates\.agreement = 2"):
        curation_card(["duplicates.agreement=2"])


def test_the_pairs_of_the_list_have_the_agreement_that_was_found_in_either_order() -> None:
    pairs = Pairs(np.array([4, 1, 0]), np.array([2, 3, 1]), np.array([0.95, 0.97, 0.99]), np.zeros(3, np.uint8))
    choice = Choice(np.ones(5, bool), np.array([0, 1, 2, 1, 2]), pairs)
    found = _dropped_pairs(choice)
    assert (found.rows_P.tolist(), found.others_P.tolist(), found.agreement_P.tolist()) == ([3, 4], [1, 2], [0.97, 0.95])
