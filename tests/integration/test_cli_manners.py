"""What is said beside results: -q and -v, the log of a run, colors, and the time left of a list of evaluations."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.records import record
from tips_bench import journal, progress
from tips_bench.cli.app import app
from tips_bench.cli.output import print_rich, print_scores
from tips_bench.evaluation.time_left import TimeLeft
from tips_bench.executors.jobs import new_job
from tips_bench.executors.work import do
from tips_bench.terminal import in_color

FEW = ("--set", "task.data.generator_options.train=8", "--set", "task.data.generator_options.val=4")
RUN = ("run", "--task", "rooms-seg", "--model", "pixels", "--protocol", "knn-capi", "--limit", "3", *FEW)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    journal.set_verbosity(journal.NORMAL)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(*arguments: str, cache: Path, out: Path) -> Result:
    return CliRunner().invoke(app, [*arguments, "--out", str(out)], env={"TIPS_BENCH_CACHE": str(cache)})


def test_quiet_leaves_errors_and_results_and_verbose_adds_what_the_log_says(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quiet = run("-q", *RUN, cache=cache, out=tmp_path / "quiet")
    assert (quiet.exit_code, quiet.stderr, caplog.text) == (0, "", "")
    assert "record " in quiet.stdout
    normal = run(*RUN, cache=cache, out=tmp_path / "normal")
    assert [line for line in normal.stderr.splitlines() if "tips-bench: " not in line] == ["[1/1] rooms-seg, pixels, knn-capi"]
    assert "too few to tell two models apart" in caplog.text
    verbose = run("-v", *RUN, cache=cache, out=tmp_path / "verbose")
    (log,) = (tmp_path / "verbose").rglob("*.log")
    notes = [line.split(maxsplit=2)[2] for line in log.read_text(encoding="utf-8").splitlines() if " info " in line]
    assert len(notes) > 5 and set(notes) <= set(verbose.stderr.splitlines())


def test_a_log_with_settings_warnings_and_timings_lies_beside_each_record_and_holds_no_secret(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert run("-q", *RUN, cache=cache, out=tmp_path).exit_code == 0
    (log,), (made,) = tmp_path.rglob("*.log"), tmp_path.rglob("*.json")
    assert log == made.with_suffix(".log")
    text = log.read_text(encoding="utf-8")
    for said in ("starts: task rooms-seg, model pixels", "limit=3", "seed=0", "device c", " warning ", "scoring took", str(made)):
        assert said in text
    assert "hf_secret" not in text
    assert run("table", str(tmp_path), cache=cache, out=tmp_path).exit_code != 1  # a log among records disturbs nobody


@pytest.mark.parametrize("words", [["-q", "list", "tasks"], ["list", "-q", "tasks"], ["list", "tasks", "--quiet"]])
def test_quiet_may_be_said_before_the_verb_or_after_it(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr("tips_bench.journal.set_verbosity", set_to.append)
    assert CliRunner().invoke(app, words).exit_code == 0 and set_to == [journal.QUIET]


def test_quiet_and_verbose_together_are_a_mistake() -> None:
    done = CliRunner().invoke(app, ["-q", "-v", "list", "tasks"])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "opposite" in done.stderr


def test_a_log_goes_on_where_an_earlier_try_stopped_and_a_disk_that_is_full_costs_nothing(tmp_path: Path) -> None:
    for number in (1, 2):
        with journal.run_log() as log:
            journal.note(f"before {number}\x1b[0m")
            log.open(tmp_path / "run.log")
            journal.note(f"after {number}")
    lines = [line.split(maxsplit=2)[2] for line in (tmp_path / "run.log").read_text(encoding="utf-8").splitlines()]
    assert lines == ["before 1\N{REPLACEMENT CHARACTER}[0m", "after 1", "before 2\N{REPLACEMENT CHARACTER}[0m", "after 2"]
    with journal.run_log() as log:
        log.open(Path("/dev/full"))
        journal.note("lost")
        log.open(tmp_path / "absent" / "run.log")
        journal.note("lost, too")


COLORS = [
    ({}, False, False),
    ({}, True, True),
    ({"TERM": "dumb"}, True, False),
    ({"NO_COLOR": "1"}, True, False),
    ({"NO_COLOR": ""}, True, True),
    ({"FORCE_COLOR": "1"}, False, True),
    ({"FORCE_COLOR": ""}, False, False),
    ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
]


@pytest.mark.parametrize(("environment", "terminal", "colored"), COLORS)
def test_colors_follow_the_terminal_no_color_and_force_color(
    environment: dict[str, str], terminal: bool, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm", "COLUMNS": "80"} | environment).items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    out.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdout", out)
    assert in_color(out) is colored
    print_scores([record("rooms-seg", "pixels", "convex-224")])
    assert ("\x1b[" in out.getvalue()) is colored
    out.truncate(0)
    print_rich("[bold red]fault[/]")
    assert ("\x1b[" in out.getvalue()) is colored


def test_time_left_is_shared_out_by_work_and_counts_only_what_was_done_now() -> None:
    now = [0.0]
    left = TimeLeft([10, 0, 20, 30], lambda: now[0])  # the mean of what is known is 20
    left.begin()
    assert left.seconds() is None
    now[0] = 1
    left.end(counts=False)  # it had a record: nothing is known yet
    left.begin()
    assert left.seconds() is None
    now[0] = 5
    left.end(counts=True)  # 4 s for 20
    left.begin()
    assert left.seconds() == pytest.approx(4 + 6)
    now[0] = 6
    assert left.seconds() == pytest.approx(3 + 6)
    now[0] = 100  # longer than expected
    assert left.seconds() == pytest.approx(6)
    left.end(counts=False)
    left.end(counts=False)
    assert left.seconds() is None


def test_the_time_left_stands_below_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    shown.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with progress.below_bars(lambda: "about 3 min left for all 8 evaluations"), progress.bar("reading", 2) as advance:
        advance(2)
    assert "reading" in shown.getvalue() and "about 3 min left for all 8 evaluations" in shown.getvalue()
    shown.truncate(0)
    journal.set_verbosity(journal.QUIET)
    with progress.bar("reading", 2) as advance:
        advance(2)
    assert "reading" not in shown.getvalue()


def test_where_there_is_no_terminal_a_line_says_how_far_it_is_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("tips_bench.progress.time.perf_counter", lambda: now[0])
    with progress.below_bars(lambda: "about 2 h left for all 8 evaluations"), progress.bar("reading", 1000) as advance:
        advance(500)  # taken up from an earlier try
        for second in range(1, 101):
            now[0] = float(second)
            advance(2)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "reading: 560 of 1,000 images, 2 images/s, about 4 min left; about 2 h left for all 8 evaluations"
    assert [line.split()[1] for line in said] == ["560", "620", "680"]
    now[0] = 0.0
    with progress.bar("links", None, "bytes") as advance:
        now[0] = 3600.0
        advance(5_000_000)
        now[0] += 359
        advance(5_000_000)  # a tenth of the time so far has not passed
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == ["links: 5 MB"]
    journal.set_verbosity(journal.QUIET)
    with progress.bar("reading", 2) as advance:
        now[0] += 7200
        advance(1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("verbosity", [journal.QUIET, journal.NORMAL, journal.VERBOSE])
def test_a_job_elsewhere_is_as_quiet_as_its_command(verbosity: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tips-bench"])
    journal.set_verbosity(verbosity)
    job = new_job("tips_bench.journal:verbosity", {})
    journal.set_verbosity(journal.NORMAL)
    assert do(job) == verbosity


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3599, "1 h 0 min"), (4800, "1 h 20 min"), (97200, "1 d 3 h")]
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert progress.duration(seconds) == words


@pytest.mark.parametrize(
    "command",
    [
        "run --task rooms-seg --model pixels --out",
        "train tips-nano --out",
        "export run --to",
        "export-results results --format csv --to",
        "leaderboard build results --to",
        "leaderboard report record.json --to",
        "masks --task rooms-video --model pixels --out",
        "reproduce record.json --out",
        "quickstart --out",
        "corpus check shards --html",
        "data rooms",
    ],
)
def test_what_writes_files_takes_no_address_for_a_folder(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that begins with s3:// would be a folder named s3: on the machine that may be gone tomorrow."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*command.split(), "s3://bucket/place"])
    assert done.exit_code == 2 and "s3://bucket/place: an address in object storage is not possible here" in done.stderr
    assert not list(tmp_path.iterdir())
