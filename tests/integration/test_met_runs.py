"""The Met dataset: lists, GAP by hand and in plain loops, whole runs and kills."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.kills import killed_after
from tests.helpers.landmark_sets import write_met
from tips_bench.data.checks.images import check_exhibits
from tips_bench.data.met import met
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.metrics.recognition import RecognitionCounts, counts_of, surety

VARYING = {"cost", "created", "command", "pictures", "per_sample"}


def values(confidence: list[float], right: list[int], known: list[int]) -> dict[str, float]:
    counts = RecognitionCounts()
    arrays = np.array(confidence, float), np.array(right, bool), np.array(known, bool)
    for query, counts_4 in enumerate(counts_of(*arrays)):
        counts.update(f"{query:03}", str(query), counts_4)
    return counts.compute()


def test_all_right_is_1_and_a_confident_distractor_lowers_gap_as_by_hand() -> None:
    assert values([0.9, 0.8, 0.7], [1, 1, 1], [1, 1, 1]) == {"GAP": 100.0, "GAP-": 100.0, "accuracy": 100.0}
    found = values([1.0, 0.9, 0.8], [0, 1, 1], [0, 1, 1])
    assert found == pytest.approx({"GAP": 100 * (1 / 2 + 2 / 3) / 2, "GAP-": 100.0, "accuracy": 100.0})
    assert values([0.5, 0.5], [1, 0], [1, 0])["GAP"] == 50.0, "of equally confident ones the wrong one comes first"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=25))
def test_gap_is_that_of_plain_loops(queries: list[tuple[int, int]]) -> None:
    """0 a distractor, 1 wrong, 2 right."""
    ranking, total, hits = sorted(queries, key=lambda one: (-one[0], one[1] == 2)), 0.0, 0
    for place, (_, kind) in enumerate(ranking, 1):
        hits += kind == 2
        total += hits / place * (kind == 2)
    known = sum(kind > 0 for _, kind in queries)
    found = values([near for near, _ in queries], [kind == 2 for _, kind in queries], [kind > 0 for _, kind in queries])
    assert found["GAP"] == pytest.approx(100 * total / known) if known else np.isnan(found["GAP"])


@given(st.lists(st.tuples(st.integers(-3, 9), st.integers(0, 3)), min_size=1, max_size=8), st.floats(0.1, 50))
def test_odds_are_those_of_a_softmax_over_all_exhibits(found: list[tuple[int, int]], temperature: float) -> None:
    neighbors, weights = sorted(found, reverse=True), dict.fromkeys(range(6), 1.0)
    for near, label in neighbors:
        weights[label] = max(weights[label], np.exp(temperature * near / 10))
    near_1k, labels_1k = (np.array([[one[place] for one in neighbors]], float) for place in (0, 1))
    confidence = max(weights[label] for _, label in neighbors) / sum(weights.values())
    assert 1 / (1 - surety(near_1k / 10, labels_1k, 6, temperature)[0]) == pytest.approx(confidence)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data" / "met"
    write_met(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIPS_BENCH_DATA", "data")
    return folder


def test_a_query_without_an_exhibit_is_a_distractor(root: Path) -> None:
    query, database = met(root, "test"), met(root, "database")
    assert query.labels_N.tolist() == [0, 1, 2, 3, -1] and database.labels_N.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert check_exhibits(query).facts == {"exhibits": "4 in 4 images", "distractors": "1 image"}


@pytest.mark.parametrize(
    ("text", "words"),
    [("[]", "at least 1"), ("{}", "valid array"), ('[{"path": "a.jpg"}]', "no id"), ('[{"path": "../a", "id": 1}]', "outside")],
)
def test_broken_lists_are_refused_in_one_sentence(root: Path, text: str, words: str) -> None:
    (root / "ground_truth" / "MET_database.json").write_text(text)
    with pytest.raises(UserError, match=words):
        met(root, "database")
    with pytest.raises(UserError, match="cannot read"):
        met(root, "mini")


def run(out: Path, protocol: str = "met-nearest", *overrides: str, **options) -> dict:
    record = evaluate("met", "tips-tiny-random", protocol, out=out, overrides=["image.short_side=28", *overrides], batch_size=2, **options)
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in VARYING}


@pytest.mark.parametrize(("protocol", "calls"), [("met-nearest", 3), ("met-dinov3", 6)])
def test_the_same_pictures_are_named_and_a_killed_run_is_taken_up(root: Path, tmp_path: Path, protocol: str, calls: int) -> None:
    whole = run(tmp_path / "a", protocol, pictures=1)
    assert whole["metrics"]["accuracy"]["value"] == whole["metrics"]["GAP-"]["value"] == 100.0
    assert whole["metrics"]["GAP"]["value"] == 100.0 and whole["probe"]["distractors"] == 1
    with killed_after(calls):
        run(tmp_path / "b", protocol, pictures=1)
    assert run(tmp_path / "b", protocol, pictures=1) == whole


def test_features_are_whitened_and_the_choice_is_by_gap_on_the_validation_queries(root: Path, tmp_path: Path) -> None:
    whitened = run(tmp_path / "a", "met-whitened")
    assert whitened["probe"]["dimensions"] == 3, "four different pictures span three axes"
    choice = whitened["selection"]
    assert (choice["metric"], choice["held_out"], choice["choice"], len(choice["grid"])) == ("GAP", 5, 0, 12)
    assert len({*choice["scores"]}) == 1, "with one neighbor no temperature changes the order"
    chosen = run(tmp_path / "b", "met-dinov3")["selection"]
    assert len(chosen["grid"]) == 9 * 12 and chosen["scores"][chosen["choice"]] == max(chosen["scores"])


def test_a_choice_without_validation_queries_or_with_distractors_alone_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no validation queries"):
        run(tmp_path / "a", "met-whitened", "task.options.validation=null")
    (root / "ground_truth" / "valset.json").write_text('[{"path": "test_other/9.jpg"}]')
    with pytest.raises(UserError, match="shows an exhibit"):
        run(tmp_path / "b", "met-whitened")
    assert run(tmp_path / "c", "met-whitened", "probe.temperature=[1]")["selection"] is None
