"""Comparing records: what is said, what is refused, and text that fits a terminal whatever the names."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from torchmetrics.functional.segmentation import mean_iou

from tests.helpers.records import said
from tests.helpers.scored_records import names, pair, save_record
from tips_bench.errors import UserError
from tips_bench.results.comparison import as_data, compare, compare_folders, suite_data
from tips_bench.results.comparison_text import bar, comparison_text, fitted, suite_text, wrapped
from tips_bench.results.counts import load_scored
from tips_bench.results.folders import read_records
from tips_bench.results.record import DatasetIdentity, load_record


def two(folder: Path, *, drop: float = 0.3, number: int = 60, classes: int = 6, seed: int = 0, **changes) -> tuple[Path, Path]:
    """The files of two records of the same images; the second model is worse by `drop`. changes: of the second record."""
    counts_N23C = pair(np.random.default_rng(seed), number, classes, drop=drop)
    a, b = folder / "a.json", folder / "b.json"
    save_record(a, counts_N23C[:, 0], model="tips-b14")
    save_record(b, counts_N23C[:, 1], **{"model": "tips-s14"} | changes)
    return a, b


def identity(record, **changes) -> DatasetIdentity:
    return DatasetIdentity(**record.dataset.model_dump() | changes)


def test_a_planted_drop_is_found_and_the_sides_are_not_confused(tmp_path):
    a, b = two(tmp_path)
    found = compare(a, b)
    assert found.verdict == "A is better" and found.gain < 0 and found.primary.p < 0.01
    assert found.primary.value == pytest.approx(load_record(b).metrics["mIoU"].value - load_record(a).metrics["mIoU"].value)
    assert compare(b, a).verdict == "B is better"


def test_the_same_counts_again_are_no_difference(tmp_path):
    a, b = two(tmp_path, drop=0.0)
    again = compare(a, a)
    assert again.verdict == "cannot tell" and again.gain == 0 and again.primary.p == 1
    assert compare(a, b).verdict == "cannot tell"


def test_of_a_metric_where_less_is_better_a_lower_value_wins(tmp_path, monkeypatch):
    """The family of a task whose errors count: the share of wrong pixels, in percent."""
    from tips_bench.metrics.segmentation import SegmentationCounts, summary
    from tips_bench.registry import FAMILIES, Family
    from tips_bench.results.record import MetricValue

    class ErrorCounts(SegmentationCounts):
        summary = staticmethod(lambda counts: {"error": 100 - summary(counts)["aAcc"]})
        per_class = {}

    monkeypatch.setitem(FAMILIES._entries, "errors", Family("", ErrorCounts, ""))
    counts_N23C = pair(np.random.default_rng(0), 60, 5, drop=0.3)
    for model, file in enumerate(("a.json", "b.json")):
        value = 100 - float(summary(counts_N23C[:, model].sum(axis=0))["aAcc"])
        error = MetricValue(value=value, unit="%", higher_is_better=False, n=60)
        save_record(tmp_path / file, counts_N23C[:, model], family="errors", metrics={"error": error}, primary="error")
    found = compare(tmp_path / "a.json", tmp_path / "b.json")
    assert found.primary.value > 0 > found.gain and found.verdict == "A is better"
    assert found.gain_interval == (-found.primary.interval[1], -found.primary.interval[0])
    assert found.classes == [] and found.samples[0].gain < 0
    assert "B is worse: error +" in comparison_text(found)


def test_each_sample_has_its_own_score_and_the_greatest_loss_comes_first(tmp_path):
    """torchmetrics gives the mean over classes of one image; the classes that are in neither map are left out there, too."""
    rng = np.random.default_rng(3)
    truth_NHW = rng.integers(0, 3, (5, 6, 6))
    counts_N23C = np.zeros((5, 2, 3, 3), dtype=np.int64)
    expected = np.zeros((5, 2))
    import torch

    for index, model in np.ndindex(5, 2):
        guess_HW = np.where(rng.random((6, 6)) < 0.6, truth_NHW[index], rng.integers(0, 3, (6, 6)))
        matrix = np.histogram2d(truth_NHW[index].ravel(), guess_HW.ravel(), bins=(range(4), range(4)))[0]
        counts_N23C[index, model] = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
        arguments = {"num_classes": 3, "include_background": True, "per_class": False, "input_format": "index"}
        expected[index, model] = 100 * float(mean_iou(torch.tensor(guess_HW)[None], torch.tensor(truth_NHW[index])[None], **arguments))
    for model, file in enumerate(("a.json", "b.json")):
        save_record(tmp_path / file, counts_N23C[:, model])
    found = compare(tmp_path / "a.json", tmp_path / "b.json").samples
    by_id = {one.id: (one.a, one.b) for one in found}
    for index, id in enumerate(names(5)):
        assert by_id[id] == pytest.approx(expected[index], abs=1e-4)
    gains = [one.gain for one in found]
    assert gains == sorted(gains)


def test_the_classes_that_changed_are_told_from_those_that_did_not(tmp_path):
    """The last of four classes loses every pixel in all images, the first never; the others gain and lose by chance."""
    rng = np.random.default_rng(0)
    counts_N23C = np.zeros((80, 2, 3, 4), dtype=np.int64)
    counts_N23C[:, :, 1:] = 100
    for index, low, high in ((0, 70, 90), (1, 40, 60), (2, 40, 60), (3, 60, 80)):
        counts_N23C[:, :, 0, index] = rng.integers(low, high, (80, 2))
    counts_N23C[:, 1, 0, 0] = counts_N23C[:, 0, 0, 0]
    counts_N23C[:, 1, 0, 3] = 0
    for model, file in enumerate(("a.json", "b.json")):
        save_record(tmp_path / file, counts_N23C[:, model])
    found = {one.name: one for one in compare(tmp_path / "a.json", tmp_path / "b.json").classes}
    assert found["class 3"].q < 0.01 and found["class 0"].q == 1
    assert min(found["class 1"].q, found["class 2"].q) > 0.05


CHANGES = [
    ({"task": "voc2012"}, "task: rooms-seg in A, voc2012 in B"),
    ({"protocol": "linear"}, "protocol: convex in A, linear in B"),
    ({"protocol_hash": "9" * 64}, "values of the protocol: the hashes differ"),
    ({"primary": "aAcc"}, "primary metric: mIoU in A, aAcc in B"),
]


@pytest.mark.parametrize(("changes", "words"), CHANGES)
def test_records_that_are_not_alike_are_refused_with_what_differs(tmp_path, changes, words):
    with pytest.raises(UserError) as caught:
        compare(*two(tmp_path, **changes))
    assert words in str(caught.value) and str(tmp_path / "a.json") in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("fingerprint", "0" * 64, "scored data: val of 60 (ffffffffffff) in A, val of 60 (000000000000) in B"),
        ("train_fingerprint", "0" * 64, "data the probe was fitted on: train of 9"),
        ("classes", list("fedcba"), "classes: 6 in A, 6 in B, or in another order"),
    ],
)
def test_other_data_is_refused(tmp_path, field, value, words):
    a, b = two(tmp_path)
    record = load_record(b)
    record.model_copy(update={"dataset": identity(record, **{field: value})}).save(b)
    with pytest.raises(UserError, match=words.replace("(", r"\(").replace(")", r"\)")):
        compare(a, b)


def test_the_values_of_the_protocol_that_differ_are_named(tmp_path):
    cards = [
        {"protocol": {"image": {"short_side": side}, "probe": {"type": "convex"}, "title": title}}
        for side, title in ((448, "x"), (224, "y"))
    ]
    counts_N23C = pair(np.random.default_rng(0), 9, 3)
    for model, file in enumerate(("a.json", "b.json")):
        save_record(tmp_path / file, counts_N23C[:, model], cards=cards[model], protocol_hash=str(model) * 64)
    with pytest.raises(UserError, match=r"values of the protocol: image\.short_side: 448 in A, 224 in B\. Compare"):
        compare(tmp_path / "a.json", tmp_path / "b.json")


def test_other_samples_and_other_groups_are_refused(tmp_path):
    counts_N3C = pair(np.random.default_rng(0), 8, 3)[:, 0]
    save_record(tmp_path / "a.json", counts_N3C)
    save_record(tmp_path / "b.json", counts_N3C, ids=[*names(7), "stranger"])
    save_record(tmp_path / "c.json", counts_N3C, groups=["x"] * 8)
    with pytest.raises(UserError, match="samples only in A: image-00007; samples only in B: stranger"):
        compare(tmp_path / "a.json", tmp_path / "b.json")
    with pytest.raises(UserError, match="the grouping of the samples"):
        compare(tmp_path / "a.json", tmp_path / "c.json")


def test_a_number_that_the_counts_do_not_give_is_refused(tmp_path):
    a, b = two(tmp_path)
    record = load_record(b)
    record.metrics["mIoU"].value += 5
    record.save(b)
    with pytest.raises(UserError, match=rf"mIoU = {record.metrics['mIoU'].value} of 60 samples in the record, .* Run the task again"):
        compare(a, b)


def test_a_family_that_is_not_known_is_named(tmp_path):
    a, _ = two(tmp_path)
    load_record(a).model_copy(update={"family": "segmentaton"}).save(a)
    with pytest.raises(UserError, match=r"no task family named .segmentaton.\. Did you mean .segmentation."):
        load_scored(a)


def test_a_comparison_is_plain_json_with_everything_in_it(tmp_path):
    found = compare(*two(tmp_path))
    data = json.loads(json.dumps(as_data(found), allow_nan=False))
    assert data["verdict"] == "A is better" and len(data["samples"]) == 60 and len(data["classes"]) == 6
    assert data["metrics"]["mIoU"]["difference"] == found.primary.value


def test_how_features_spread_is_shown_where_both_records_say_it(tmp_path):
    a, b = two(tmp_path, probe={"effective_rank": 3.04, "common_share": 0.82})
    assert "rank" not in comparison_text(compare(a, b)) and as_data(compare(a, b))["spread"]["a"] is None
    load_record(a).model_copy(update={"probe": {"effective_rank": 12, "common_share": 0.2249}}).save(a)
    found = compare(a, b)
    text = " ".join(comparison_text(found).split())
    assert "effective rank 12.0 3.0 common share % 22.5 82.0" in text
    assert as_data(found)["spread"]["b"] == {"effective_rank": 3.04, "common_share": 0.82}


def test_a_notebook_shows_a_comparison_as_tables_with_names_escaped(tmp_path):
    a, b = two(tmp_path)
    found = compare(a, b)
    html = found._repr_html_()
    assert html.count("<table>") == 3 and "A: tips-b14. B: tips-s14" in html and "B is worse: mIoU -" in html
    assert all(f"<td>{one.id}</td>" in html for one in found.samples[:3] if one.gain < 0)
    assert repr(found).startswith("<Comparison rooms-seg, convex, A = tips-b14, B = tips-s14: B is worse: mIoU -") and "\n" not in repr(
        found
    )
    load_record(b).model_copy(update={"model": "<script>"}).save(b)
    assert "<script>" not in compare(a, b)._repr_html_()
    assert compare(a, a)._repr_html_().count("<table>") == 1  # no class and no image changed


NASTY = ["", "x" * 300, "\x1b[31mred", "部屋" * 40, "a\nb\r\nc", "[bold]{0}%s", "é" * 70, "🎉" * 50]


@settings(max_examples=12, deadline=None)
@given(text=st.one_of(st.sampled_from(NASTY), st.text(max_size=120)), classes=st.integers(1, 9), seed=st.integers(0, 99))
def test_no_line_is_wider_than_80_columns_and_nothing_escapes(tmp_path_factory, text, classes, seed):
    folder = tmp_path_factory.mktemp("names")
    text = text.encode("utf-8", "replace").decode()
    counts_N23C = pair(np.random.default_rng(seed), 6, classes, drop=0.2)
    ids = [f"{text}{index}".replace("\x00", "") for index in range(6)]
    labels = [f"{index}{text}" for index in range(classes)]
    for model, file in enumerate(("a.json", "b.json")):
        record = save_record(folder / file, counts_N23C[:, model], ids=ids, model=text, task=text, deviations=said(text), comparable=False)
        record.model_copy(update={"dataset": identity(record, classes=labels)}).save(folder / file)
    written = comparison_text(compare(folder / "a.json", folder / "b.json"))
    assert all(cell_len(line) <= 80 for line in written.splitlines())
    assert all(character.isprintable() or character == "\n" for character in written)


def test_a_text_is_cut_to_its_cells_at_either_end():
    assert fitted("abc", 5) == "abc  " and fitted("abcdef", 4) == "abc…" and fitted("abcdef", 4, keep_end=True) == "…def"
    assert cell_len(fitted("部屋部屋", 5)) == cell_len(fitted("部屋部屋", 5, keep_end=True)) == 5


@given(st.floats(-1, 1))
def test_a_bar_points_the_way_of_its_value_and_is_as_long(share):
    left, right = bar(share).split("│")
    length = right.count("█") + sum(0 if cell in "█ " else 0.5 for cell in right) if share >= 0 else left.count("█")
    assert len(left) == 12 and len(right) <= 12
    assert length == pytest.approx(12 * abs(share), abs=1.0)
    assert not (right.strip() if share < 0 else left.strip())


def test_folders_are_compared_cell_by_cell(tmp_path):
    for index, task in enumerate(("one", "two", "three")):
        counts_N23C = pair(np.random.default_rng(index), 50, 4, drop=0.4 if task == "two" else 0.0)
        for model, side in enumerate(("a", "b")):
            if (side, task) != ("b", "three"):
                save_record(tmp_path / side / f"{task}.json", counts_N23C[:, model], task=task, model=f"{side}-model")
    suite = compare_folders(tmp_path / "a", tmp_path / "b")
    assert {cell: one.verdict for cell, one in suite.comparisons.items()} == {"one, convex": "cannot tell", "two, convex": "A is better"}
    assert suite.only_a == ["three, convex"] and suite.only_b == [] and suite.broken == []
    p = {cell: one.primary.p for cell, one in suite.comparisons.items()}
    assert suite.comparisons["two, convex"].q == pytest.approx(min(2 * p["two, convex"], p["one, convex"]))
    text = suite_text(suite)
    assert "Only in A: three, convex" in text and all(cell_len(line) <= 80 for line in text.splitlines())
    assert json.loads(json.dumps(suite_data(suite), allow_nan=False))["only_a"] == ["three, convex"]


def test_of_several_models_each_is_compared_with_itself(tmp_path):
    counts_N23C = pair(np.random.default_rng(0), 20, 3)
    for side in ("a", "b"):
        for model, name in enumerate(("tips-s14", "tips-b14")):
            save_record(tmp_path / side / f"{name}.json", counts_N23C[:, model], model=name)
    suite = compare_folders(tmp_path / "a", tmp_path / "b")
    assert list(suite.comparisons) == ["rooms-seg, tips-b14, convex", "rooms-seg, tips-s14, convex"]
    assert all(one.gain == 0 for one in suite.comparisons.values())


def test_two_records_of_one_cell_are_refused(tmp_path):
    two(tmp_path / "a")
    two(tmp_path / "b", model="tips-b14")
    with pytest.raises(UserError, match=r"a second record of rooms-seg, tips-b14, convex, beside .*a\.json"):
        compare_folders(tmp_path / "a", tmp_path / "b")


def test_other_json_in_a_folder_is_passed_over_and_a_truncated_record_is_not(tmp_path):
    a, b = two(tmp_path)
    (tmp_path / "report.json").write_text('{"passed": true}')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "c.json").write_text("{")
    b.write_text(b.read_text()[:200])
    found, broken = read_records(tmp_path, load_scored)
    assert [one.path for one in found] == [a] and [error.where for error in broken] == [str(b)]


def test_a_folder_without_records_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="no records there"):
        read_records(tmp_path, load_scored)
    with pytest.raises(UserError, match="cannot read"):
        read_records(tmp_path / "absent", load_scored)


def test_the_effects_of_all_samples_are_finite_or_not_scored(tmp_path):
    for one in compare(*two(tmp_path)).samples:
        assert math.isfinite(one.effect) and one.gain == pytest.approx(one.b - one.a)


def test_of_few_groups_it_is_said_that_no_difference_can_be_told(tmp_path):
    counts_N23C = pair(np.random.default_rng(0), 40, 4, drop=0.5)
    for groups, told in ((5, False), (6, True)):
        for model, file in enumerate(("a.json", "b.json")):
            save_record(tmp_path / file, counts_N23C[:, model], groups=[str(index % groups) for index in range(40)])
        found = compare(tmp_path / "a.json", tmp_path / "b.json")
        assert math.isnan(found.primary.detectable) is not told
        text = " ".join(comparison_text(found).split())
        assert ("in 5 groups are too few to tell two models apart: no p below 0.06 exists" in text) is not told
        assert ("are enough to detect a true difference of" in text) is told
        assert found.primary.p >= 2.0 ** (1 - groups) * 0.9


@pytest.mark.parametrize("command", ["::error::owned", "##[error]owned", "::stop-commands::x"])
def test_no_line_of_a_report_is_a_command_to_a_runner(command):
    for before in range(90):
        lines = wrapped("x" * before + " " + command + " y" * 40)
        assert not any(line.lstrip().startswith(("::", "##[")) for line in lines)
        assert command.replace(" ", "") in "".join(lines) and all(cell_len(line) <= 80 for line in lines)
