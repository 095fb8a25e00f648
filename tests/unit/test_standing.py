"""The order of models that do not all stand on the same boards: strengths against scikit-learn, and what is said where data are few."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm, rankdata
from sklearn.linear_model import LogisticRegression

from tests.helpers.boards import board
from tips_bench.leaderboard.bradley_terry import PRIOR, mean_ranks, strengths, undecided
from tips_bench.leaderboard.standing import Rank, Standing, _weights, standing

Scores = dict[str, float]


def drawn_boards(models: int, boards: int, share: float, seed: int) -> list[Scores]:
    """Scores of models on the boards on which they stand; some are equal."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(50, 4, models)
    return [{f"m{m}": float(round(quality[m] + rng.normal(0, 4))) for m in range(models) if rng.random() < share} for _ in range(boards)]


def stand(found: list[Scores], **options: float) -> Standing:
    return standing([board(f"task {number}", scores, **options) for number, scores in enumerate(found)])


def fitted_by_scikit_learn(found: list[Scores], labels: list[str]) -> np.ndarray:
    """Bradley-Terry as logistic regression: a row a pair and board, +1 for one model and -1 for the other; a tie is half each."""
    rows, won, weights = [], [], []
    for scores in found:
        for one, other in combinations([label for label in labels if label in scores], 2):
            row = np.zeros(len(labels))
            row[labels.index(one)], row[labels.index(other)] = 1, -1
            tie = scores[one] == scores[other]
            for wins in (True, False) if tie else (scores[one] > scores[other],):
                rows.append(row)
                won.append(wins)
                weights.append(0.5 if tie else 1.0)
    model = LogisticRegression(C=1 / PRIOR, fit_intercept=False, tol=1e-10, max_iter=1000, solver="newton-cholesky")
    return np.asarray(model.fit(np.array(rows), won, sample_weight=weights).coef_[0])


@pytest.mark.parametrize(("models", "boards", "share", "seed"), [(6, 8, 0.7, 0), (12, 20, 0.5, 1), (5, 7, 1.0, 2), (9, 12, 0.6, 7)])
def test_strengths_and_mean_ranks_are_those_of_a_logistic_regression(models: int, boards: int, share: float, seed: int) -> None:
    found = drawn_boards(models, boards, share, seed)
    order = stand(found)
    labels = sorted(rank.label for rank in order.ranks)
    assert len(labels) == models and not order.unplaced
    theirs_M = fitted_by_scikit_learn(found, labels)
    assert np.abs(theirs_M).max() < 8, "every strength is finite without a prior, so all pairs are decided"
    chance_MM = 1 / (1 + np.exp(theirs_M[None, :] - theirs_M[:, None]))
    expected = dict(zip(labels, (0.5 + chance_MM.sum(axis=0)).tolist(), strict=True))
    assert {rank.label: rank.value for rank in order.ranks} == pytest.approx(expected, abs=1e-3)
    wins_M, met_MM = np.zeros(models), np.zeros((models, models))
    for scores in found:
        members = [labels.index(label) for label in scores]
        wins_M[members] += rankdata(list(scores.values())) - 1
        met_MM[np.ix_(members, members)] += 1 - np.eye(len(members))
    assert strengths(wins_M[None], met_MM[None])[0] == pytest.approx(theirs_M, abs=1e-4)


def test_with_all_models_on_all_boards_it_is_the_mean_of_the_ranks() -> None:
    found = drawn_boards(7, 6, 1.0, 4)
    ranks_BM = np.stack([rankdata([-scores[f"m{m}"] for m in range(7)]) for scores in found])
    assert {rank.label: rank.value for rank in stand(found).ranks} == pytest.approx(
        {f"m{m}": ranks_BM[:, m].mean() for m in range(7)}, abs=1e-3
    )


def test_a_model_on_some_boards_is_placed_by_those_it_met_there() -> None:
    """It beats the middle one on the five boards that it shares with others, and loses to the best: it is second, though not on all."""
    whole = [{"best": 60.0, "middle": 50.0, "last": 40.0} for _ in range(8)]
    found = [scores | ({"part": 55.0} if number < 5 else {}) for number, scores in enumerate(whole)]
    order = stand(found)
    assert [(rank.label, rank.boards, rank.tasks) for rank in order.ranks] == [
        ("best", 8, 8), ("part", 5, 5), ("middle", 8, 8), ("last", 8, 8),
    ]  # fmt: skip
    assert [rank.value for rank in order.ranks] == pytest.approx([1, 2, 3, 4], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("few", [5, 20])
def test_the_interval_over_tasks_holds_the_truth_about_as_often_as_it_says(few: int) -> None:
    """8 models on 20 tasks, the first on `few` of them; the scores are normal, so the mean rank over all tasks that might be is known."""
    rng = np.random.default_rng(11)
    held = []
    for _ in range(60):
        quality_M = rng.normal(50, 4, 8)
        beaten_MM = norm.cdf((quality_M[None, :] - quality_M[:, None]) / math.sqrt(2 * 4**2))
        truth_M = 0.5 + beaten_MM.sum(axis=1)
        scores_TM = quality_M + rng.normal(0, 4, (20, 8))
        found = [{f"m{m}": float(scores_TM[t, m]) for m in range(8) if m or t < few} for t in range(20)]
        (first,) = [rank for rank in stand(found).ranks if rank.label == "m0"]
        assert first.tasks == few and first.over_tasks is not None
        held.append(first.over_tasks[0] <= truth_M[0] <= first.over_tasks[1])
    assert np.mean(held) > 0.88


def test_wins_alone_and_losses_alone_give_a_finite_strength_and_a_sure_place() -> None:
    wins_1M = np.array([[10.0, 5.0, 0.0]])
    found_1M = strengths(wins_1M, np.full((1, 3, 3), 5.0) * (1 - np.eye(3)))
    assert np.isfinite(found_1M).all() and (np.diff(found_1M) < -5).all()
    assert mean_ranks(found_1M, np.zeros((3, 3), dtype=bool))[0] == pytest.approx([1, 2, 3], abs=1e-3)


def test_what_no_chain_of_results_orders_is_open_in_both_directions() -> None:
    """Both beat `weak` always, and never met: each is first or second, and no strength can say which."""
    found = [{"one": 60.0, "weak": 40.0}, {"other": 60.0, "weak": 40.0}] * 5
    order = stand(found)
    assert {rank.label: (rank.value, rank.interval, rank.places, rank.undecided) for rank in order.ranks} == {
        "one": (1.5, (1.0, 2.0), (1, 2), 1),
        "other": (1.5, (1.0, 2.0), (1, 2), 1),
        "weak": (3.0, (3.0, 3.0), (3, 3), 0),
    }
    chain_MM = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=bool)  # a beats b, b beats c, a and c never met
    assert not undecided(chain_MM).any()


def test_a_model_with_too_few_shared_tasks_has_no_place_and_the_reason_is_told() -> None:
    found = [{"a": 50.0, "b": 40.0} for _ in range(6)]
    found[0]["few"], found[1]["few"] = 45.0, 45.0
    order = stand([*found, {"alone": 50.0}])
    assert [rank.label for rank in order.ranks] == ["a", "b"]
    assert order.unplaced == {
        "alone": "it meets no other model; a place needs 5 tasks",
        "few": "it meets others on 2 tasks; a place needs 5 tasks",
    }
    assert len(order.boards) == 6


def test_of_groups_that_share_no_board_the_largest_alone_is_placed() -> None:
    found = [{"a": 50.0, "b": 40.0, "c": 45.0}] * 5 + [{"x": 50.0, "y": 40.0}] * 6
    order = stand(found)
    assert [rank.label for rank in order.ranks] == ["a", "c", "b"]
    assert order.unplaced == dict.fromkeys(["x", "y"], "it shares no board with the models that have a place")
    assert stand([{"only": 50.0}]).unplaced == {"only": "it meets no other model; a place needs 1 task"}
    assert stand([]) == Standing([], [], {})


def test_weights_of_tasks_vary_as_draws_with_replacement_do() -> None:
    tasks = [*"abcdef", "f"]
    times_RB = _weights(tasks, 40_000)
    assert times_RB is not None and (times_RB > 0).all()
    assert (times_RB[:, 5] == times_RB[:, 6]).all(), "boards of one task have one weight"
    drawn_RT = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), 40_000)
    assert times_RB[:, :6].mean(axis=0) == pytest.approx(np.ones(6), abs=0.02)
    assert np.cov(times_RB[:, :6].T) == pytest.approx(np.cov(drawn_RT.T), abs=0.03)
    assert _weights(tasks[:4], 10) is None


def test_a_place_does_not_depend_on_the_order_of_boards_or_names() -> None:
    found = drawn_boards(6, 8, 0.7, 6)

    def said(order: Standing) -> dict[str, Rank]:
        return {rank.label: rank for rank in order.ranks}

    plain = said(stand(found))
    turned = said(standing([board(f"task {number}", scores) for number, scores in reversed(list(enumerate(found)))]))
    assert {label: (rank.value, rank.boards) for label, rank in turned.items()} == {
        label: (rank.value, rank.boards) for label, rank in plain.items()
    }
