"""Average precision with junk and without, against numbers of the sources' own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tips_bench.features.search import Search
from tips_bench.metrics.landmarks import KAPPAS, SETTINGS, LandmarkCounts, RankedCounts, direction_counts, setting_counts
from tips_bench.metrics.recognition import RecognitionCounts, counts_of

EASY, HARD, JUNK = 1, 2, 3


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "data" / "ranked_retrieval.npz", allow_pickle=False) as data:
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
