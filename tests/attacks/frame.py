"""The corpus of attacks: what a case is, how it is met, and what must hold of every one.

A case writes something broken or hostile into an empty folder, and then meets it with a command or a function. Whatever it was, the
command ends with a status that the case allows, without a traceback; status 2 comes with one sentence; nothing is written outside the
folders that the case names, no temporary file stays; memory and time are bounded; and two records that say they measured the same thing
hold the same numbers.

A test module a kind:

    CASES = [Case("an empty file", lambda folder: command("show", write(folder / "a.yaml", b"")))]

    @corpus("cards", CASES)
    def test_a_card_is_read_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
        meet(case, arena)

`make test` meets the fast sample: one case in SAMPLE, chosen by its name. `make attack` meets all, and prints how many they were.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import subprocess
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tips_bench.cli.app import app
from tips_bench.cli.output import print_error
from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.results.record import Record, load_record

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = 40  # one case in so many is met by `make test`
LIMIT_S = 40  # of the processor; a busy machine takes longer
HANG_S = 300  # by the clock
LIMIT_BYTES = 3 << 30  # of memory beyond what the process has; torch and transformers are loaded on the way
LONGEST = 1500  # characters of a sentence
OTHERS = ("home/.cache", "home/.config", "temporary/torchinductor_root")  # caches of matplotlib, torch and others
DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@dataclass(frozen=True)
class Outcome:
    """What became of a command. status: None where it did not end by itself. trace: of an exception that is no error for users."""

    status: int | None
    out: str = ""
    err: str = ""
    trace: str | None = None


Attack = Callable[[], Outcome]


@dataclass(frozen=True)
class Case:
    """One attack. prepare: writes into the working folder and returns what is to be done there.

    statuses: those that are right. writes: folders and files, relative to the working folder, that it may write to. check: raises where
    something else does not hold; it gets the outcome and the working folder.
    """

    name: str
    prepare: Callable[[Path], Attack]
    statuses: tuple[int, ...] = (0, 2)
    writes: tuple[str, ...] = ("out", "cache")
    check: Callable[[Outcome, Path], None] | None = None


def corpus(kind: str, cases: Sequence[Case]) -> pytest.MarkDecorator:
    """Parametrizes a test over the cases; those outside the fast sample bear the mark `attack`."""
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), f"two cases of {kind} have one name"
    return pytest.mark.parametrize(
        "case",
        [pytest.param(case, id=_id(kind, case), marks=[] if in_sample(kind, case, cases) else [pytest.mark.attack]) for case in cases],
    )


def in_sample(kind: str, case: Case, cases: Sequence[Case]) -> bool:
    """The first case of each kind, and of the others one in SAMPLE, whatever is added beside them."""
    return case is cases[0] or int(digest(kind, case.name)[:8], 16) % SAMPLE == 0


def _id(kind: str, case: Case) -> str:
    return f"{kind}: {case.name}".encode("ascii", "backslashreplace").decode()


def seeded(kind: str, name: str) -> random.Random:
    """Random numbers that are the same for a case whenever and wherever it is met."""
    return random.Random(f"{kind}/{name}")


def write(path: Path, data: bytes | str) -> str:
    """Writes a file, with its folders. Returns its path as an argument."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape"))
    return str(path)


def command(*arguments: str, env: Mapping[str, str | None] | None = None) -> Attack:
    """The command line in this process. env: changes of the environment, None = not set."""

    def meet_it() -> Outcome:
        done = CliRunner().invoke(app, list(arguments), env=env)
        bug = done.exception if not isinstance(done.exception, SystemExit | None) else None
        return Outcome(done.exit_code, done.stdout, done.stderr, "".join(traceback.format_exception(bug)) if bug else None)

    return meet_it


def call(function: Callable[[], object]) -> Attack:
    """A function of the package in this process; its UserError is printed as the command line does it."""

    def meet_it() -> Outcome:
        try:
            function()
        except UserError as error:
            return Outcome(2, err=_printed(error))
        except Exception:
            return Outcome(1, trace=traceback.format_exc())
        return Outcome(0)

    return meet_it


def process(*arguments: str | bytes, env: Mapping[str, str | bytes] | None = None, limit_s: float = HANG_S) -> Attack:
    """The command line in a process of its own, for what needs one: signals, streams, arguments that are no text."""

    def meet_it() -> Outcome:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        code = [sys.executable, "-m", "tips_bench", *arguments]
        try:
            done = subprocess.run(code, env=environment, capture_output=True, timeout=limit_s, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return Outcome(None)
        out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
        return Outcome(done.returncode, out, err, err if "Traceback (most recent call last)" in err else None)

    return meet_it


def _printed(error: UserError) -> str:
    with redirect_stderr(io.StringIO()) as err:
        print_error(error)
    return err.getvalue()


def meet(case: Case, arena: Path) -> Outcome:
    """Runs a case in `arena`/work, which must be the working directory, and holds it to all that every case promises."""
    folder = arena / "work"
    attack = case.prepare(folder)
    allowed = (*(folder / name for name in case.writes), *(arena / name for name in OTHERS))
    before = _files(arena, allowed)
    started = time.process_time()
    with _bounded_memory():
        outcome = attack()
    seconds = time.process_time() - started
    faults = [] if seconds < LIMIT_S else [f"it took {seconds:.0f} s of the processor"]
    faults += [*_faults_of_end(outcome, case), *_faults_of_text(outcome), *_faults_of_files(arena, before, allowed)]
    if faults:
        pytest.fail("\n".join([*faults, f"status {outcome.status}", outcome.err[-2000:], outcome.trace or ""]), pytrace=False)
    if case.check is not None:
        case.check(outcome, folder)
    return outcome


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """What asks for much more memory than the process has gets none."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + LIMIT_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _faults_of_end(outcome: Outcome, case: Case) -> Iterator[str]:
    if outcome.trace is not None:
        yield "a traceback in place of a sentence"
    if outcome.status is None:
        yield "it did not end within the time"
    elif outcome.status not in case.statuses:
        yield f"status {outcome.status}, not one of {case.statuses}"
    if outcome.status != 2 or outcome.trace is not None or outcome.err.lstrip().startswith("Usage:"):
        return
    said = [line for line in outcome.err.splitlines() if line.startswith("tips-bench: ")]
    if not said:
        yield "status 2 without a sentence"
    elif len(said[-1]) > LONGEST:
        yield f"a sentence of {len(said[-1])} characters"


def _faults_of_text(outcome: Outcome) -> Iterator[str]:
    for stream in (outcome.out, outcome.err):
        bad = {one for one in stream if (unicodedata.category(one) in ("Cc", "Cs") and one not in "\n\t") or one in DIRECTIONS}
        if bad:
            yield f"characters that steer a terminal are printed: {sorted(map(ascii, bad))}"


def _faults_of_files(arena: Path, before: Mapping[str, tuple[Any, ...]], allowed: tuple[Path, ...]) -> Iterator[str]:
    after = _files(arena, allowed)
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield f"{path} was {'written' if path not in before else 'removed' if path not in after else 'changed'}"
    for base, _, names in os.walk(arena):
        for name in names:
            if name.endswith(".tmp"):
                yield f"a temporary file stays: {base}/{name}"
            elif name.endswith(".samples.npz") and "out" in Path(base).parts and not (Path(base) / record_name(name)).exists():
                yield f"counts without a record stay: {base}/{name}"


def record_name(counts: str) -> str:
    return counts.removesuffix(".samples.npz") + ".json"


def _files(arena: Path, allowed: tuple[Path, ...]) -> dict[str, tuple[Any, ...]]:
    """Everything below the arena but for the allowed folders: path -> what would tell a change."""
    found: dict[str, tuple[Any, ...]] = {}
    kept = tuple(map(os.path.normpath, allowed))
    for base, folders, names in os.walk(arena):
        folders[:] = [name for name in folders if os.path.join(base, name) not in kept]
        for name in [*folders, *names]:
            path = os.path.join(base, name)
            if path not in kept:
                state = os.lstat(path)
                is_folder = name in folders
                found[ascii(path)] = (state.st_mode,) if is_folder else (state.st_mode, state.st_size, state.st_mtime_ns)
    return found


def records_in(folder: Path) -> list[Record]:
    """All records below a folder; each must be whole."""
    return [load_record(path) for path in sorted(folder.rglob("*.json")) if ".work" not in str(path.parent)]


SEEN: dict[str, str] = {}


def same_numbers(outcome: Outcome, folder: Path) -> None:
    """A check for cases that score: records that say they measured the same thing hold the same numbers, in all cases of this process."""
    for record in records_in(folder / "out"):
        data = record.model_dump(mode="json")
        identity = digest(json.dumps([data[key] for key in ("cards", "weights_sha256", "dataset", "deviations", "seed")], sort_keys=True))
        numbers = json.dumps(data["metrics"], sort_keys=True)
        assert SEEN.setdefault(identity, numbers) == numbers, "another number for what says it is the same"
