"""The regression check: what is called worse, better, unknown or at fault, and what it writes for machines."""

import inspect
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.helpers.scored_records import pair, save_record
from tips_bench.cli.check import check as check_command
from tips_bench.errors import UserError
from tips_bench.metrics.segmentation import SegmentationCounts, summary
from tips_bench.registry import FAMILIES, Family
from tips_bench.results.check_reports import check_text, github_annotations, junit, markdown, verdict
from tips_bench.results.record import DatasetIdentity, MetricValue, load_record
from tips_bench.results.regression import TOLERANCES, Outcome, Report, as_data, check, read_tolerances


def baseline_and_new(
    folder: Path, *, drop: float, task: str = "rooms-seg", number: int = 80, seed: int = 0, **changes
) -> tuple[Path, Path]:
    """Two folders with one cell; the new model is worse by `drop`. changes: of the new record."""
    counts_N23C = pair(np.random.default_rng(seed), number, 5, drop=drop)
    save_record(folder / "old" / f"{task}.json", counts_N23C[:, 0], task=task)
    save_record(folder / "new" / f"{task}.json", counts_N23C[:, 1], **{"task": task} | changes)
    return folder / "new", folder / "old"


def only(report: Report) -> Outcome:
    (outcome,) = report.outcomes
    return outcome


def test_a_planted_drop_is_a_regression(tmp_path):
    report = check(*baseline_and_new(tmp_path, drop=0.2))
    assert only(report).status == "regression" and not report.passed
    assert re.search(r"mIoU \d+\.\d\d -> \d+\.\d\d %; gain -\d+\.\d\d \[-.*, -.*\] at 95 %, tolerance 0\.2", only(report).message)


def test_an_identical_run_again_is_within_tolerance_even_at_zero(tmp_path):
    _, old = baseline_and_new(tmp_path, drop=0.0)
    assert only(check(old, old, read_tolerances("0"))).status == "within tolerance"


def test_a_gain_is_an_improvement_and_passes(tmp_path):
    report = check(*baseline_and_new(tmp_path, drop=-0.2))
    assert only(report).status == "improvement" and report.passed


def test_a_few_images_that_waver_tell_nothing_and_it_is_said(tmp_path):
    report = check(*baseline_and_new(tmp_path, drop=0.0, number=12))
    assert only(report).status == "cannot tell" and report.passed


def spread(rank: object, share: object = 0.3) -> dict[str, object]:
    return {"effective_rank": rank, "common_share": share}


def with_spreads(folder: Path, old: dict[str, object], new: dict[str, object], drop: float = 0.0) -> Outcome:
    new_folder, old_folder = baseline_and_new(folder, drop=drop, number=400, probe=new)
    path = old_folder / "rooms-seg.json"
    load_record(path).model_copy(update={"probe": old}).save(path)
    return only(check(new_folder, old_folder, read_tolerances("3")))


def test_a_score_that_holds_while_features_fall_into_few_directions_fails_and_says_why(tmp_path):
    outcome = with_spreads(tmp_path, spread(12.0, 0.22), spread(3.0, 0.82))
    assert (
        outcome.status == "collapse" and "fell from 12.0 to 3.0, and 82% of them" in outcome.message and "(22% before)" in outcome.message
    )
    report = Report([outcome], TOLERANCES)
    assert not report.passed and "retrieval or zero-shot" in check_text(report) and "retrieval or zero-shot" in markdown(report)
    assert ET.fromstring(junit(report)).get("failures") == "1" and github_annotations(report).startswith("::error ")


@pytest.mark.parametrize(
    ("old", "new", "drop", "status"),
    [
        (spread(12.0), spread(6.0), 0.0, "within tolerance"),
        ({}, spread(3.0), 0.0, "within tolerance"),
        (spread("twelve"), spread(3.0), 0.0, "within tolerance"),
        (spread(12.0), spread(None), 0.0, "within tolerance"),
        (spread(1e300), spread(3.0), 0.0, "within tolerance"),
        (spread(12.0), spread(3.0, -1), 0.0, "within tolerance"),
        (spread(12.0), spread(3.0), 0.3, "regression"),
        (spread(12.0), spread(3.0), -0.3, "improvement"),
    ],
    ids=[
        "half",
        "an older baseline",
        "no number",
        "null",
        "a rank that cannot be",
        "a share that cannot be",
        "a score that fell",
        "a score that rose",
    ],
)
def test_what_is_no_collapse_keeps_its_own_name(tmp_path, old, new, drop, status):
    assert with_spreads(tmp_path, old, new, drop).status == status


@pytest.mark.parametrize(("tolerance", "status"), [(0.0, "regression"), (0.9, "regression"), (1.1, "within tolerance")])
def test_a_drop_that_is_sure_fails_only_beyond_the_tolerance(tmp_path, tolerance, status):
    """Every image loses one pixel of a hundred in accuracy and about as much in the mIoU of one class."""
    counts_N3C = np.full((40, 3, 1), 100)
    counts_N3C[:, 0] = np.random.default_rng(0).integers(60, 90, (40, 1))
    worse_N3C = counts_N3C.copy()
    worse_N3C[:, 0] -= 1
    save_record(tmp_path / "old.json", counts_N3C, primary="aAcc")
    save_record(tmp_path / "new.json", worse_N3C, primary="aAcc")
    found = only(check(tmp_path / "new.json", tmp_path / "old.json", read_tolerances(str(tolerance))))
    assert found.comparison.gain == pytest.approx(-1) and found.status == status


def test_another_order_of_the_samples_changes_nothing(tmp_path):
    counts_N3C = pair(np.random.default_rng(0), 30, 4)[:, 0]
    order = np.random.default_rng(1).permutation(30)
    names = [f"image-{index:05}" for index in range(30)]
    save_record(tmp_path / "old" / "a.json", counts_N3C, ids=names)
    save_record(tmp_path / "new" / "a.json", counts_N3C[order], ids=[names[index] for index in order], seed=7)
    found = only(check(tmp_path / "new", tmp_path / "old", read_tolerances("0")))
    assert found.status == "within tolerance" and found.comparison.gain == 0


def test_another_checkpoint_is_compared_with_the_only_model_of_the_baseline(tmp_path):
    report = check(*baseline_and_new(tmp_path, drop=0.2, model="tips-b14@step-2000"))
    assert only(report).cell == "rooms-seg, convex" and only(report).status == "regression"


def test_a_missing_cell_is_a_fault_and_a_new_one_is_not(tmp_path):
    new, old = baseline_and_new(tmp_path, drop=0.0)
    save_record(old / "ade20k.json", pair(np.random.default_rng(0), 9, 3)[:, 0], task="ade20k")
    save_record(new / "voc2012.json", pair(np.random.default_rng(0), 9, 3)[:, 0], task="voc2012")
    report = check(new, old, read_tolerances("50"))
    assert {one.cell: one.status for one in report.outcomes} == {
        "ade20k, convex": "fault", "voc2012, convex": "new", "rooms-seg, convex": "within tolerance"
    }  # fmt: skip
    assert not report.passed and f"missing in {new}" in report.outcomes[0].message


def test_each_metric_is_held_to_the_tolerance_of_its_own_unit(tmp_path, monkeypatch):
    """Of errors in metres 0.2 would bear nearly all."""

    class ErrorCounts(SegmentationCounts):
        summary = staticmethod(lambda counts: {"RMSE": 1 - summary(counts)["aAcc"] / 100})
        per_class = {}

    monkeypatch.setitem(FAMILIES._entries, "depths", Family("", ErrorCounts, ""))
    counts_N23C = pair(np.random.default_rng(0), 80, 5, drop=0.1)
    for model, folder in enumerate(("old", "new")):
        value = 1 - float(summary(counts_N23C[:, model].sum(axis=0))["aAcc"]) / 100
        error = MetricValue(value=value, unit="m", higher_is_better=False, n=80)
        save_record(tmp_path / folder / "a.json", counts_N23C[:, model], family="depths", metrics={"RMSE": error}, primary="RMSE")
    found = check(tmp_path / "new", tmp_path / "old")
    assert only(found).status == "regression" and -0.2 < only(found).comparison.gain < 0
    assert verdict(found) == "FAILED: 1 regression (tolerance 0.005 m)"
    assert check(tmp_path / "new", tmp_path / "old", read_tolerances("%=0,m=0.2")).passed


@pytest.mark.parametrize(
    ("change", "words"), [({"protocol_hash": "9" * 64}, "values of the protocol"), ({"fingerprint": "9" * 64}, "scored data")]
)
def test_other_data_or_another_protocol_is_a_fault(tmp_path, change, words):
    new, old = baseline_and_new(tmp_path, drop=-0.5)
    record = load_record(new / "rooms-seg.json")
    if "fingerprint" in change:
        change = {"dataset": DatasetIdentity(**record.dataset.model_dump() | change)}
    record.model_copy(update=change).save(new / "rooms-seg.json")
    report = check(new, old)
    assert only(report).status == "fault" and words in only(report).message and not report.passed


def test_a_truncated_or_forged_record_is_a_fault(tmp_path):
    new, old = baseline_and_new(tmp_path, drop=0.0)
    save_record(new / "second.json", pair(np.random.default_rng(0), 9, 3)[:, 0], task="second")
    (new / "second.json").write_text((new / "second.json").read_text()[:99])
    forged = load_record(new / "rooms-seg.json")
    forged.metrics["mIoU"].value = 99.0
    forged.save(new / "rooms-seg.json")
    report = check(new, old)
    messages = " ".join(one.message for one in report.outcomes if one.status == "fault")
    assert "second.json: not JSON" in messages and "mIoU = 99.0 of 80 samples in the record" in messages


def test_one_group_is_a_fault_for_nothing_can_be_told(tmp_path):
    counts_N3C = pair(np.random.default_rng(0), 9, 3)[:, 0]
    for side in ("old", "new"):
        save_record(tmp_path / side / "a.json", counts_N3C, groups=["scene"] * 9)
    assert only(check(tmp_path / "new", tmp_path / "old")).status == "fault"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("0.5", {"%": 0.5, "m": 0.5, "deg": 0.5, "": 0.5}),
        ("m=0.01", TOLERANCES | {"m": 0.01}),
        ("%=1,deg=0", TOLERANCES | {"%": 1, "deg": 0}),
    ],
)
def test_a_tolerance_is_of_every_unit_or_of_those_that_are_named(said, found):
    assert read_tolerances(said) == found


@pytest.mark.parametrize("said", ["-0.1", "nan", "inf", "", "m=", "m=a lot", "0.2,", "%=-1"])
def test_what_is_no_tolerance_is_a_mistake(said):
    with pytest.raises(UserError, match=r"--tolerance: .* is not a tolerance"):
        read_tolerances(said)


def test_the_commands_own_tolerance_and_every_metrics_unit_are_among_them():
    (default,) = (one.default for one in inspect.signature(check_command).parameters.values() if one.name == "tolerance")
    assert read_tolerances(default) == TOLERANCES
    stated = [specs for name in FAMILIES.names() if isinstance(specs := FAMILIES.get(name).counts_class().specs, dict)]
    assert len(stated) >= 5 and {spec.unit for specs in stated for spec in specs.values()} == set(TOLERANCES)


def test_a_unit_that_no_metric_has_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"no unit 'km'. Known: %, m, deg\."):
        read_tolerances("km=1")


def test_unchanged_models_rarely_alarm_at_the_usual_tolerance(tmp_path):
    """A retrained probe that is neither better nor worse: of 20 such, half a one is expected below its interval by chance."""
    alarms = [check(*baseline_and_new(tmp_path / str(seed), drop=0.0, seed=seed, number=40)).passed for seed in range(20)].count(False)
    assert alarms <= 3  # P(more) = 0.1 % for 20 independent chances of one in forty


NASTY = st.one_of(
    st.sampled_from(["]]>", "<failure/>", "a\r\n::error::b", "100%0A", "a,b:c", '"&\x00\x1b', "| x | `y` <script>", "﷐\ufffe\ud800"]),
    st.text(max_size=40),
)


@settings(max_examples=60, deadline=None)
@given(cell=NASTY, message=NASTY, status=st.sampled_from(["regression", "fault", "collapse", "cannot tell", "improvement", "new"]))
def test_hostile_text_stays_text_in_every_format(cell, message, status):
    report = Report([Outcome(cell, status, message)], TOLERANCES)
    case = ET.fromstring(junit(report).encode()).find("testsuite/testcase")
    assert [element.tag for element in case] == [
        {"regression": "failure", "collapse": "failure", "fault": "error"}.get(status, "system-out")
    ]
    commands = re.split(r"[\r\n]+", github_annotations(report))[:-1]  # as the runner reads lines
    assert len(commands) == (0 if status in ("new",) else 1)
    assert all(re.fullmatch(r"::(error|notice) title=tips-bench%3A [a-z ]+::[^\r\n]*", line) for line in commands)
    rows = [line for line in markdown(report).splitlines() if line.startswith("| ")]
    assert len(rows) == 3 and all(len(re.findall(r"(?<!\\)\|", row)) == 8 for row in rows)
    assert "<script" not in markdown(report).replace("\\<", "")
    assert all(cell_len(line) <= 80 for line in check_text(report).splitlines())


@given(st.text(max_size=60))
def test_github_reads_the_message_back(message):
    """The runner decodes %25, %0D and %0A (ActionCommand.cs of actions/runner)."""
    (command,) = github_annotations(Report([Outcome("cell", "fault", message)], TOLERANCES)).split("\n")[:-1]
    data = command.split("::", 2)[2]
    assert data.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%") == message


def test_junit_counts_what_failed(tmp_path):
    report = Report(
        [Outcome(name, status, "m") for name, status in zip("abcd", ("regression", "fault", "new", "improvement"), strict=True)], TOLERANCES
    )
    root = ET.fromstring(junit(report).encode())
    assert root.tag == "testsuites" and (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "1", "1")
    assert [case.get("name") for case in root.iter("testcase")] == list("abcd")


def test_the_report_of_a_real_check_in_every_format(tmp_path):
    new, old = baseline_and_new(tmp_path, drop=0.2)
    report = check(new, old)
    comparison = only(report).comparison
    data = json.loads(json.dumps(as_data(report), allow_nan=False))
    assert data["passed"] is False and data["counts"] == {"regression": 1}
    assert data["cells"][0]["comparison"]["gain"] == comparison.gain and "samples" not in data["cells"][0]["comparison"]
    assert f"{comparison.gain:+.2f}" in check_text(report) and f"{comparison.gain:+.2f}" in markdown(report)
    assert verdict(report) == "FAILED: 1 regression (tolerance 0.2 %)"
