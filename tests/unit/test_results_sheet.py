"""The sheet of results: which records share a row and a column, whose mean is told, and that it agrees with pandas' own pivot."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.records import record, said
from tips_bench.results.exchange.files import Origin, exported
from tips_bench.results.exchange.sheet import sheet
from tips_bench.results.frames import metrics_frame
from tips_bench.results.record import MetricValue, Record


def scored(task: str, model: str, value: float, **changes: Any) -> Record:
    metrics = {
        "mIoU": MetricValue(value=value, unit="%", higher_is_better=True, n=3),
        "aAcc": MetricValue(value=1.0, unit="%", n=3, higher_is_better=True),
    }
    return record(task, model, None, metrics=metrics).model_copy(update=changes)


def error(task: str, model: str, value: float) -> Record:
    return record(task, model, None, primary="RMSE", metrics={"RMSE": MetricValue(value=value, unit="m", higher_is_better=False, n=3)})


def rows(records: list[Record]) -> dict[str, dict[str, Any]]:
    frame, _ = sheet(records)
    return {row.pop("Model"): {name: value for name, value in row.items() if value == value} for row in frame.to_dict("records")}


def test_it_is_the_pivot_of_the_primary_metrics_in_mtebs_shape() -> None:
    rng = np.random.default_rng(0)
    found = [scored(task, f"model {m}", float(rng.uniform(0, 100))) for task in ("ade20k", "voc2012", "davis") for m in range(4)]
    frame, columns = sheet(found)
    assert list(frame) == ["Model", "Total Parameters (B)", "Mean (Task)", "ade20k", "davis", "voc2012"]
    long = metrics_frame(found)
    pivot = long[long["primary"]].pivot_table(index="model", columns="task", values="value")
    ours = frame.set_index("Model")
    pd.testing.assert_frame_equal(ours[list(pivot)].sort_index(), pivot, check_names=False)
    pd.testing.assert_series_equal(ours["Mean (Task)"].sort_index(), pivot.mean(axis=1), check_names=False)
    assert frame["Mean (Task)"].is_monotonic_decreasing
    assert columns["column"].tolist() == ["ade20k", "davis", "voc2012"] and columns["in_mean"].all()


def test_a_model_without_a_score_on_one_task_has_no_mean() -> None:
    found = rows(
        [scored("ade20k", "a", 40.0), scored("voc2012", "a", 60.0), scored("ade20k", "b", 50.0), scored("voc2012", "b", float("nan"))]
    )
    assert found == {"a": {"Mean (Task)": 50.0, "ade20k": 40.0, "voc2012": 60.0}, "b": {"ade20k": 50.0}}
    assert list(found) == ["a", "b"], "a model without a mean stands below"


def test_the_mean_holds_percents_alone_and_a_task_once() -> None:
    other = scored("ade20k", "a", 20.0, protocol="linear-tips", protocol_hash="1" * 64)
    records = [scored("ade20k", "a", 40.0), other, scored("voc2012", "a", 60.0), error("nyu-depth", "a", 0.5)]
    assert rows(records)["a"] == {
        "Mean (Task)": 45.0, "ade20k (convex)": 40.0, "ade20k (linear-tips)": 20.0, "nyu-depth": 0.5, "voc2012": 60.0,
    }  # fmt: skip
    _, columns = sheet(records)
    depth = columns.set_index("column").loc["nyu-depth"]
    assert (depth["metric"], depth["unit"], depth["higher_is_better"], depth["in_mean"]) == ("RMSE", "m", False, False)
    assert rows([error("nyu-depth", "a", 0.5)])["a"] == {"nyu-depth": 0.5}


def test_numbers_that_do_not_compare_are_in_columns_of_their_own() -> None:
    plain = scored("ade20k", "a", 40.0)
    limited = scored("ade20k", "a", 90.0, comparable=False, deviations=said("limit = 8"))
    elsewhere = scored("ade20k", "b", 70.0, dataset=plain.dataset.model_copy(update={"fingerprint": "other"}))
    found = rows([plain, limited, elsewhere])
    assert found["a"]["ade20k (data f)"] == 40.0 and "Mean (Task)" not in found["a"]
    assert found["b"]["ade20k (data other)"] == 70.0
    assert [name for name in found["a"] if "limit = 8" in name] == ["ade20k (limit = 8)"]
    assert rows([limited])["a"] == {"ade20k (limit = 8)": 90.0}, "also where it stands alone"


def test_models_that_share_a_name_have_rows_of_their_own_and_a_repeat_has_none() -> None:
    first, second = scored("ade20k", "a", 40.0), scored("ade20k", "a", 41.0, seed=1)
    again = first.model_copy(update={"created": "2026-02-01T00:00:00+00:00"})
    assert {label: row["ade20k"] for label, row in rows([first, second, again]).items()} == {"a (seed 0)": 40.0, "a (seed 1)": 41.0}
    assert {label: row["ade20k"] for label, row in rows([first, scored("ade20k", "a", 39.0)]).items()} == {"a": 40.0, "a (run 2)": 39.0}


def test_size_is_in_billions_and_names_cannot_be_formulas() -> None:
    sized = scored("ade20k", "=1+1", 40.0, cards={"model": {"parameters": 85_700_000}})
    files = {str(place): text for place, text in exported([sized], "csv", Origin())}
    assert sorted(files) == ["columns.csv", "results.csv"]
    (row,) = pd.read_csv(io.StringIO(files["results.csv"])).to_dict("records")
    assert row["Model"] == "'=1+1" and row["Total Parameters (B)"] == pytest.approx(0.086)
