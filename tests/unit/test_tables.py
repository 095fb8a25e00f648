"""Tables: every format read back by somebody else's reader, nothing mixed in silence, and names that bite."""

import csv
import io
import json
import math
import random
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.helpers.records import said
from tips_bench.errors import UserError
from tips_bench.results.cost import Cost
from tips_bench.results.folders import read_records
from tips_bench.results.record import DatasetIdentity, MetricValue, Record, load_record
from tips_bench.results.table_formats import FORMATS
from tips_bench.results.tables import layout, table


def record(model="tips-b14", task="ade20k", value=40.0, half=0.5, *, data=None, cost=None, metric=None, **changes) -> Record:
    interval = None if half is None else (value - half, value + half)
    identity = {
        "name": task, "split": "val", "n": 2000, "fingerprint": "aa" * 32,
        "train_split": "train", "train_n": 99, "train_fingerprint": "bb" * 32, "classes": ["wall"],
    }  # fmt: skip
    spent = {
        "wall_s": 90.0, "encoder_s": 80.0, "image_forwards": 1000, "images_per_s": 12.5, "peak_memory_mb": 1.0,
        "device": "cpu", "dtype": "float32",
    }  # fmt: skip
    scored = {"value": value, "unit": "%", "higher_is_better": True, "ci95": interval, "n": 2000} | (metric or {})
    fields = {
        "task": task, "family": "segmentation", "protocol": "convex", "protocol_hash": "11" * 32, "model": model,
        "weights_sha256": "cc" * 32, "metrics": {"mIoU": MetricValue(**scored)}, "primary": "mIoU", "comparable": True,
        "deviations": [], "dataset": DatasetIdentity(**identity | (data or {})), "cost": Cost(**spent | (cost or {})),
        "versions": {}, "git_commit": None, "git_dirty": None, "command": "", "created": "2030", "per_sample": "r.samples.npz",
        "seed": 0, "cards": {},
    }  # fmt: skip
    return Record(**fields | changes)


GRID = [
    record(model, task, value)
    for model, task, value in [("a", "voc", 80), ("b", "voc", 81.5), ("a", "ade", 41), ("b", "ade", 40.8), ("c", "ade", 39)]
]


def parsed_csv(records) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(table(records, "csv")), keep_default_na=False, na_values=[""])


def test_a_row_is_a_model_under_a_protocol_and_a_column_a_task():
    frame = parsed_csv(GRID)
    assert frame["model"].tolist() == ["a", "b", "c"]
    assert frame["ade mIoU (%)"].tolist() == [41, 40.8, 39]
    assert frame["voc mIoU (%)"].tolist()[:2] == [80, 81.5] and math.isnan(frame["voc mIoU (%)"][2])


def test_costs_are_summed_over_the_tasks_of_a_row_and_the_rate_is_images_over_seconds():
    fast, slow = (
        {"image_forwards": 1000, "images_per_s": 100.0, "wall_s": 30.0},
        {"image_forwards": 1000, "images_per_s": 25.0, "wall_s": 60.0},
    )
    row = layout([record(task="ade", cost=fast), record(task="voc", cost=slow)]).rows[0]
    assert (row.images, row.minutes, row.images_per_s) == (2000, 1.5, 2000 / (10 + 40))
    assert math.isnan(layout([record(cost={"images_per_s": 0.0})]).rows[0].images_per_s)


def test_a_cost_that_misses_the_part_before_a_break_says_so():
    rows = [record("a", cost={"resumed": True}), record("b")]
    text = table(rows, "markdown")
    assert "| a | convex | 40.00 ±0.50 | 1,000+ | 1.5+ | 12.5 |" in text and "+ and more: " in text
    assert "+ and more: " not in table(rows[1:], "markdown")
    assert parsed_csv(rows)["resumed"].tolist() == [True, False]
    assert "+ and more: " in table(rows, width=80) and "+ and more: " not in table(rows, width=32)


def test_the_best_come_first_within_a_protocol_and_what_was_not_scored_last():
    records = [*GRID, record("d", "ade", math.nan, None), record("z", "ade", 99, protocol="a-protocol"), record("e", "voc", 99)]
    frame = parsed_csv(records)
    assert frame["model"].tolist() == ["z", "a", "b", "c", "d", "e"]


def test_a_metric_where_less_is_better_sorts_and_wins_downwards():
    metric = {"unit": "m", "higher_is_better": False}
    rows = layout([record("far", value=0.5, half=0.01, metric=metric), record("near", value=0.2, half=0.01, metric=metric)]).rows
    assert [(row.model, row.cells[0].best) for row in rows] == [("near", True), ("far", False)]
    assert "mIoU m ↓" in table([record(metric=metric)])


def test_bold_is_for_a_comparable_best_whose_interval_excludes_the_others():
    def best(*records):
        return {row.model for row in layout(records).rows if row.cells[0].best}

    assert best(record("a", value=42), record("b", value=41)) == {"a"}
    assert best(record("a", value=41.4), record("b", value=41)) == set()
    assert best(record("a", value=42, half=None), record("b", value=41)) == set()
    assert best(record("a", value=42)) == set()
    assert best(record("a", value=42), record("b", value=41, comparable=False), record("c", value=40)) == {"a"}
    assert best(record("x", value=50, comparable=False), record("a", value=42), record("b", value=41)) == {"a"}
    assert best(record("x", value=50, protocol="other"), record("a", value=42), record("b", value=41)) == {"a"}
    assert best(record("x", value=50, data={"fingerprint": "f" * 64}), record("a", value=42), record("b", value=41)) == {"a"}


def test_a_changed_protocol_is_marked_and_its_deviations_are_listed():
    text = table([record("a"), record("b", comparable=False, deviations=said("probe.l2=[1, 2]"))], "markdown")
    assert re.search(r"\| b \| convex \| 40\.00 ±0\.50† \|", text)
    assert re.search(r"\| a \| convex \| 40\.00 ±0\.50 \|", text)
    assert r"† not comparable: probe.l2=\[1, 2\]" in text


def test_twelve_kinds_of_deviation_have_twelve_signs():
    text = table([record(f"m{index:02}", comparable=False, deviations=said(f"seed={index:02}")) for index in range(12)], "markdown")
    for index in range(12):
        assert f"m{index:02} | convex | 40.00 ±0.50†{index + 1} |" in text
        assert f"\n†{index + 1} not comparable: seed={index:02}\n" in text


def test_records_on_other_data_are_told_apart_and_never_share_a_mark():
    other = {"fingerprint": "dd" * 32, "n": 500}
    records = [
        record("a"),
        record("b"),
        record("c", data=other),
        record("d", data={"train_fingerprint": "ee" * 32}),
        record("e", "voc", data=other),
    ]
    frame = parsed_csv(records).set_index("model")
    notes = frame["ade20k mIoU notes"]
    assert notes[["a", "b"]].isna().all()
    assert (
        notes["c"].startswith("ade20k on val of 500 images (dddddddd)")
        and "the unmarked scores are on val of 2000 images (aaaaaaaa)" in notes["c"]
    )
    assert "fitted on train of 99 (eeeeeeee)" in notes["d"]
    assert math.isnan(frame["voc mIoU notes"]["e"])


def test_records_that_differ_in_weights_card_seed_or_precision_have_rows_that_say_so():
    changes = [{}, {"weights_sha256": "random:7"}, {"seed": 3}, {"protocol_hash": "99" * 32}]
    changes += [{"cost": {"dtype": "bfloat16"}}, {"cost": {"compiled": True}}]
    models = [row.model for row in layout([record(value=50 - index, **change) for index, change in enumerate(changes)]).rows]
    assert len(set(models)) == 6
    for words in ("weights random:7", "seed 3", "card 999999999999", "bfloat16", "compiled"):
        assert sum(words in model for model in models) == 1


def test_two_runs_of_the_same_thing_are_two_rows():
    models = [row.model for row in layout([record(value=40, created="2031"), record(value=41, created="2030")]).rows]
    assert models == ["tips-b14 (run 1)", "tips-b14 (run 2)"]


def test_the_order_of_the_records_changes_nothing():
    records = [
        *GRID,
        record("b", "ade", 1, seed=2),
        record("b", "ade", 2, comparable=False, deviations=said("x=1")),
        record("q", data={"n": 3, "fingerprint": "1"}),
    ]
    texts = set()
    for seed in range(5):
        shuffled = random.Random(seed).sample(records, len(records))
        texts.add(tuple(table(shuffled, format) for format in FORMATS))
    assert len(texts) == 1


def test_csv_and_json_keep_every_digit_and_people_get_two_decimals():
    value = 100 / 3
    assert float(parsed_csv([record(value=value)])["ade20k mIoU (%)"][0]) == value
    score = json.loads(table([record(value=value)], "json"))[0]["scores"][0]
    assert score["value"] == value and score["ci95"] == [value - 0.5, value + 0.5]
    for format in ("terminal", "markdown", "latex"):
        assert "33.33 " in table([record(value=value)], format) and "33.333" not in table([record(value=value)], format)


def test_not_scored_is_a_dash_or_null_and_never_zero():
    missing = [record(value=math.nan, half=None)]
    assert json.loads(table(missing, "json"))[0]["scores"][0]["value"] is None
    assert "| – |" in table(missing, "markdown") and " –" in table(missing)
    assert math.isnan(parsed_csv(missing)["ade20k mIoU (%)"][0])


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_the_terminal_table_keeps_to_its_width_and_says_what_it_dropped(width):
    records = [
        record(model, task)
        for model in ("tips-b14", "timm:vit_base_patch14_dinov2.lvd142m-and-a-tail")
        for task in ("ade20k", "cityscapes", "voc2012")
    ]
    text = table(records, width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    dropped = re.search(r"Too narrow for: ([^.]*)\.", " ".join(text.split()))
    names = ["ade20k", "cityscapes", "voc2012", "images", "minutes", "images/s"]
    shown = names if dropped is None else names[: -len(dropped[1].split(", "))]
    assert dropped is None or names == [*shown, *dropped[1].split(", ")]
    assert (width == 200) == (dropped is None)
    assert shown[0] == "ade20k" and all(name in text.split("─")[0] for name in shown)


def test_footnotes_of_dropped_columns_are_dropped_with_them():
    records = [record("a", "ade"), record("a", "voc", comparable=False, deviations=said("x=1"))]
    assert "†" in table(records, width=100) and "†" not in table(records, width=36)


def test_color_is_only_there_when_asked_for():
    pair = [record("a", value=50), record("b", value=40)]
    assert "\x1b[1m50.00 ±0.50" in re.sub(r"m +", "m", table(pair, color=True))
    assert "\x1b" not in table(pair)


def test_a_markdown_table_has_as_many_bars_in_every_line():
    lines = [line for line in table([*GRID, record("x|y", "ade")], "markdown").splitlines() if line.startswith("|")]
    assert len(lines) == 6 and {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {8}


def test_latex_escapes_what_latex_would_read():
    text = table([record("a_b&c%$#{}~^\\", deviations=said("x_y=1"), comparable=False), record("z")], "latex")
    assert r"a\_b\&c\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} & convex & 40.00 $\pm$0.50$^{\dagger}$ &" in text
    assert r"\par\footnotesize $^{\dagger}$ not comparable: x\_y=1" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


HOSTILE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(model=HOSTILE, task=HOSTILE, deviation=HOSTILE)
def test_hostile_names_break_no_format(model, task, deviation):
    records = [record(model, task, deviations=said(deviation), comparable=False), record("plain", task)]
    for format in ("terminal", "markdown", "latex", "csv"):
        assert all(character.isprintable() or character == "\n" for character in table(records, format))
    rows = list(csv.reader(io.StringIO(table(records, "csv"))))
    assert {len(row) for row in rows} == {10} and len(rows) == 3
    assert not any(row[0].startswith(("=", "+", "-", "@")) for row in rows)
    assert {row["model"] for row in json.loads(table(records, "json"))} == {model, "plain"} or model == "plain"
    lines = table(records, "markdown").split("\n\n")[0].splitlines()
    assert len(lines) == 4 and {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines} == {7}
    bare = re.sub(r"\\[\\{}&%$#_]", "", table(records, "latex"))
    assert bare.count("{") == bare.count("}")
    assert max(cell_len(line) for line in table(records).splitlines()) <= 80


def test_records_are_found_below_a_folder_and_the_broken_are_named(tmp_path):
    record("a").save(tmp_path / "ade20k" / "a" / "convex-1.json")
    record("b").save(tmp_path / "ade20k" / "b" / "convex-1.json")
    (tmp_path / "ade20k" / "cut.json").write_text("{")
    records, broken = read_records([tmp_path, tmp_path / "ade20k" / "a" / "convex-1.json"], load_record)
    assert [record.model for record in records] == ["a", "b"]
    assert len(broken) == 1 and "cut.json" in str(broken[0])


def test_the_hidden_folder_of_a_run_that_is_not_done_is_passed_over(tmp_path):
    record("a").save(tmp_path / "a.json")
    (tmp_path / ".convex-1.work").mkdir()
    (tmp_path / ".convex-1.work" / "fit.json").write_text("{}")
    records, broken = read_records([tmp_path], load_record)
    assert len(records) == 1 and not broken


def test_a_file_named_outright_must_be_a_record(tmp_path):
    (tmp_path / "cut.json").write_text("{")
    with pytest.raises(UserError, match=r"cut\.json"):
        read_records([tmp_path / "cut.json"], load_record)
    with pytest.raises(UserError, match="nowhere"):
        read_records([tmp_path / "nowhere"], load_record)


def test_a_folder_without_records_says_how_to_get_some(tmp_path):
    with pytest.raises(UserError, match=r"no records there\. Write some with `tips-bench run"):
        read_records([tmp_path], load_record)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(UserError, match="no records there"):
        read_records([tmp_path], load_record)
    with pytest.raises(UserError, match="no records to show"):
        table([])


def test_an_unknown_format_suggests_near_ones():
    with pytest.raises(UserError, match="Did you mean 'markdown'"):
        table(GRID, "markdow")


def test_the_tables_module_is_in_the_package_without_torch():
    import subprocess
    import sys

    code = "import sys, tips_bench.results.tables; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((39.5, 40.5), "40.00 ±0.50"),
        ((39.5, 40.6), "40.00 ±0.55"),
        ((25.22, 43.28), "40.00 [25.22, 43.28]"),
        ((40.0, 60.0), "40.00 [40.00, 60.00]"),
        ((40.0, 40.0), "40.00 ±0.00"),
    ],
)
def test_an_interval_whose_middle_is_not_the_score_is_shown_by_both_ends(ends, text):
    one = record("a", metric={"ci95": ends})
    uneven = "[" in text
    for format in ("terminal", "markdown", "latex"):
        shown = table([one], format, width=200)
        assert text in shown.replace(r"$\pm$", "±").replace("\\[", "[")
        assert ("[low, high]" in shown.replace("\\[", "[").replace("\\]", "]")) is uneven


def test_a_carriage_return_in_a_name_begins_no_row_of_a_csv():
    text = table([record("a\r=1+1"), record("b\n=2")], "csv")
    assert "\r" not in text and len(text.splitlines()) == 3


def test_a_score_on_a_task_that_the_protocols_source_has_no_number_for_is_called_an_extension_and_may_still_be_the_best():
    records = [record("a", "voc", 80, extension=True), record("b", "voc", 60, extension=True), record("a", "ade", 41)]
    text = table(records, "markdown")
    assert "extension: the source of convex has no number for voc" in text and re.search(r"\*\*80.*?\*\* ?§|\*\*80[^|]*§", text)
    assert "§" not in table(records[2:], "markdown") and "\\S" in table(records, "latex")
