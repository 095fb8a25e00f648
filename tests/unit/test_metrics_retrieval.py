"""Ranks and hit rates of retrieval: against plain loops, torchmetrics, scikit-learn and CLIP_benchmark's definition; tiles; ties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score
from torchmetrics.retrieval import RetrievalHitRate, RetrievalRecall

from tips_bench.errors import UserError
from tips_bench.metrics.ranks import FRACTION_BITS, count_images, error, fixed_point
from tips_bench.metrics.retrieval import COUNTS, RANKS, SHARES, RetrievalCounts, embeddings_in, image_counts, metric_names, summary
from tips_bench.results.statistics import group_sums, intervals


def draw(seed: int, numbers: list[int], dim: int = 6, *, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images_ID, texts_TD, starts): captions are their images and noise."""
    rng = np.random.default_rng(seed)
    images_ID = rng.normal(size=(len(numbers), dim))
    texts_TD = np.repeat(images_ID, numbers, axis=0) + noise * rng.normal(size=(sum(numbers), dim))
    return fixed_point(images_ID), fixed_point(texts_TD), np.cumsum([0, *numbers])


def loops(images_ID: np.ndarray, texts_TD: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """counts_IM by sorting every list in integers: others before one's own where they are as near."""
    similar_IT = [[sum(int(a) * int(b) for a, b in zip(image, text, strict=True)) for text in texts_TD] for image in images_ID]
    owner_T = [image for image, (start, end) in enumerate(itertools.pairwise(starts)) for _ in range(start, end)]
    rows = []
    for image, (start, end) in enumerate(itertools.pairwise(starts)):
        order = sorted(range(len(texts_TD)), key=lambda t: (-similar_IT[image][t], owner_T[t] == image))
        own_k = [sum(owner_T[t] == image for t in order[:k]) for k in RANKS]
        hits_k = [0] * len(RANKS)
        for text in range(start, end):
            order = sorted(range(len(images_ID)), key=lambda i: (-similar_IT[i][text], i == image))
            hits_k = [hits + (image in order[:k]) for hits, k in zip(hits_k, RANKS, strict=True)]
        captions = int(end - start)
        rows.append([1, captions, *(int(n > 0) for n in own_k), *(n * SHARES // captions for n in own_k), *hits_k])
    return np.array(rows)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    numbers=st.lists(st.integers(1, 7), min_size=1, max_size=14),
    copies=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.booleans()), max_size=12),
    tile=st.tuples(st.integers(1, 20), st.integers(1, 40)),
)
def test_counts_are_those_of_plain_loops_whatever_the_tile_and_ties_count_against_the_model(seed, numbers, copies, tile):
    images_ID, texts_TD, starts = draw(seed, numbers)
    for source, target, of_texts in copies:  # equal vectors tie
        table = texts_TD if of_texts else images_ID
        table[target % len(table)] = table[source % len(table)]
    assert np.array_equal(count_images(images_ID, texts_TD, starts, tile=tile), loops(images_ID, texts_TD, starts))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), tile=st.tuples(st.integers(1, 300), st.integers(20, 900)), dim=st.sampled_from([8, 33, 512]))
def test_any_tile_gives_the_same_counts_where_many_similarities_are_nearly_equal(seed, tile, dim):
    rng = np.random.default_rng(seed)
    numbers = rng.integers(1, 5, 60)
    middle_D = rng.normal(size=dim)
    images_ID, texts_TD = (fixed_point(middle_D + 1e-7 * rng.normal(size=(rows, dim))) for rows in (60, int(numbers.sum())))
    starts = np.cumsum([0, *numbers])
    whole = count_images(images_ID, texts_TD, starts)
    assert np.array_equal(count_images(images_ID, texts_TD, starts, tile=tile), whole)
    swapped = rng.permutation(dim)  # the order in which products are added
    assert np.array_equal(count_images(images_ID[:, swapped], texts_TD[:, swapped], starts, tile=tile), whole)


def test_double_precision_alone_gives_the_same_counts(monkeypatch):
    sets = [draw(seed, [3, 1, 4, 2] * 9, dim=20, noise=1.2) for seed in range(4)]
    twice = [count_images(*found) for found in sets]
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert all(np.array_equal(count_images(*found), counts) for found, counts in zip(sets, twice, strict=True))


@pytest.mark.parametrize("dim", [4, 64, 512, 1536])
def test_single_precision_is_off_by_less_than_its_bound(dim):
    rng = np.random.default_rng(dim)
    near_ND = fixed_point(1 + 1e-3 * rng.normal(size=(300, dim)))  # nearly 1 each, where rounding is worst
    exact_NN = near_ND.astype(np.float64) @ near_ND.T.astype(np.float64) / 4.0**FRACTION_BITS
    unit_ND = torch.from_numpy(near_ND).float() / 2**FRACTION_BITS
    assert np.abs((unit_ND @ unit_ND.T).double().numpy() - exact_NN).max() < error(dim)


def test_an_encoder_that_says_the_same_of_everything_finds_nothing():
    numbers = [2] * 12
    images_ID, texts_TD = fixed_point(np.ones((12, 4))), fixed_point(np.ones((24, 4)))
    values = summary(count_images(images_ID, texts_TD, np.cumsum([0, *numbers]))[:, None].sum(axis=0))
    assert {float(value) for value in values.values()} == {0.0}
    zeros = count_images(fixed_point(np.zeros((12, 4))), texts_TD, np.cumsum([0, *numbers]))
    assert not zeros[:, 2:].any()


def similarities(images_ID: np.ndarray, texts_TD: np.ndarray) -> np.ndarray:
    """similar_IT in float64, without ties."""
    similar_IT = images_ID.astype(np.float64) @ texts_TD.astype(np.float64).T / 4.0**FRACTION_BITS
    assert len(np.unique(similar_IT)) == similar_IT.size
    return similar_IT


NUMBERS = [5, 6, 7, 5, 5, 1, 5, 6] * 5


@pytest.fixture(scope="module")
def found() -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """(similar_IT, owner_T, metrics) of a set in which some captions are found and some are not."""
    images_ID, texts_TD, starts = draw(3, NUMBERS, dim=10, noise=1.5)
    counts_IM = count_images(images_ID, texts_TD, starts, tile=(7, 11))
    metrics = {name: float(value) for name, value in summary(counts_IM[:, None].sum(axis=0)).items()}
    assert 20 < metrics["image-to-text R@1"] < 90 and 10 < metrics["text-to-image R@1"] < 90
    return similarities(images_ID, texts_TD), np.repeat(np.arange(len(NUMBERS)), NUMBERS), metrics


@pytest.mark.parametrize("k", RANKS)
def test_hit_rates_and_recall_are_those_of_torchmetrics(found, k):
    similar_IT, owner_T, metrics = found
    truth_IT = torch.from_numpy(owner_T[None] == np.arange(len(similar_IT))[:, None])
    similar = torch.from_numpy(similar_IT)
    of_image = torch.arange(len(similar)).view(-1, 1).expand_as(similar)
    of_text = torch.arange(len(owner_T)).expand_as(similar)
    for name, metric, queries in (
        (f"image-to-text R@{k}", RetrievalHitRate(top_k=k), of_image),
        (f"image-to-text recall@{k}", RetrievalRecall(top_k=k), of_image),
        (f"text-to-image R@{k}", RetrievalHitRate(top_k=k), of_text),
        (f"text-to-image R@{k}", RetrievalRecall(top_k=k), of_text),  # one image a caption: the two are one
    ):
        theirs = metric(similar.flatten(), truth_IT.flatten(), indexes=queries.flatten())
        assert metrics[name] == pytest.approx(100 * float(theirs), rel=1e-6)


@pytest.mark.parametrize("k", RANKS)
def test_text_to_image_is_top_k_accuracy_of_scikit_learn(found, k):
    similar_IT, owner_T, metrics = found
    assert metrics[f"text-to-image R@{k}"] == pytest.approx(100 * top_k_accuracy_score(owner_T, similar_IT.T, k=k), rel=1e-12)


@pytest.mark.parametrize("k", RANKS)
def test_hit_rates_follow_the_definition_of_clip_benchmark(found, k):
    """A matrix of right pairs, the k greatest scores of each row, and whether a right one is among them; its image retrieval is ours
    from text to image."""
    similar_IT, owner_T, metrics = found
    scores_TI = torch.from_numpy(similar_IT).T
    right_TI = torch.zeros_like(scores_TI, dtype=torch.bool)
    right_TI[torch.arange(len(owner_T)), torch.from_numpy(owner_T)] = True
    for name, scores, right in (("text-to-image", scores_TI, right_TI), ("image-to-text", scores_TI.T, right_TI.T)):
        top = scores.topk(k, dim=1).indices
        assert metrics[f"{name} R@{k}"] == pytest.approx(100 * right.gather(1, top).any(1).double().mean().item(), rel=1e-12)


@given(rows=st.integers(1, 5), dim=st.integers(1, 1536), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_a_fixed_point_vector_is_the_unit_vector_and_its_products_are_exact_in_double_precision(rows, dim, seed):
    vectors_ND = np.random.default_rng(seed).normal(size=(rows, dim)) * 10.0 ** np.random.default_rng(seed).integers(-3, 4)
    fixed_ND = fixed_point(vectors_ND.astype(np.float32))
    unit_ND = vectors_ND.astype(np.float32).astype(np.float64)
    unit_ND /= np.linalg.norm(unit_ND, axis=1, keepdims=True)
    assert fixed_ND.dtype == np.int32 and np.abs(fixed_ND / 2.0**FRACTION_BITS - unit_ND).max() <= 2.0 ** -(FRACTION_BITS + 1) + 1e-15
    exact = fixed_ND.astype(object) @ fixed_ND.T.astype(object)
    assert np.array_equal((fixed_ND.astype(np.float64) @ fixed_ND.T.astype(np.float64)).astype(object), exact)
    assert max(map(abs, exact.flatten())) < 2**53


def test_a_vector_of_zeros_stays_one():
    assert not fixed_point(np.zeros((2, 3))).any()


def test_recall_is_exact_up_to_15_captions_an_image():
    for captions in range(1, 16):
        for own in range(captions + 1):
            share = image_counts(np.array([own] * 3), np.zeros(3), captions)[5]
            assert share * captions == own * SHARES


def test_each_embedding_has_metrics_of_its_own_name():
    counts_EM = np.stack([image_counts(np.array([0, 1, 5]), np.array([1, 2, 5]), 5), image_counts(np.array([1, 1, 1]), np.zeros(3), 5)])
    counts = RetrievalCounts(2)
    counts.update("a", "a", counts_EM)
    values = counts.compute()
    assert list(values) == metric_names(2) == list(counts.specs) and len(values) == 18
    assert values["image-to-text R@1"] == 0 and values["image-to-text R@1 (token 1)"] == 100
    assert values["image-to-text recall@5"] == 20 and values["image-to-text recall@10 (token 1)"] == 20
    assert values["text-to-image R@5"] == 40
    assert embeddings_in(values) == 2 and embeddings_in(metric_names(1)) == 1 and embeddings_in([]) == 1


def test_nothing_scored_is_not_a_number():
    assert all(np.isnan(value) for value in summary(np.zeros((1, COUNTS))).values())


def test_summary_takes_any_leading_axes():
    images_ID, texts_TD, starts = draw(0, [2, 3, 4])
    counts_IEM = count_images(images_ID, texts_TD, starts)[:, None]
    stacked = summary(np.stack([counts_IEM, counts_IEM * 2]).sum(axis=1)[:, None])
    assert all(values.shape == (2, 1) and values[0] == values[1] for values in stacked.values())


@pytest.mark.parametrize(
    ("column", "value"),
    [(0, 2), (1, 0), (2, 1), (4, 2), (5, SHARES), (7, SHARES + 1), (8, 3), (10, 6), (7, 0)],
)
def test_counts_that_no_image_can_have_are_refused(column, value):
    counts_M = image_counts(np.array([0, 1, 2]), np.array([0, 2, 5]), 5)
    RetrievalCounts(1).update("good", "", counts_M[None])
    counts_M[column] = value
    with pytest.raises(UserError, match="contradict"):
        RetrievalCounts(1).update("bad", "", counts_M[None])


def test_both_embeddings_must_speak_of_the_same_captions():
    one, two = (image_counts(np.array([0, 1, 1]), np.zeros(3), captions) for captions in (5, 6))
    with pytest.raises(UserError, match="contradict"):
        RetrievalCounts(2).update("a", "", np.stack([one, two]))


def test_the_bootstrap_draws_images_with_all_their_captions():
    """Ten images whose five captions are found together or not at all are ten draws, not fifty."""
    counts = RetrievalCounts(1)
    for image in range(20):
        hit = image % 2
        counts.update(f"{image:02}", f"{image:02}", image_counts(np.full(3, 5 * hit), np.full(3, 5 * hit), 5)[None])
    sure = intervals(counts.counts_N, counts.groups, summary)
    low, high = sure["text-to-image R@1"]
    assert sure["text-to-image R@1"] == sure["image-to-text R@1"]
    assert high - low > 35  # fifty independent captions would give about 28
    assert group_sums(counts.counts_N, ["one"] * 20).shape == (1, 1, COUNTS)


def test_counts_survive_their_file(tmp_path):
    images_ID, texts_TD, starts = draw(1, NUMBERS)
    counts = RetrievalCounts(1)
    for image, counts_M in enumerate(count_images(images_ID, texts_TD, starts)):
        counts.update(f"{image:03}", "", counts_M[None])
    counts.save(tmp_path / "c.npz")
    assert RetrievalCounts(1).read(tmp_path / "c.npz") == counts
    with pytest.raises(UserError, match="counts of shape"):
        RetrievalCounts(2).read(tmp_path / "c.npz")
