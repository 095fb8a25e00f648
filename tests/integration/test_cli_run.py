"""tips-bench run and quickstart: what is planned, what is checked first, what failures do; the evaluation itself is a stand-in."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.records import record
from tips_bench.catalog import card_files
from tips_bench.cli.app import app
from tips_bench.cli.run import run as run_command
from tips_bench.errors import UserError
from tips_bench.evaluation import run as evaluation_run
from tips_bench.evaluation import task_data
from tips_bench.evaluation.run import RunOptions
from tips_bench.evaluation.sharing import Shared
from tips_bench.evaluation.spec import Spec
from tips_bench.results.record import Record, record_path

Call = dict[str, Any]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every call of the stand-in for evaluate_spec, which saves a record and returns it, but for task `voc2012`. No data are missed."""
    made: list[Call] = []

    def evaluate_spec(spec: Spec, options: RunOptions, shared: Shared | None) -> Record:
        task, model, protocol = spec.task.name, spec.model.name, spec.protocol.name
        assert (spec.weights, spec.limit) == (options.weights, options.limit)
        given = dataclasses.asdict(options)
        del given["world"]
        made.append({"task": task, "model": model, "protocol": protocol, **given})
        if task == "voc2012":
            raise UserError("not an image", where="data/VOC2012", fix="Download it again.")
        pictures = [f"{protocol}-01234567/{i}.png" for i in range(options.pictures)]
        done = record(task, model, protocol, pictures=pictures)
        done.save(record_path(Path(options.out), task, model, done.protocol, "01234567"))
        return done

    monkeypatch.setattr(evaluation_run, "evaluate_spec", evaluate_spec)
    monkeypatch.setattr(task_data, "is_absent", lambda spec, root: False)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def cells(calls: list[Call]) -> list[tuple[str, str, str | None]]:
    return [(call["task"], call["model"], call["protocol"]) for call in calls]


def test_one_evaluation_prints_its_table_and_where_the_record_lies(calls: list[Call], tmp_path: Path) -> None:
    done = run("run", "--task", "rooms-seg", "--model", "pixels", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert cells(calls) == [("rooms-seg", "pixels", "convex-224")]
    assert "41.25" in done.stdout and "pixels" in done.stdout
    assert str(tmp_path / "rooms-seg" / "pixels" / "convex-224-01234567.json") in done.stdout
    assert (tmp_path / "rooms-seg" / "pixels" / "convex-224-01234567.json").is_file()


def test_comma_lists_are_every_combination_model_by_model(calls: list[Call], tmp_path: Path) -> None:
    arguments = ["--task", "rooms-seg,ade20k", "--model", "pixels, tips-tiny-random", "--protocol", "convex,linear-dinov2"]
    assert run("run", *arguments, "--out", str(tmp_path)).exit_code == 0
    assert cells(calls) == [
        (task, model, protocol)
        for model in ("pixels", "tips-tiny-random")
        for task in ("rooms-seg", "ade20k")
        for protocol in ("convex", "linear-dinov2")
    ]


def test_a_name_given_twice_is_run_once(calls: list[Call], tmp_path: Path) -> None:
    run("run", "--task", "rooms-seg,rooms-seg", "--model", "pixels,,pixels", "--out", str(tmp_path))
    assert len(calls) == 1


def test_all_is_every_card_and_every_protocol_that_a_task_allows(calls: list[Call], tmp_path: Path) -> None:
    from tips_bench.cards import load_card

    run("run", "--task", "all", "--model", "pixels", "--protocol", "all", "--out", str(tmp_path))
    allowed = [(name, "pixels", protocol) for name in card_files("task") for protocol in load_card("task", name).protocols]
    assert cells(calls) == [cell for cell in allowed if cell[2] != "dpt-official"]


def test_a_protocol_that_a_model_is_not_made_for_is_refused_by_name(calls: list[Call], tmp_path: Path) -> None:
    done = run("run", "--task", "ade20k", "--model", "pixels", "--protocol", "dpt-official", "--out", str(tmp_path))
    assert done.exit_code == 2 and "has no released heads" in done.stderr and calls == []


def test_options_reach_the_evaluation(calls: list[Call], tmp_path: Path) -> None:
    options = ["--weights", "random", "--device", "cpu", "--dtype", "bf16", "--batch-size", "3", "--workers", "5", "--data-root", "d"]
    options += ["--set", "image.short_side=112", "--set", "probe.max_iterations=7"]
    options += ["--compile", "--pictures", "2", "--cache", "--cache-limit", "3 GB", "--limit", "9", "--seed", "4", "--rerun"]
    options += ["--metrics", "boundary-iou", "--predictions", "--keep-head"]
    done = run("run", "--task", "rooms-seg", "--model", "pixels", "--out", str(tmp_path), *options)
    assert done.exit_code == 0, done.output
    assert calls == [
        {
            "task": "rooms-seg",
            "model": "pixels",
            "protocol": "convex-224",
            "weights": "random",
            "device": "cpu",
            "dtype": "bf16",
            "compile": True,
            "batch_size": 3,
            "workers": 5,
            "out": tmp_path,
            "data_root": Path("d"),
            "overrides": ["image.short_side=112", "probe.max_iterations=7"],
            "pictures": 2,
            "predictions": True,
            "keep_head": True,
            "cache": True,
            "cache_limit": "3 GB",
            "cache_dtype": None,
            "limit": 9,
            "seed": 4,
            "rerun": True,
            "metrics": ["boundary-iou"],
        }
    ]
    assert done.stdout.count("picture ") == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--task", "ade20", "--model", "pixels"], "there is no task named 'ade20'. Did you mean 'ade20k'"),
        (["--task", "ade20k", "--model", "pixel"], "there is no model named 'pixel'. Did you mean 'pixels'"),
        (["--task", "ade20k", "--model", "pixels", "--protocol", "convexx"], "there is no protocol named 'convexx'. Did you mean 'convex'"),
        (["--task", "ade20k", "--model", "vit_tiny_patch16_224"], "A model of timm, Hugging Face or open_clip needs a prefix: timm:NAME"),
        (["--task", "ade20k", "--model", "pixels", "--device", "gpu"], "device: 'gpu' is not a device. Use cpu, cuda or cuda:N."),
        (["--task", " , ", "--model", "pixels"], "--task: ' , ' contains no name"),
        (["--task", "ade20k", "--model", "./absent.npz"], "absent.npz: there is no such file or folder"),
        (["--task", "ade20k", "--model", "absent.yaml"], "absent.yaml: there is no such file"),
        (["--task", "ade20k", "--model", "pixels", "--set", "imagee.short_side=3"], "there is no key named 'imagee'. Did you mean 'image"),
        (["--task", "ade20k", "--model", "pixels", "--set", "nonsense"], "'nonsense' is not KEY=VALUE"),
        (
            ["--task", "ade20k", "--model", "pixels,tips-tiny-random", "--weights", "w.npz"],
            "'w.npz' is one weight file, but there are 2 models",
        ),
    ],
)
def test_a_mistake_is_one_line_and_status_2_before_any_work(calls: list[Call], tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = run("run", "--out", str(tmp_path / "out"), *arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1
    assert calls == [] and not (tmp_path / "out").exists()


def test_a_mistake_in_the_last_name_stops_the_first_from_being_run(calls: list[Call]) -> None:
    assert run("run", "--task", "rooms-seg,nowhere", "--model", "pixels").exit_code == 2
    assert calls == []


def test_a_protocol_that_the_task_does_not_allow_is_refused(calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks").mkdir()
    card = card_files("task")["rooms-seg"]
    text = card.read_text().replace("name: rooms-seg", "name: mine").replace("_base_: ", f"_base_: {card.parent}/")
    narrowed = "\n".join("protocols: [convex]" if line.startswith("protocols:") else line for line in text.splitlines())
    (tmp_path / "tasks" / "mine.yaml").write_text(narrowed)
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path))
    done = run("run", "--task", "mine", "--model", "pixels", "--protocol", "linear-dinov2")
    assert done.exit_code == 2 and calls == []
    assert "linear-dinov2" in done.stderr and "Use one of: convex." in done.stderr


def test_each_task_is_run_under_those_of_the_protocols_that_it_allows(calls: list[Call], tmp_path: Path) -> None:
    arguments = ["--task", "nyu-depth,nyu-normals,rooms-depth", "--model", "pixels", "--protocol", "convex-depth,convex-normals"]
    done = run("run", *arguments, "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert cells(calls) == [
        ("nyu-depth", "pixels", "convex-depth"),
        ("nyu-normals", "pixels", "convex-normals"),
        ("rooms-depth", "pixels", "convex-depth"),
    ]


@pytest.mark.parametrize(
    ("task", "protocol", "sentence"),
    [
        ("nyu-depth", "convex", "task nyu-depth: protocol 'convex' is not allowed for this task. Use one of: convex-depth,"),
        ("nyu-depth", "convex-depth,convex", "task nyu-depth: protocol 'convex' is not allowed for this task"),
        ("nyu-depth,nyu-normals", "convex-depth", "task nyu-normals: protocol 'convex-depth' is not allowed for this task"),
        ("nyu-depth,nyu-normals", "convex-depth,convex-normals,convex", "task nyu-depth: protocol 'convex' is not allowed"),
        ("ade20k,nyu-depth,nyu-normals", "convex-depth,convex-normals", "task ade20k: protocol 'convex-depth' is not allowed"),
    ],
)
def test_a_task_or_a_protocol_that_would_go_without_is_refused(calls: list[Call], task: str, protocol: str, sentence: str) -> None:
    done = run("run", "--task", task, "--model", "pixels", "--protocol", protocol)
    assert done.exit_code == 2 and sentence in done.stderr and len(done.stderr.splitlines()) == 1 and calls == []


def test_one_failure_does_not_stop_the_others_and_the_status_says_so(calls: list[Call], tmp_path: Path) -> None:
    done = run("run", "--task", "voc2012,rooms-seg", "--model", "pixels", "--out", str(tmp_path))
    assert done.exit_code == 2
    assert "tips-bench: data/VOC2012: not an image. Download it again." in done.stderr
    assert [call["task"] for call in calls] == ["voc2012", "rooms-seg"]
    assert "41.25" in done.stdout


def test_of_several_evaluations_those_without_data_are_named_once_and_left_out(
    calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_data, "is_absent", lambda spec, root: spec.task.data.generator is None)
    done = run("run", "--task", "rooms-seg,ade20k,nyu-depth", "--model", "pixels", "--out", str(tmp_path))
    assert done.exit_code == 2
    first, *_, last = done.stderr.splitlines()
    assert first.startswith("2 of 3 evaluations are left out: the data of ade20k, nyu-depth are not in ")
    assert last == "1 of 3 evaluations have a record, 0 failed, 2 have no data here"
    alone = run("run", "--task", "ade20k", "--model", "pixels", "--out", str(tmp_path))
    assert "left out" not in alone.stderr  # its own error says how to get them
    assert [call["task"] for call in calls] == ["rooms-seg", "ade20k"]


def test_a_model_whose_code_fails_does_not_stop_the_others(calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_broken.py").write_text("def build():\n    raise KeyError('weights')\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = run("run", "--task", "rooms-seg,rooms-depth", "--model", "users_broken:build,pixels", "--out", str(tmp_path))
    assert done.exit_code == 2
    assert [line for line in done.stderr.splitlines() if "users_broken" in line] == [
        "tips-bench: users_broken:build: called without arguments, it failed: KeyError: 'weights'. Run it in Python alone to see where."
    ]
    assert [(call["task"], call["model"]) for call in calls] == [("rooms-seg", "pixels"), ("rooms-depth", "pixels")]


def test_json_is_the_records_as_they_were_saved(calls: list[Call], tmp_path: Path) -> None:
    done = run("run", "--task", "rooms-seg", "--model", "pixels,tips-tiny-random", "--out", str(tmp_path), "--json")
    files = sorted(tmp_path.rglob("*.json"))
    assert json.loads(done.stdout) == [json.loads(file.read_text()) for file in files]
    assert [one["schema"] for one in json.loads(done.stdout)] == ["tips-bench/record/2"] * 2


def test_json_with_nothing_but_failures_is_an_empty_list(calls: list[Call], tmp_path: Path) -> None:
    done = run("run", "--task", "voc2012", "--model", "pixels", "--out", str(tmp_path), "--json")
    assert json.loads(done.stdout) == [] and done.exit_code == 2


@pytest.mark.parametrize("option", [["--batch-size", "0"], ["--limit", "0"], ["--pictures", "-1"], ["--dtype", "fp8"], ["--seed", "x"]])
def test_a_value_out_of_range_is_refused_with_status_2(calls: list[Call], option: list[str]) -> None:
    done = run("run", "--task", "rooms-seg", "--model", "pixels", *option)
    assert done.exit_code == 2 and option[0] in done.stderr and calls == []


def test_quickstart_scores_the_shipped_encoder_beside_its_twin_and_names_its_pictures(calls: list[Call], tmp_path: Path) -> None:
    done = run("quickstart", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    scored = [(call["task"], call["model"]) for call in calls]
    assert scored == [(task, model) for task in ("rooms-seg", "rooms-retrieval") for model in ("tips-nano", "tips-nano-random")]
    assert {call["pictures"] for call in calls} == {4}
    assert done.stdout.count("picture ") == 16 and "±1.25" in done.stdout


def test_an_interruption_is_status_130_and_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Record:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation_run, "evaluate_spec", interrupted)
    done = run("run", "--task", "rooms-seg", "--model", "pixels")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "tips-bench: interrupted; what was finished is kept"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Record:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(evaluation_run, "evaluate_spec", broken)
    done = run("run", "--task", "rooms-seg", "--model", "pixels")
    assert isinstance(done.exception, ZeroDivisionError)


def test_a_message_with_line_breaks_and_escapes_is_still_one_printable_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def hostile(*_: Any, **__: Any) -> Record:
        raise UserError("a name\nof two lines \x1b[31m", where="x\r\ny")

    monkeypatch.setattr(evaluation_run, "evaluate_spec", hostile)
    done = run("run", "--task", "rooms-seg", "--model", "pixels")
    assert done.stderr.splitlines()[-1] == "tips-bench: x y: a name of two lines \N{REPLACEMENT CHARACTER}[31m"


def test_every_option_of_an_evaluation_can_be_given_and_has_its_default() -> None:
    parameters = inspect.signature(run_command).parameters
    for field in dataclasses.fields(evaluation_run.RunOptions):
        if field.name == "world":
            continue  # torchrun says it
        default = parameters[field.name].default
        assert (str(default) if field.name == "out" else default) == field.default, field.name
