"""tips-bench list, show and table."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from pathlib import Path
from unittest import mock

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from tests.helpers.records import record
from tips_bench.cards import load_card
from tips_bench.catalog import card_files
from tips_bench.cli.app import app
from tips_bench.cli.output import print_table
from tips_bench.terminal import one_line


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(("what", "kind"), [("tasks", "task"), ("models", "model"), ("protocols", "protocol"), ("recipes", "recipe")])
def test_list_has_a_line_for_every_card(what: str, kind: str) -> None:
    done = run("list", what)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == list(card_files(kind))


def test_list_as_json_is_the_whole_cards() -> None:
    listed = json.loads(run("list", "tasks", "--json").stdout)
    assert [card["name"] for card in listed] == list(card_files("task"))
    assert all(card["license"] and card["data"]["reader"] for card in listed)


def test_list_of_something_else_is_refused() -> None:
    done = run("list", "weights")
    assert done.exit_code == 2 and "'weights'" in done.stderr


def test_a_users_own_card_is_listed_and_a_broken_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model_zoo").mkdir()
    mine = card_files("model")["pixels"].read_text().replace("name: pixels", "name: mine")
    (tmp_path / "model_zoo" / "mine.yaml").write_text(mine)
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path))
    assert "\nmine " in run("list", "models").stdout
    (tmp_path / "model_zoo" / "mine.yaml").write_text(mine + "colour: blue\n")
    done = run("list", "models")
    assert done.exit_code == 2
    assert f"{tmp_path}/model_zoo/mine.yaml: there is no key named 'colour'" in done.stderr
    assert "\npixels " in done.stdout
    assert "pixels" in {card["name"] for card in json.loads(run("list", "models", "--json").stdout)}


@pytest.mark.parametrize("assignment", ["probe.tolerance=1e-4", "probe.tolerance=0.0001"])
def test_a_number_on_the_command_line_is_one_as_in_json(assignment: str) -> None:
    assert load_card("protocol", "convex", [assignment]).probe["tolerance"] == 0.0001


@pytest.mark.parametrize("name", ["ade20k", "convex", "pixels"])
def test_show_is_the_card_as_yaml_that_can_be_read_again(name: str) -> None:
    done = run("show", name)
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(done.stdout)["name"] == name
    assert f"{name}.yaml" in done.stdout.splitlines()[0]


def test_show_as_json_names_the_kind() -> None:
    shown = json.loads(run("show", "ade20k", "--json").stdout)
    assert shown["task"]["data"]["reader"] == "ade20k"


def test_show_tells_a_model_from_the_recipe_of_its_name() -> None:
    assert list(json.loads(run("show", "tips-b14", "--json").stdout)) == ["model", "recipe"]
    shown = json.loads(run("show", "tips-b14", "--kind", "recipe", "--json").stdout)
    assert list(shown) == ["recipe"] and shown["recipe"]["stages"][0]["steps"] > 1000
    wrong = run("show", "tips-b14", "--kind", "task")
    assert wrong.exit_code == 2 and "there is no task named 'tips-b14'" in wrong.stderr


def test_a_users_own_recipe_is_listed_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    text = card_files("recipe")["tips-nano"].read_text().replace("name: tips-nano\ntitle", "name: mine\ntitle")
    (tmp_path / "recipes" / "mine.yaml").write_text(text)
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path))
    assert "\nmine " in run("list", "recipes").stdout
    plan = json.loads(run("train", "mine", "--dry-run", "--json").stdout)
    assert plan[0]["peak"] == sum(plan[0]["memory"].values()) and plan[0]["days"]["h100"] > 0


def test_show_suggests_names_of_every_kind() -> None:
    assert "'pixels'" in run("show", "pixel").stderr
    assert "'convex'" in run("show", "convx").stderr


@pytest.fixture
def results(tmp_path: Path) -> Path:
    record("rooms-seg", "pixels", "convex").save(tmp_path / "rooms-seg" / "pixels" / "a.json")
    record("rooms-seg", "tips-tiny-random", "convex").save(tmp_path / "rooms-seg" / "tips-tiny-random" / "b.json")
    return tmp_path


def test_table_has_a_row_for_every_record(results: Path) -> None:
    done = run("table", str(results))
    assert done.exit_code == 0, done.output
    assert done.stdout.count("41.25 ±1.25") == 2


def test_table_as_csv_keeps_full_precision(results: Path) -> None:
    rows = list(csv.reader(io.StringIO(run("table", str(results), "--format", "csv").stdout)))
    assert len(rows) == 3 and rows[1][2] == "41.25"


@pytest.mark.parametrize(("format", "sign"), [("markdown", "| model |"), ("latex", r"\begin{tabular}")])
def test_table_speaks_the_format_asked_for(results: Path, format: str, sign: str) -> None:
    assert sign in run("table", str(results), "--format", format).stdout


def test_table_chooses_rows_columns_metric_and_order(results: Path) -> None:
    everything = json.loads(run("table", str(results), "--json").stdout)
    assert [row["model"] for row in json.loads(run("table", str(results), "--sort", "model", "--json").stdout)] == sorted(
        row["model"] for row in everything
    )
    first = everything[0]["model"]
    assert {row["model"] for row in json.loads(run("table", str(results), "--model", f"{first[:-1]}*", "--json").stdout)} >= {first}
    for wrong in (["--task", "no-such-task"], ["--metric", "mIuO"], ["--sort", "nothing"], ["--caption", "text"]):
        done = run("table", str(results), *wrong)
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, wrong
    captioned = run("table", str(results), "--format", "latex", "--caption", "Scores").stdout
    assert captioned.count(r"\caption{Scores}") == captioned.count(r"\end{table}") == 1


def test_table_names_a_broken_record_passes_over_other_json_and_goes_on(results: Path) -> None:
    (results / "other.json").write_text("{}")
    (results / "broken.json").write_text('{"schema": "tips-bench/record/2"}')
    done = run("table", str(results))
    assert done.exit_code == 0 and "41.25" in done.stdout
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith(f"tips-bench: {results}/broken.json: ")


def test_table_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        done = run("table", str(path))
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60), st.text(max_size=200)), min_size=1, max_size=5), st.integers(80, 200))
def test_a_table_has_every_row_and_fits_the_terminal(rows: list[tuple[str, str, str]], columns: int) -> None:
    out = io.StringIO()
    out.isatty = lambda: True  # type: ignore[method-assign]
    with mock.patch.dict(os.environ, COLUMNS=str(columns)), contextlib.redirect_stdout(out):
        print_table(("a", "b", "c"), rows)
    lines = out.getvalue().split("\n")[:-1]
    assert len(lines) >= 1 + len(rows)
    written = "".join("".join(line.split()) for line in lines)
    assert len(written) == len("abc") + sum(len("".join(one_line(cell).split())) for row in rows for cell in row), "nothing is cut"
    assert all(len(line) <= columns and (not line or line.isprintable()) for line in lines)


def test_a_table_that_a_program_reads_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [("x", "y" * 500)])
    assert capsys.readouterr().out == f"a  b\nx  {'y' * 500}\n"


def test_show_prints_what_a_protocol_does_differently_from_its_source() -> None:
    shown = json.loads(run("show", "linear-dinov3", "--json").stdout)["protocol"]["deviations_from_source"]
    assert any("dinov3/eval/segmentation/train.py" in one["where"] for one in shown)
    assert "source_does:" in run("show", "linear-dinov3").stdout
    assert json.loads(run("show", "convex", "--json").stdout)["protocol"]["deviations_from_source"] == []
