"""Top-1, top-5, R@1 and mMP@5 against scikit-learn and plain loops, whole and in shards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import top_k_accuracy_score

from tips_bench.errors import UserError
from tips_bench.metrics import classification, instances


def drawn(seed: int, images: int = 60, classes: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((images, classes)), rng.integers(0, classes, images)


@pytest.mark.parametrize("seed", range(4))
def test_accuracies_are_those_of_scikit_learn(seed: int) -> None:
    scores_NC, labels_N = drawn(seed)
    counts = classification.counts_of(0)
    for image, rank in enumerate(classification.ranks(scores_NC, labels_N)):
        counts.update(f"{image:03}", f"{image:03}", classification.count(rank[None], None))
    values = counts.compute()
    for k in (1, 5):
        assert values[f"top{k}"] == pytest.approx(100 * top_k_accuracy_score(labels_N, scores_NC, k=k, labels=np.arange(9)), abs=1e-12)


@given(npst.arrays(np.int64, (5, 6), elements=st.integers(0, 3)), npst.arrays(np.int64, 5, elements=st.integers(0, 5)))
def test_of_equal_scores_the_lower_class_comes_first(scores_NC: np.ndarray, labels_N: np.ndarray) -> None:
    ranks_N = classification.ranks(scores_NC.astype(float), labels_N)
    order_NC = np.argsort(-scores_NC, 1, kind="stable")
    np.testing.assert_array_equal(ranks_N, [np.flatnonzero(order_C == label)[0] for order_C, label in zip(order_NC, labels_N, strict=True)])
    np.testing.assert_array_equal(ranks_N == 0, scores_NC.argmax(1) == labels_N)


def test_a_class_without_a_score_and_scores_that_are_none_are_right_nowhere() -> None:
    scores_NC = np.array([[-np.inf, 1.0, -np.inf], [np.nan, 0.0, 0.0], [np.nan] * 3])
    np.testing.assert_array_equal(classification.ranks(scores_NC, np.array([0, 1, 2])), [3, 3, 3])
    assert classification.ranks(scores_NC[:1], np.array([1])) == 0


def test_the_best_candidate_on_the_scored_split_has_its_own_name() -> None:
    counts = classification.counts_of(3)
    ranks_NS = np.array([[0, 9, 9], [0, 0, 7], [3, 0, 0], [9, 0, 0]])
    for image, ranks_S in enumerate(ranks_NS):
        counts.update(str(image), str(image), classification.count(ranks_S, 2))
    assert counts.compute() == {"top1": 50.0, "top5": 50.0, "top1-best-on-test": 75.0}
    resampled = np.stack([counts.counts_N[[0, 0]].sum(0), counts.counts_N[[2, 3]].sum(0)])
    np.testing.assert_array_equal(classification.summary(resampled)["top1-best-on-test"], [100.0, 100.0])
    assert set(classification.counts_of(0).specs) == {"top1", "top5"}


def test_nothing_scored_is_not_a_number() -> None:
    assert all(np.isnan(value) for value in classification.counts_of(2).compute().values())


@pytest.mark.parametrize("counts_3S", [[[1], [0], [1]], [[0], [2], [1]]])
def test_contradictory_counts_are_refused(counts_3S: list[list[int]]) -> None:
    with pytest.raises(UserError, match="contradict"):
        classification.counts_of(0).update("a", "a", np.array(counts_3S))


def plain_scores(queries: list[tuple[np.ndarray, int, int]], domains: int) -> tuple[float, float]:
    """R@1 and mMP@5 with the formulas of the paper: n_q' = min(n_q, 5)."""
    right: list[list[float]] = [[] for _ in range(domains)]
    precision: list[list[float]] = [[] for _ in range(domains)]
    for relevant_k, number, domain in queries:
        depth = min(number, 5)
        right[domain].append(float(relevant_k[0]))
        precision[domain].append(sum(map(float, relevant_k[:depth])) / depth)
    return 100 * np.mean([np.mean(one) for one in right]), 100 * np.mean([np.mean(one) for one in precision])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_retrieval_of_instances_is_the_papers_formula_whole_and_in_shards(seed: int, domains: int) -> None:
    rng = np.random.default_rng(seed)
    queries = [(rng.random(5) < 0.5, int(rng.integers(1, 9)), domain % domains) for domain in range(3 * domains + int(rng.integers(5)))]
    whole, shards = instances.InstanceCounts(domains), [instances.InstanceCounts(domains) for _ in range(2)]
    for place, (relevant_k, number, domain) in enumerate(queries):
        counts_G3 = instances.count(relevant_k, number, domain, domains)
        for target in (whole, shards[place % 2]):
            target.update(f"{place}", f"{place}", counts_G3)
    shards[0].merge(shards[1])
    expected = plain_scores(queries, domains)
    values = whole.compute()
    assert (values["R@1"], values["mMP@5"]) == pytest.approx(expected, abs=1e-9) and shards[0] == whole
    assert np.mean(values["domain R@1"]) == pytest.approx(expected[0], abs=1e-9)


def test_a_query_without_a_relevant_image_is_wrong_and_a_domain_without_queries_is_no_part_of_the_mean() -> None:
    counts = instances.InstanceCounts(3)
    counts.update("a", "a", instances.count(np.array([False] * 5), 0, 0, 3))
    counts.update("b", "b", instances.count(np.array([True] + [False] * 4), 1, 1, 3))
    values = counts.compute()
    assert (values["R@1"], values["mMP@5"]) == (50.0, 50.0) and np.isnan(values["domain R@1"][2])
    with pytest.raises(UserError, match="contradict"):
        counts.update("c", "c", np.zeros((3, 3), dtype=np.int64))
