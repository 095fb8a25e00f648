"""Average precision with junk and without, against numbers of the sources' own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tips_bench.features.search import Search
from tips_bench.features.whitening import Whitening
from tips_bench.metrics.landmarks import KAPPAS, SETTINGS, LandmarkCounts, RankedCounts, direction_counts, setting_counts
from tips_bench.metrics.recognition import RecognitionCounts, counts_of, surety

EASY, HARD, JUNK = 1, 2, 3


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return read("ranked_retrieval")


@pytest.fixture(scope="module")
def index() -> dict[str, np.ndarray]:
    return read("landmark_index")


def read(name: str) -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "data" / f"{name}.npz", allow_pickle=False) as data:
        return dict(data)


def test_the_three_settings_are_those_of_compute_map_of_revisitop(golden: dict[str, np.ndarray]) -> None:
    counts = LandmarkCounts()
    for query, (near_N, kind_N) in enumerate(zip(golden["near_QN"], golden["kind_QN"], strict=True)):
        counts_S5 = setting_counts(near_N, *(np.flatnonzero(kind_N == kind) for kind in (EASY, HARD, JUNK)))
        for place, setting in enumerate(SETTINGS):
            precision = golden[f"aps_{setting}"][query]
            expected = [0.0] * 5 if np.isnan(precision) else [precision, *golden[f"prs_{setting}"][query], 1.0]
            np.testing.assert_allclose(counts_S5[place], expected, rtol=0, atol=1e-12)
        counts.update(f"{query:02}", str(query), counts_S5)
    values = counts.compute()
    for setting in SETTINGS:
        expected = [golden[f"map_{setting}"], *golden[f"pr_{setting}"]]
        found = [values[f"{name}-{setting}"] for name in ("mAP", *(f"mP@{kappa}" for kappa in KAPPAS))]
        np.testing.assert_allclose(found, 100 * np.array(expected), rtol=0, atol=1e-9)


def test_both_directions_are_those_of_calculate_metrics_of_amstertime(golden: dict[str, np.ndarray]) -> None:
    new_PD, old_PD = (golden[name] / np.linalg.norm(golden[name], axis=1, keepdims=True) for name in ("new_PD", "old_PD"))
    counts = RankedCounts(2)
    for direction, near_QN in enumerate((old_PD @ new_PD.T, new_PD @ old_PD.T)):
        for query, near_N in enumerate(near_QN):
            counts_G4 = direction_counts(near_N, np.array([query]), int(golden["depth"]), direction, 2)
            counts.update(f"{direction}/{query}", str(query), counts_G4)
    values = counts.compute()
    for column, name in enumerate(("mAP", "R@1", "R@5")):
        assert values[name] == pytest.approx(100 * golden["all_metrics"][column], abs=1e-9)
        directions = [100 * golden[f"{searched}_metrics"][column] for searched in ("old", "new")]
        np.testing.assert_allclose(values[f"direction {name}"], directions, rtol=0, atol=1e-9)


def test_gap_and_accuracy_are_those_of_evaluate_of_met(golden: dict[str, np.ndarray]) -> None:
    truth_Q, found = golden["met_truth_Q"], Search(golden["met_database_ND"]).nearest(golden["met_queries_QD"], 1)
    right_Q = golden["met_labels_N"][found.rows_Qk[:, 0]] == truth_Q
    counts = RecognitionCounts()
    for query, counts_4 in enumerate(counts_of(np.maximum(found.similarities_Qk[:, 0], 0), right_Q, truth_Q >= 0)):
        counts.update(f"{query:02}", str(query), counts_4)
    np.testing.assert_allclose(list(counts.compute().values()), 100 * golden["met_scores"], rtol=0, atol=1e-9)


def test_the_first_hundred_are_scored_as_by_mean_average_precision_of_google_landmarks(index: dict[str, np.ndarray]) -> None:
    counts = RankedCounts(1)
    for query, (near_N, right_N) in enumerate(zip(index["gld_near_QN"], index["gld_right_QN"], strict=True)):
        counts_G4 = direction_counts(near_N, np.flatnonzero(right_N), 100, 0, 1)
        assert counts_G4[0, 0] == pytest.approx(index["gld_aps"][query], abs=1e-12)
        counts.update(f"{query:02}", str(query), counts_G4)
    values = counts.compute()
    assert index["gld_right_QN"].sum(1).max() > 100, "more right images than there is room for"
    assert values["mAP"] == pytest.approx(100 * index["gld_map"], abs=1e-9)
    assert values["R@1"] == pytest.approx(100 * index["gld_first"], abs=1e-9)


@pytest.fixture(scope="module")
def whitened(index: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The database and queries after a whitening that was learned on the database."""
    whitening = Whitening.learned(index["whitened_database_ND"], 16)
    return {name: whitening.apply(index[f"whitened_{name}"]) for name in ("database_ND", "val_QD", "test_QD")}


def recognized(index: dict[str, np.ndarray], whitened: dict[str, np.ndarray], split: str, k: int, temperature: float) -> RecognitionCounts:
    found, truth_Q = Search(whitened["database_ND"]).nearest(whitened[f"{split}_QD"], k), index[f"whitened_{split}_truth_Q"]
    labels_Qk = index["whitened_labels_N"][found.rows_Qk]
    sure_Q = surety(found.similarities_Qk, labels_Qk, len(np.unique(index["whitened_labels_N"])), temperature)
    counts = RecognitionCounts()
    for query, counts_4 in enumerate(counts_of(sure_Q, labels_Qk[:, 0] == truth_Q, truth_Q >= 0)):
        counts.update(f"{query:02}", str(query), counts_4)
    return counts


def test_whitened_features_are_as_near_as_those_of_met(index: dict[str, np.ndarray], whitened: dict[str, np.ndarray]) -> None:
    assert whitened["test_QD"].shape[1] == 16
    near_QN = whitened["test_QD"] @ whitened["database_ND"].T
    np.testing.assert_allclose(near_QN[:20], index["whitened_near_QN"], rtol=0, atol=1e-9)


def test_neighbors_and_temperature_are_chosen_as_by_tune_knn_of_met(index: dict[str, np.ndarray], whitened: dict[str, np.ndarray]) -> None:
    grid = [(k, t) for k in (1, 2, 3, 5, 7, 10, 15, 20, 50) for t in (0.01, 0.1, 1.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)]
    gaps = [recognized(index, whitened, "val", *pair).compute()["GAP"] for pair in grid]
    np.testing.assert_allclose(gaps, 100 * index["whitened_grid_gaps"], rtol=0, atol=1e-9)
    chosen = grid[int(np.argmax(gaps))]
    assert chosen == tuple(index["whitened_best"].tolist()) and chosen[0] > 1
    found = recognized(index, whitened, "test", *chosen).compute()
    np.testing.assert_allclose(list(found.values()), 100 * index["whitened_scores"], rtol=0, atol=1e-9)


def test_odds_are_the_confidences_of_knn_classifier_of_met(index: dict[str, np.ndarray], whitened: dict[str, np.ndarray]) -> None:
    found, labels_N = Search(whitened["database_ND"]).nearest(whitened["val_QD"], 20), index["whitened_labels_N"]
    for place, (k, temperature) in {0: (1, 0.01), 30: (5, 5.0), 62: (15, 30.0)}.items():
        near_Qk, labels_Qk = found.similarities_Qk[:, :k], labels_N[found.rows_Qk[:, :k]]
        confidence_Q = 1 / (1 - surety(near_Qk, labels_Qk, len(np.unique(labels_N)), temperature))
        np.testing.assert_allclose(confidence_Q, index["whitened_grid_confidences"][place], rtol=1e-9)
