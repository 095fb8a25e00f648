"""kNN's votes against scikit-learn's brute force and DINOv2's own formula; the search against scikit-learn's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from tips_bench.features.search import Search
from tips_bench.metrics.classification import ranks
from tips_bench.probes.image_heads import rank_all
from tips_bench.probes.training_free.knn import KnnHead

K, T, CLASSES = [5, 20, 60], 0.07, 7


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    centers_CD = rng.standard_normal((CLASSES, 24))
    labels_N, labels_Q = rng.integers(0, CLASSES, 400), rng.integers(0, CLASSES, 90)
    features_NF, features_QF = (centers_CD[labels] + 1.6 * rng.standard_normal((len(labels), 24)) for labels in (labels_N, labels_Q))
    return {"train": features_NF.astype(np.float32), "labels": labels_N, "test": features_QF.astype(np.float32), "truth": labels_Q}


def head(drawn: dict[str, np.ndarray], **options: object) -> KnnHead:
    return KnnHead(drawn["train"], drawn["labels"], CLASSES, K, T, choice=0, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("place", "k"), list(enumerate(K)))
def test_votes_are_those_of_scikit_learn(drawn: dict[str, np.ndarray], place: int, k: int) -> None:
    theirs = KNeighborsClassifier(k, weights=lambda distance: np.exp((1 - distance) / T), algorithm="brute", metric="cosine")
    theirs.fit(drawn["train"].astype(np.float64), drawn["labels"])
    votes_QC = head(drawn).scores(drawn["test"])[place]
    shares_QC = np.where(np.isneginf(votes_QC), 0, votes_QC)
    shares_QC /= shares_QC.sum(1, keepdims=True)
    np.testing.assert_allclose(shares_QC, theirs.predict_proba(drawn["test"].astype(np.float64)), atol=1e-6)
    accuracy = 100 * np.mean(ranks(votes_QC, drawn["truth"]) == 0)
    assert accuracy == pytest.approx(100 * theirs.score(drawn["test"].astype(np.float64), drawn["truth"]))
    assert 20 < accuracy < 95


def test_the_order_of_classes_is_that_of_dinov2() -> None:
    """dinov2/eval/knn.py takes the softmax over the greatest k of all and cuts it to each k."""
    rng = np.random.default_rng(3)
    features_NF, labels_N = rng.standard_normal((300, 8)).astype(np.float32), rng.integers(0, CLASSES, 300)
    features_QF = rng.standard_normal((40, 8)).astype(np.float32)
    unit = torch.nn.functional.normalize
    near_QN = unit(torch.from_numpy(features_QF), dim=1) @ unit(torch.from_numpy(features_NF), dim=1).T
    top_Qk, rows_Qk = near_QN.topk(max(K))
    votes_QkC = torch.nn.functional.one_hot(torch.from_numpy(labels_N)[rows_Qk], CLASSES) * torch.softmax(top_Qk / T, 1)[..., None]
    ours_SQC = KnnHead(features_NF, labels_N, CLASSES, K, T, choice=0).scores(features_QF)
    for ours_QC, k in zip(ours_SQC, K, strict=True):
        theirs_QC = votes_QkC[:, :k].sum(1).numpy()
        np.testing.assert_array_equal(ours_QC.argmax(1), theirs_QC.argmax(1))
        shown_QC = np.where(np.isneginf(ours_QC), 0, ours_QC)
        ratio_QC = np.divide(theirs_QC, shown_QC, where=shown_QC > 0, out=np.full(shown_QC.shape, np.nan))
        np.testing.assert_allclose(np.nanmax(ratio_QC, 1), np.nanmin(ratio_QC, 1), rtol=1e-4)


def test_neighbours_are_those_of_scikit_learn(drawn: dict[str, np.ndarray]) -> None:
    theirs = NearestNeighbors(n_neighbors=30, algorithm="brute", metric="cosine").fit(drawn["train"].astype(np.float64))
    distances_Qk, rows_Qk = theirs.kneighbors(drawn["test"].astype(np.float64))
    ours = Search(drawn["train"]).nearest(drawn["test"], 30)
    np.testing.assert_array_equal(ours.rows_Qk, rows_Qk)
    np.testing.assert_allclose(1 - ours.similarities_Qk, distances_Qk, atol=1e-11)


def test_blocks_of_images_change_nothing(drawn: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    whole_NS = rank_all(head(drawn), drawn["test"], drawn["truth"])
    monkeypatch.setattr(KnnHead, "block", 7)
    np.testing.assert_array_equal(rank_all(head(drawn), drawn["test"], drawn["truth"]), whole_NS)
    rows = np.array([3, 4, 50])
    np.testing.assert_array_equal(rank_all(head(drawn), drawn["test"], drawn["truth"], rows), whole_NS[rows])


def test_only_some_training_images_vote_where_others_are_held_out(drawn: dict[str, np.ndarray]) -> None:
    among_N = np.arange(0, 400, 2)
    some = KnnHead(drawn["train"][among_N], drawn["labels"][among_N], CLASSES, K, T, choice=0)
    np.testing.assert_array_equal(head(drawn, among_N=among_N).scores(drawn["test"]), some.scores(drawn["test"]))


def test_a_saved_head_follows_its_features(drawn: dict[str, np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    features_NF = np.memmap(tmp_path / "store" / "features.bin", dtype="float32", mode="w+", shape=drawn["train"].shape)
    features_NF[:] = drawn["train"]
    saved = KnnHead(features_NF, drawn["labels"], CLASSES, K, T, choice=1)
    saved.save(tmp_path / "head.npz")
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(moved)
    loaded = KnnHead.load(moved / "head.npz")
    assert (loaded.k, loaded.choice, loaded.temperature) == (K, 1, T)
    np.testing.assert_array_equal(loaded.scores(drawn["test"]), head(drawn).scores(drawn["test"]))
