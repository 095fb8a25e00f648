"""What commands print fits a terminal of 80 columns, whatever names are in it; a program that reads it gets whole lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from tests.helpers.results_sets import write_record
from tests.helpers.shards import write_shards
from tips_bench.cli import doctor
from tips_bench.cli.app import app
from tips_bench.cli.bench import print_bench
from tips_bench.cli.output import print_table
from tips_bench.evaluation.bench import Bench
from tips_bench.features.trial import Rate

LONG = "timm:vit_so400m_patch14_reg4_dinov2.lvd142m-of-a-lab@my-last-checkpoint"
COMMANDS = {
    "bench": None,  # below, without a measurement
    "cache list": ["cache", "list"],
    "check": ["check", "new", "--against", "old"],
    "compare": ["compare", "old", "new"],
    "corpus caption": ["corpus", "caption", "shards", "--to", "out", "--captioner", "pixels", "--prompt", "short", "--dry-run"],
    "corpus check": ["corpus", "check", "shards"],
    "corpus curate": ["corpus", "curate", "shards", "--to", "out", "--encoder", "pixels", "--dedup", "--dry-run"],
    "corpus fetch": ["corpus", "fetch", "shards", "--to", "out", "--dry-run"],
    "data check": None,  # drawn by rich, as `corpus check`
    "doctor": None,  # below, without the imports
    "leaderboard validate": ["leaderboard", "validate", "new"],
    "list": ["list", "tasks"],
    "robustness": ["robustness", "new"],
    "run": ["run", "--task", "rooms-seg,zeroshot-ade150", "--model", "timm:vit_base_patch14_reg4_dinov2.lvd142m,tips-b14", "--dry-run"],
    "samples": ["samples", "RECORD"],
    "status": None,  # as print_table
    "table": ["table", "new", "old"],
    "train": ["train", "tipsv2-g14", "--dry-run", "--ranks", "256"],
}
# They print files as they are (show, croissant), one path or address, or a table of those above; or ask.
OTHERS = {"show", "data croissant", "data download", "data rooms", "explore", "export", "export-results", "init", "init encoder",
          "init task", "init ci", "leaderboard build", "leaderboard serve", "leaderboard publish", "leaderboard report", "masks",
          "quickstart", "reproduce", "cache prune", "cache verify"}  # fmt: skip


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    below = getattr(command, "commands", {})
    if not below or getattr(command, "invoke_without_command", False):
        yield " ".join(words)
    for name, one in below.items():
        yield from leaves(one, (*words, name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("width")
    for name, quality in (("old", 0.6), ("new", 0.5)):
        for task in ("rooms-seg", "rooms-seg+fog-3"):
            path = write_record(place / name, LONG, quality, task=task)
    (place / "RECORD").symlink_to(path)
    write_record(place / "new", "tips-b14", 0.4)
    (place / "shards").mkdir()
    write_shards(place / "shards", [2])
    return place


def run(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, columns: str | None = "80") -> Result:
    monkeypatch.chdir(folder)
    words = [str((folder / word).resolve()) if word == "RECORD" else word for word in arguments]
    return CliRunner().invoke(app, words, env={"COLUMNS": columns, "TERM": "dumb"})


def test_every_command_is_looked_at() -> None:
    assert set(leaves(typer.main.get_command(app))) == set(COMMANDS) | OTHERS


@pytest.mark.parametrize("name", [name for name, arguments in COMMANDS.items() if arguments is not None])
def test_no_line_is_wider_than_the_terminal(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = COMMANDS[name]
    assert arguments is not None
    done = run(arguments, folder, monkeypatch)
    assert done.exit_code in (0, 1), done.output
    assert done.stdout and [line for line in done.stdout.splitlines() if cell_len(line) > 80] == []


@pytest.mark.parametrize("what", ["models", "protocols", "prompts", "recipes"])
def test_no_list_is_wider_than_the_terminal(what: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, wide = (run(["list", what], folder, monkeypatch, columns).stdout.splitlines() for columns in ("80", None))
    assert max(map(cell_len, narrow)) <= 80 < max(map(cell_len, wide)) or what == "prompts"
    assert {line.split()[0] for line in wide} <= {line.split()[0] for line in narrow}, "names stay whole"


def test_figures_of_a_machine_fit_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rate, machine = Rate(4, 2.0, 1e3), "a processor of a long name " * 3
    print_bench(Bench(LONG, machine, "bf16", 448, 448, 10**11, 1e12, "measured", [rate], rate, rate, "photos", 0.01, 0.1, 2, 8), "bf16")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= 80 and any("--batch-size 4" in line for line in lines)


def test_what_the_doctor_finds_fits_and_says_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = doctor.Finding("system libraries", "libgthread-2.0.so.0", "missing", fault=True, fix="apt-get install libglib2.0-0 " * 4)
    for part in ("packages", "devices", "caches", "cards", "data_sets"):
        monkeypatch.setattr(doctor, part, lambda: iter(()))
    monkeypatch.setattr(doctor, "system_libraries", lambda: iter([finding]))
    done = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "80"})
    assert done.exit_code == 1 and max(map(cell_len, done.stdout.splitlines())) <= 80
    assert done.stdout.split().count("apt-get") == 4


def test_cells_go_on_in_the_next_line_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["a-name-that-stays-whole", "words " * 20, "12345", "the last column"], ["b", "", "6", "x"]]
    monkeypatch.setenv("COLUMNS", "60")
    print_table(["name", "sentence", "number", "more"], rows)
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 60 and narrow.split().count("words") == 20
    print_table(["name", "sentence", "number", "more"], rows, optional=2)
    assert "Too narrow for: " in capsys.readouterr().out
    monkeypatch.delenv("COLUMNS")
    print_table(["name", "sentence", "number", "more"], rows, optional=2)
    assert len(capsys.readouterr().out.splitlines()) == 3, "a line a row where a program reads"
