"""Records as DataFrames: many, and the samples of one; what a notebook shows of them."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.records import record, said
from tests.helpers.results_sets import write_record
from tips_bench.cards import load_card
from tips_bench.errors import UserError
from tips_bench.leaderboard.submission import validate
from tips_bench.metrics.segmentation import scores
from tips_bench.results.comparison import compare
from tips_bench.results.counts import load_scored
from tips_bench.results.frames import load_records, to_csv
from tips_bench.results.record import MetricValue, load_record, record_path
from tips_bench.results.regression import check


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    for model, quality in {"tips-b14": 0.8, "pixels": 0.3}.items():
        write_record(out, model, quality)
        write_record(out, model, quality, task="voc2012", protocol="convex")
    write_record(out, "pixels", 0.5, seed=1, weights="mine.pth", comparable=False, deviations=said("rain"))
    return out


def test_a_row_is_a_record_and_a_metric(folder: Path) -> None:
    frame = load_records(folder)
    assert len(frame) == 5 * 3 and frame["primary"].sum() == 5
    one = load_record(next((folder / "rooms-seg" / "tips-b14").glob("*.json")))
    row = frame[(frame["path"] == str(one.path)) & (frame["metric"] == "mAcc")].iloc[0]
    metric = one.metrics["mAcc"]
    assert (row["value"], row["ci_low"], row["ci_high"], row["n"]) == (metric.value, *(metric.ci95 or ()), metric.n)
    assert (row["task"], row["model"], row["unit"], bool(row["higher_is_better"])) == ("rooms-seg", "tips-b14", "%", True)
    changed = frame[~frame["comparable"]]
    assert set(changed["weights"]) == {"mine.pth"} and set(changed["deviations"]) == {"rain"}


def test_it_pivots_as_the_docstring_says(folder: Path) -> None:
    frame = load_records([folder])
    table = frame[frame["primary"] & frame["comparable"]].pivot_table(index="model", columns="task", values="value")
    assert table.shape == (2, 2) and (table.loc["tips-b14"] > table.loc["pixels"]).all()
    assert list(load_records(str(folder)).query("task == 'voc2012' and comparable")["protocol"].unique()) == ["convex"]


def test_a_broken_record_is_a_warning_and_other_json_is_nothing(folder: Path, tmp_path: Path) -> None:
    write_record(tmp_path, "pixels", 0.3)
    (tmp_path / "cut.json").write_text("{")
    (tmp_path / "settings.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"cut\.json: not JSON") as caught:
        assert len(load_records(tmp_path)) == 3
    assert len(caught) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no records there"):
        load_records(tmp_path / "empty")


@given(st.lists(st.tuples(st.text(max_size=8), st.floats(allow_infinity=False), st.none() | st.integers()), min_size=1, max_size=4))
def test_csv_is_read_back_by_pythons_own_reader_and_holds_no_formula(rows: list[tuple[str, float, int | None]]) -> None:
    written = to_csv(pd.DataFrame(rows, columns=["=name", "value", "number"], dtype=object))
    head, *lines = csv.reader(io.StringIO(written, newline=""))
    assert head == ["'=name", "value", "number"] and len(lines) == len(rows)
    for (name, value, number), line in zip(rows, lines, strict=True):
        assert line[1] == ("" if math.isnan(value) else repr(value)) and line[2] == ("" if number is None else str(number))
        assert not line[0].startswith(("=", "+", "-", "@")) and len(line[0]) - len(name) in (0, 1)


def test_the_samples_of_a_record_give_its_number_again(folder: Path) -> None:
    one = load_record(next((folder / "rooms-seg" / "pixels").glob("*-00000000.json")))
    counts = one.counts()
    assert counts.index.name == "sample" and list(counts.columns[:2]) == ["group", "counts[0, 0]"] and len(counts) == 24
    totals = counts.drop(columns="group").sum().to_numpy().reshape(3, -1)
    assert scores(totals)["mIoU"] == one.primary_metric.value
    assert counts["group"].nunique() == 12
    samples = one.samples()
    assert list(samples.columns) == ["group", "mIoU", "aAcc", "mAcc"] and list(samples.index) == list(counts.index)
    alone = counts.drop(columns="group").iloc[3].to_numpy().reshape(3, -1)
    assert samples["mIoU"].iloc[3] == scores(alone)["mIoU"]
    assert samples.nsmallest(2, "mIoU")["mIoU"].iloc[0] == np.nanmin(samples["mIoU"])


def test_records_in_memory_are_compared_and_one_that_was_never_saved_says_so(folder: Path) -> None:
    a, b = (load_record(next((folder / "rooms-seg" / model).glob("*-00000000.json"))) for model in ("pixels", "tips-b14"))
    assert compare(a, b).verdict == "B is better"
    for call in (lambda: compare(a, record("rooms-seg", "x", None)), record("rooms-seg", "x", None).counts):
        with pytest.raises(UserError, match="the record was not saved"):
            call()
    assert check(str(folder), str(folder)).passed


def test_a_record_is_a_line_and_a_table_and_escapes_names() -> None:
    one = record("ade20k", "<b>", "convex", weights="w.pth", deviations=said("<script>"), comparable=False)
    assert repr(one) == "<Record ade20k, <b>@w, convex: mIoU 41.25 % [40, 42.5], n = 3, 1 deviation>" == str(one)
    html = one._repr_html_()
    assert "&lt;b&gt;@w on ade20k" in html and "<script>" not in html and "40 to 42.5" in html
    unscored = record("t", "m", "p", metrics={"mIoU": MetricValue(value=math.nan, unit="%", higher_is_better=True, n=0)})
    assert "nan" in repr(unscored) and "nan" in unscored._repr_html_()


def test_records_are_equal_by_content_wherever_they_lie(tmp_path: Path) -> None:
    one = record("t", "m", "p", metrics={"mIoU": MetricValue(value=math.nan, unit="%", higher_is_better=True, n=0)})
    assert one.path is None
    one.save(tmp_path / "a.json")
    assert one.path == tmp_path / "a.json" and load_record(tmp_path / "a.json") == one != 3
    assert "path" not in json.loads((tmp_path / "a.json").read_text())


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(tmp_path: Path, number: str) -> None:
    path = tmp_path / "r.json"
    record("t", "m", "p", deviations=said("x")).save(path)
    path.write_text(path.read_text().replace('"value": null', f'"value": {number}', 1))
    with pytest.raises(UserError, match=r"r\.json: not JSON: .* is not finite"):
        load_record(path)


BESIDE = Path(__file__).parents[1] / "golden" / "data" / "records" / "schema-2" / "convex-224-87239bcd.json"


def test_counts_of_a_metric_beside_the_familys_own_are_read_compared_and_checked(tmp_path: Path) -> None:
    one = load_record(BESIDE)
    own, other = one.counts(), one.counts("boundary-iou")
    assert list(own.index) == list(other.index) and own.shape == other.shape and not own.equals(other)
    totals = other.drop(columns="group").sum().to_numpy().reshape(3, -1)
    assert scores(totals)["mIoU"] == one.metrics["bIoU"].value
    assert list(one.samples().columns) == ["group", "mIoU", "aAcc", "mAcc", "bIoU"]
    assert list(compare(one, one).metrics) == ["mIoU", "aAcc", "mAcc", "bIoU"]
    with pytest.raises(UserError, match=r"there is no metric named 'boundary'.*boundary-iou"):
        one.counts("boundary")
    for edit, words in (
        (lambda data: data["metrics"]["bIoU"].update(value=90.0), "bIoU = 90.0 of 12 samples"),
        (lambda data: data["metrics"]["bIoU"].update(n=13), "bIoU = .* of 13 samples in the record, .* of 12"),
        (lambda data: data.update(beside=[]), "bIoU = .* nan of 12 from its counts"),
        (lambda data: data.update(beside=["boundary-iuo"]), "there is no metric named 'boundary-iuo'"),
    ):
        data = json.loads(BESIDE.read_text())
        edit(data)
        (tmp_path / "r.json").write_text(json.dumps(data))
        (tmp_path / one.per_sample).write_bytes((BESIDE.parent / one.per_sample).read_bytes())
        with pytest.raises(UserError, match=words):
            load_scored(tmp_path / "r.json")


def test_a_submission_with_a_metric_beside_is_computed_again_with_all_its_counts(tmp_path: Path) -> None:
    one = load_record(BESIDE)
    place = record_path(tmp_path, one.task, one.model_name, one.protocol, "87239bcd")
    place.parent.mkdir(parents=True)
    (place.parent / one.per_sample).write_bytes((BESIDE.parent / one.per_sample).read_bytes())
    one.save(place)
    assert validate(tmp_path, card_of).faults == []
    data = json.loads(place.read_text())
    data["metrics"]["bIoU"]["ci95"] = [0.0, 1.0]
    place.write_text(json.dumps(data))
    (fault,) = validate(tmp_path, card_of).faults
    assert fault.problem.startswith("metrics.bIoU.ci95 = (0.0, 1.0), the counts give")


def card_of(kind: Any, name: str, task: str) -> dict[str, Any]:
    return load_card(kind, name).model_dump(mode="json")
