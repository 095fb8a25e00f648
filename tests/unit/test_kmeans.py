"""Clusters and their classes: against plain loops, scikit-learn and faiss's rule, and where the answer is known."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from tips_bench.errors import UserError
from tips_bench.features.geometry import interpolation
from tips_bench.metrics.segmentation import summary
from tips_bench.probes.training_free import kmeans as module
from tips_bench.probes.training_free.kmeans import ClusterHead, Components, classes_of, kmeans, nearest, principal


def clouds(seed: int, clusters: int = 4, spread: float = 0.05) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels_S = rng.integers(0, clusters, 300)
    points_SP = 3 * rng.standard_normal((clusters, 6))[labels_S] + spread * rng.standard_normal((300, 6))
    return torch.from_numpy(points_SP), labels_S


@pytest.mark.parametrize("seed", range(3))
def test_clouds_that_lie_apart_are_the_clusters(seed: int) -> None:
    points_SP, labels_S = clouds(seed)
    centers_KP, loss = kmeans(points_SP, 4, iterations=50, restarts=10, seed=0)
    found_S, distances_S = nearest(points_SP, centers_KP)
    pixels_KC = np.zeros((4, 4), int)
    np.add.at(pixels_KC, (found_S.numpy(), labels_S), 1)
    assert (classes_of(pixels_KC, one_to_one=True)[found_S.numpy()] == labels_S).all()
    assert loss == pytest.approx(float((points_SP - centers_KP[found_S]).square().sum()), rel=1e-9) == float(distances_S.sum())


@pytest.mark.parametrize("seed", range(3))
def test_from_the_same_first_centers_the_clusters_are_those_of_scikit_learn(seed: int) -> None:
    points_SP, _ = clouds(seed, clusters=7, spread=1.5)
    first_K = np.random.Generator(np.random.Philox(key=seed)).choice(len(points_SP), 7, replace=False)
    theirs = KMeans(7, init=points_SP.numpy()[first_K], n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(points_SP.numpy())
    centers_KP, loss = kmeans(points_SP, 7, iterations=300, restarts=1, seed=seed)
    np.testing.assert_allclose(centers_KP, theirs.cluster_centers_, atol=1e-9)
    assert loss == pytest.approx(theirs.inertia_, rel=1e-9)
    assert kmeans(points_SP, 7, iterations=300, restarts=4, seed=seed)[1] <= loss


@pytest.mark.parametrize(("clusters", "spread"), [(2, 0.5), (9, 3.0), (40, 3.0), (290, 1.0)])
def test_points_that_are_not_looked_at_again_would_have_stayed(clusters: int, spread: float) -> None:
    points_SP, _ = clouds(clusters, clusters=7, spread=spread)
    points_SP[20:40] = points_SP[:20]  # equal points, and so clusters without any
    first_KP = points_SP[:clusters].clone()
    labels_S, distances_S = nearest(points_SP, first_KP)
    centers_KP, iterations = first_KP, 0
    while True:  # all points are compared with all centers
        centers_KP, iterations = module._means(points_SP, labels_S, distances_S, clusters), iterations + 1
        before_S, (labels_S, distances_S) = labels_S, nearest(points_SP, centers_KP)
        if torch.equal(before_S, labels_S):
            break
    found_KP, loss = module._fit(points_SP, first_KP, 1000)
    assert torch.equal(found_KP, centers_KP) and loss == float(distances_S.sum())
    assert iterations > 1 or clusters == 290


def test_an_empty_cluster_begins_again_at_the_farthest_point() -> None:
    points_SP = torch.tensor([[0.0], [0.0], [0.1], [9.0]], dtype=torch.float64)
    labels_S, distances_S = nearest(points_SP, torch.tensor([[0.0], [50.0]], dtype=torch.float64))
    centers_KP = module._means(points_SP, labels_S, distances_S, 2)
    assert centers_KP[1].item() == 9.0
    with pytest.raises(UserError, match="4 patches cannot make 5 clusters"):
        kmeans(points_SP, 5, iterations=1, restarts=1, seed=0)


def test_components_are_those_of_scikit_learn_whatever_the_blocks() -> None:
    features_ND = torch.from_numpy(np.random.default_rng(0).standard_normal((200, 8)) @ np.diag([9, 1, 1, 2, 0, 3, 1, 1]))
    one, other = (principal(features_ND.split(size), 8, 3) for size in (200, 13))
    np.testing.assert_allclose(one(features_ND).abs(), other(features_ND).abs(), atol=1e-9)
    theirs_NP = PCA(3, svd_solver="full").fit_transform(StandardScaler().fit_transform(features_ND.numpy()))
    np.testing.assert_allclose(one(features_ND).abs(), np.abs(theirs_NP), atol=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_matching_is_the_best_of_all_ways(seed: int, clusters: int, classes: int) -> None:
    pixels_KC = np.random.default_rng(seed).integers(0, 9, (clusters, classes))
    class_K = classes_of(pixels_KC, one_to_one=True)

    def total(matched: dict[int, int]) -> float:
        score = 0.0
        for cluster, label in matched.items():
            union = pixels_KC[cluster].sum() + pixels_KC[:, label].sum() - pixels_KC[cluster, label]
            score += pixels_KC[cluster, label] / union if union else 0.0
        return score

    if clusters <= classes:
        ways = [dict(enumerate(way)) for way in permutations(range(classes), clusters)]
        assert len(set(class_K.tolist())) == clusters
        assert total(dict(enumerate(class_K.tolist()))) == pytest.approx(max(map(total, ways)), abs=1e-12)
    precise_KC = pixels_KC / np.maximum(pixels_KC.sum(1, keepdims=True), 1)
    many_K = classes_of(pixels_KC, one_to_one=False)
    assert all(precise_KC[cluster, label] == precise_KC[cluster].max() for cluster, label in enumerate(many_K))


@given(st.permutations(range(5)))
@settings(max_examples=20, deadline=None)
def test_permuted_labels_score_100(order: list[int]) -> None:
    labels = np.random.default_rng(0).integers(0, 5, 500)
    for one_to_one in (True, False):
        pixels_KC = np.zeros((5, 5), int)
        np.add.at(pixels_KC, (np.array(order)[labels], labels), 1)
        named = classes_of(pixels_KC, one_to_one)[np.array(order)[labels]]
        counts_3C = np.stack([np.bincount(part, minlength=5) for part in (labels[named == labels], named, labels)])
        assert summary(counts_3C)["mIoU"] == 100


def test_a_head_that_was_saved_gives_the_same_classes(tmp_path) -> None:
    generator = torch.Generator().manual_seed(0)
    components = Components(torch.zeros(6, dtype=torch.float64), torch.randn(6, 3, generator=generator, dtype=torch.float64))
    centers_KP = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    head = ClusterHead(components, centers_KP, torch.tensor([2, 0, 0, 3, 1]), 4)
    features_NhwD = torch.randn(2, 3, 4, 6, generator=generator)
    head.save(tmp_path / "head.npz")
    values_NChw = head(features_NhwD)
    assert torch.equal(ClusterHead.load(tmp_path / "head.npz")(features_NhwD), values_NChw)
    assert values_NChw.shape == (2, 4, 3, 4) and torch.equal(values_NChw.sum(1), torch.ones(2, 3, 4))
    distances = torch.cdist((features_NhwD.double() @ components.weight_DP).flatten(0, 2), centers_KP)
    assert torch.equal(values_NChw.argmax(1).flatten(), head.class_K[distances.argmin(1)])


def test_the_nearest_cell_is_the_one_in_which_a_pixels_center_lies() -> None:
    for source, target in ((4, 12), (5, 13), (16, 9), (3, 3)):
        cells = torch.floor((torch.arange(target, dtype=torch.float64) + 0.5) * source / target).long()
        assert torch.equal(interpolation(source, target, "nearest"), torch.eye(source)[cells])
