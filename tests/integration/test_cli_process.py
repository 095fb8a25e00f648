"""The command as a process: statuses, signals, pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tips_bench.cli.app import app

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str, code: str = "from tips_bench.cli.main import main; main()") -> subprocess.Popen[str]:
    """The command in a process of its own; `code` may change something before it calls main."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "tips_bench", "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tips-bench ")


def test_help_shows_examples_of_the_main_job() -> None:
    out, _ = start("--help").communicate()
    assert "tips-bench run --task ade20k --model tips-g14" in out
    for verb in ("run", "list", "show", "doctor", "quickstart", "data", "table"):
        assert verb in out


VERBS = ["run", "list", "show", "doctor", "quickstart", "table", "compare", "check", "data download", "data check", "data rooms"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    done = CliRunner().invoke(app, [*verb.split(), "--help"])
    assert done.exit_code == 0, done.output
    assert f"tips-bench {verb}" in done.stdout.split("Example")[1]


def test_a_user_error_is_one_line_and_no_traceback() -> None:
    process = start("show", "ade2k")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err == "tips-bench: there is no card named 'ade2k'. Did you mean 'ade20k'?\n"


def test_a_bug_keeps_its_traceback_and_is_status_1() -> None:
    code = "import tips_bench.cards; tips_bench.cards.load_card = lambda kind, name: 1 / 0; from tips_bench.cli.main import main; main()"
    process = start("list", "tasks", code=code)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "Traceback" in err and "ZeroDivisionError" in err


def test_memory_that_does_not_suffice_is_one_sentence() -> None:
    code = (
        "import tips_bench.cards\n"
        "def full(kind, name): raise MemoryError\n"
        "tips_bench.cards.load_card = full\n"
        "from tips_bench.cli.main import main; main()"
    )
    process = start("list", "tasks", code=code)
    _, err = process.communicate()
    assert process.returncode == 2
    assert err == "tips-bench: the memory does not suffice. Use fewer workers, a smaller batch, or a machine with more.\n"


def test_ctrl_c_is_status_130_and_one_sentence() -> None:
    code = (
        "import sys, time, tips_bench.cards\n"
        "def wait(kind, name): print('started', flush=True); time.sleep(60)\n"
        "tips_bench.cards.load_card = wait\n"
        "from tips_bench.cli.main import main; main()"
    )
    process = start("list", "tasks", code=code)
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "tips-bench: interrupted; what was finished is kept\n"


@pytest.mark.parametrize("arguments", [["list", "tasks"], ["list", "tasks", "--json"], ["show", "ade20k"]])
def test_a_reader_that_goes_away_is_no_error_to_print(arguments: list[str]) -> None:
    with start(*arguments) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=20) == 141
    assert err == ""


def test_an_unknown_verb_is_status_2() -> None:
    process = start("score")
    _, err = process.communicate()
    assert process.returncode == 2 and "score" in err


BASELINE = ROOT / "leaderboards" / "baseline"
SHOWN = [["table", str(BASELINE)], ["check", str(BASELINE), "--against", str(BASELINE)], ["list", "tasks"]]


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of a shell, in which `tb` is the command."""
    line = line.replace("tb ", f"{sys.executable} -m tips_bench ")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, encoding="latin-1")


@pytest.mark.parametrize("setting", ["PYTHONIOENCODING=ascii", "PYTHONIOENCODING=latin-1", "LC_ALL=POSIX"])
def test_a_stream_that_is_not_utf_8_takes_every_report(setting: str) -> None:
    name, _, value = setting.partition("=")
    for arguments in SHOWN:
        done = shell(f"tb {' '.join(arguments)}", **{name: value})
        assert (done.returncode, done.stderr) == (0, "")
    assert "+-" in shell(f"tb {' '.join(SHOWN[0])}", PYTHONIOENCODING="ascii").stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_stays_json_on_a_stream_that_is_not_utf_8(encoding: str, tmp_path: Path) -> None:
    record = json.loads(next(BASELINE.glob("rooms-seg/*/*.json")).read_text(encoding="utf-8"))
    record["dataset"]["classes"][0] = record["model"] = "Ünï…"
    record["weights"] = None
    (tmp_path / "a.json").write_text(json.dumps(record), encoding="utf-8")
    done = shell(f"tb table {tmp_path} --json", PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout)[0]["model"] == "Ünï…"


def test_output_that_cannot_be_written_is_one_sentence_and_status_2() -> None:
    for arguments in SHOWN:
        full = shell(f"tb {' '.join(arguments)} > /dev/full")
        assert full.returncode == 2
        assert full.stderr.startswith("tips-bench: cannot write to standard output: No space left") and full.stderr.count("\n") == 1
    closed = shell("tb list tasks >&-")
    assert (closed.returncode, closed.stderr.count("\n")) == (2, 1) and "standard output is closed" in closed.stderr
    assert shell("tb list tasks 2>&-").returncode == 0


def test_an_argument_that_is_not_utf_8_is_refused_before_anything_runs() -> None:
    done = shell("tb run --task rooms-seg --model tips-nano --out $'/tmp/\\xff'")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "is not UTF-8" in done.stderr


@pytest.mark.parametrize("wait_s", [0.1, 0.2, 0.4, 0.8, 1.2])
def test_ctrl_c_in_the_first_second_is_status_130_and_one_sentence(wait_s: float) -> None:
    code = "import sys; print('up', flush=True); from tips_bench.cli.main import main; main()"
    process = start("run", "--task", "rooms-seg", "--model", "tips-nano", "--out", "/nonexistent", code=code)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    time.sleep(wait_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    lines = [line for line in err.splitlines() if not line.startswith("[1/1]")]
    assert (process.returncode, lines) == (130, ["tips-bench: interrupted; what was finished is kept"])
