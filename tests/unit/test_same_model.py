"""One checkpoint under two paths is one model: in tables, comparisons, checks and ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.records import record
from tests.helpers.results_sets import write_record
from tips_bench.errors import UserError
from tips_bench.leaderboard import charts, ranking
from tips_bench.metrics.spec import MetricSpec
from tips_bench.results.comparison import compare_folders
from tips_bench.results.counts import load_scored
from tips_bench.results.record import load_record
from tips_bench.results.same_model import model_key, shared_names
from tips_bench.results.tables import layout

HASH = "a" * 64
VISION = {"vision": {"embed_dim": 48}}


def of(model: str, sha256: str = HASH, **card: Any) -> Any:
    """A record whose model card has these values."""
    return record("rooms-seg", model, "convex", weights_sha256=sha256, cards={"model": {"name": model, "architecture": VISION} | card})


def test_the_weights_and_the_values_of_the_card_decide_and_no_name_or_path() -> None:
    one = model_key(of("a", tokenizer={"path": "/a/tokenizer.model"}, title="A", weights={"path": "/a/w.npz"}))
    assert one == model_key(of("b", tokenizer={"path": "/b/tokenizer.model"}, title="B", weights={"path": "/b/w.npz"}))
    for other in (of("a", "b" * 64), of("a", mean=[0.5, 0.5, 0.5]), of("a", tokenizer={"path": "/a/other.model"})):
        assert model_key(other) != one


@pytest.mark.parametrize("weights", ["random:0", "none"])
def test_weights_without_a_hash_are_one_model_by_its_name_alone(weights: str) -> None:
    assert model_key(of("a", weights)) == model_key(of("a", weights)) != model_key(of("b", weights))


def test_a_folder_whose_config_the_record_does_not_hash_is_another_model_under_another_name() -> None:
    assert model_key(of("a", architecture={"folder": "a"})) != model_key(of("b", architecture={"folder": "a"}))


def test_a_model_of_two_names_has_both() -> None:
    assert set(shared_names([of("b"), of("a"), of("c", "c" * 64)]).values()) == {"a = b", "c"}


def twice(folder: Path, **changes: Any) -> None:
    """The same checkpoint under two names, in a folder for each, and another model in both."""
    for name in ("a", "b"):
        write_record(folder / name, name, 0.5, weights_sha256=HASH, **changes)
        write_record(folder / name, "other", 0.6, weights_sha256="c" * 64)


def same_card(folder: Path) -> None:
    """Written so that the two cards differ in their names alone."""
    twice(folder)
    assert model_key(load_record(next((folder / "a" / "rooms-seg" / "a").glob("*.json")))) == model_key(
        load_record(next((folder / "b" / "rooms-seg" / "b").glob("*.json")))
    )


def test_folders_are_compared_although_the_checkpoint_lay_elsewhere(tmp_path: Path) -> None:
    same_card(tmp_path)
    suite = compare_folders(tmp_path / "a", tmp_path / "b")
    assert set(suite.comparisons) == {"rooms-seg, a = b, convex-224", "rooms-seg, other, convex-224"}
    assert not suite.only_a and not suite.only_b


def test_a_table_names_two_runs_of_one_checkpoint_as_such(tmp_path: Path) -> None:
    same_card(tmp_path)
    records = [load_record(path) for path in sorted(tmp_path.rglob("*.json"))]
    assert sorted(row.model for row in layout(records).rows) == ["a = b (run 1)", "a = b (run 2)", "other (run 1)", "other (run 2)"]


def test_one_measurement_made_twice_counts_once_in_the_ranks(tmp_path: Path) -> None:
    write_record(tmp_path / "1", "a", 0.5, weights_sha256=HASH, created="2026-01-01T00:00:00+00:00")
    write_record(tmp_path / "2", "a", 0.5, weights_sha256=HASH, created="2026-01-02T00:00:00+00:00", encoder_s=9.0)
    entries, _ = ranking.read([tmp_path])
    assert [(entry.label, entry.record.created[:10]) for entry in entries] == [("a", "2026-01-02")]


def test_counts_that_are_not_those_of_the_record_are_refused_although_they_give_its_numbers(tmp_path: Path) -> None:
    path = write_record(tmp_path, "a", 0.5)
    found = load_record(path)
    counts = path.with_name(found.per_sample)
    load_scored(path)
    found.per_sample_sha256 = "0" * 64
    found.save(path)
    with pytest.raises(UserError, match="not the counts that the record was written with"):
        load_scored(path)
    assert counts.is_file()


def test_scores_against_cost_are_joined_on_one_machine_only() -> None:
    points = [charts.Point(f"{machine} {x}", x, x, None, "#", "d", machine=machine) for machine in "ab" for x in (1.0, 2.0)]
    both = charts.scatter(points, "ms", "%", MetricSpec("%", True))
    one = charts.scatter(points[:2], "ms", "%", MetricSpec("%", True))
    assert both.count('class="front"') == 2 * one.count('class="front"') > 0
