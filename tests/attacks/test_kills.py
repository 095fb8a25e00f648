"""Commands that are killed or interrupted at any moment, meet themselves, or find no room: what they leave is whole, or is taken up.

All but a few without room are met by `make attack` only.
After a kill the same command runs to its end, and what it has made is what an undisturbed one makes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.attacks.frame import ROOT, Attack, Case, Outcome, corpus, meet, seeded
from tests.attacks.seeds import run_shapes
from tests.helpers.pretraining import write_recipe, write_shards
from tests.helpers.results_sets import write_record

INTERRUPTED = "tips-bench: interrupted; what was finished is kept"
Prepare = Callable[[Path], list[str]]


def start(arguments: list[str], *, before: str = "") -> subprocess.Popen[str]:
    """The command in a process group of its own. before: what a shell does first."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TIPS_BENCH_DATA": "data"}
    environment |= {"TIPS_BENCH_CACHE": "cache", "TORCHINDUCTOR_CACHE_DIR": "cache/torch"}
    command = ["bash", "-c", f'{before} exec "$0" -m tips_bench "$@"', sys.executable, *arguments]
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], limit_s: float = 50) -> Outcome:
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Outcome(None)
    return Outcome(process.returncode, out, err, err if "Traceback (most recent call last)" in err else None)


def rooms(folder: Path) -> list[str]:
    return ["data", "rooms", "out/rooms", "--train", "8", "--val", "4", "--size", "32", "--workers", "2"]


def run(folder: Path) -> list[str]:
    return run_shapes(folder)


def train(folder: Path) -> list[str]:
    shards = write_shards(folder / "shards", shards=1)
    path = write_recipe(folder / "tiny.yaml", shards, steps=6, stages__0__warmup=1, running={"log_every": 1, "checkpoint_every": 2})
    return ["train", str(path), "--device", "cpu", "--out", "out/run", "--resume"]


def build(folder: Path) -> list[str]:
    write_record(folder / "records", "a", 0.5, number=8)
    write_record(folder / "records", "b", 0.6, number=8)
    return ["leaderboard", "build", "records", "--to", "out/site"]


def publish(folder: Path) -> list[str]:
    assert ended(start([*build(folder)[:-1], "site"])).status == 0
    return ["leaderboard", "publish", "site", "--to", "out/www", "--yes"]


VERBS: dict[str, Prepare] = {"data rooms": rooms, "run": run, "train": train, "leaderboard build": build, "leaderboard publish": publish}
REFERENCE: dict[str, dict[str, str]] = {}


def made(folder: Path) -> dict[str, str]:
    """What a command made: file -> a hash of what must be the same each time."""
    found = {}
    for path in sorted((folder / "out").rglob("*")):
        name = str(path.relative_to(folder))
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not path.is_file() or hidden or path.suffix in (".jsonl", ".log") or path.name in ("state.json", "manifest.json"):
            continue
        data = path.read_bytes()
        if name.endswith(".json") and "shapes" in path.parts:
            data = json.dumps(json.loads(data)["metrics"], sort_keys=True).encode()
        if path.suffix == ".safetensors":  # its tensors are written in any order
            data = b"".join(key.encode() + tensor.tobytes() for key, tensor in sorted(load_file(path).items()))
        is_page = path.suffix in (".html", ".json", ".csv") and "shapes" not in path.parts and "rooms" not in path.parts
        found[name] = "" if is_page or path.suffix == ".npz" else hashlib.sha256(data).hexdigest()
    return found


def reference(verb: str, folder: Path) -> dict[str, str]:
    """What the command makes when nothing disturbs it, once a process."""
    if verb not in REFERENCE:
        work = folder.parent / "reference"
        work.mkdir()
        os.chdir(work)
        try:
            assert ended(start(VERBS[verb](work))).status == 0
            REFERENCE[verb] = made(work)
        finally:
            os.chdir(folder)
            shutil.rmtree(work)
    return REFERENCE[verb]


def killed(folder: Path, verb: str, how: signal.Signals, after_s: float) -> Attack:
    expected = reference(verb, folder)
    arguments = VERBS[verb](folder)

    def meet_it() -> Outcome:
        process = start(arguments)
        time.sleep(after_s)
        process.send_signal(how)
        first = ended(process)
        if how == signal.SIGINT and first.status not in (0, 130):
            return first
        if first.status == 130 and INTERRUPTED not in first.err:
            return Outcome(1, first.out, first.err, "no sentence at an interrupt")
        time.sleep(0.3)  # until workers have seen that their parent is gone
        again = ended(start(arguments))
        assert made(folder) == expected, set(made(folder)) ^ set(expected)
        left = [path.name for path in (folder / "out").rglob(".*.tmp") if path.is_dir()]
        assert not left or how == signal.SIGTERM, left
        shutil.rmtree(folder / "out")  # files of a killed process may stay, until the folder goes
        return again

    return meet_it


def kills() -> list[Case]:
    found = []
    for verb in VERBS:
        for number in range(14):
            how = (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)[number % 4]
            after_s = round(seeded("kills", f"{verb} {number}").uniform(0.2, 9 if verb in ("run", "train") else 4), 2)
            prepare = functools.partial(killed, verb=verb, how=how, after_s=after_s)
            found.append(Case(f"{verb}, {how.name} after {after_s} s", prepare, statuses=(0,)))
    return found


@pytest.mark.attack
@corpus("kills", kills())
def test_what_was_killed_is_taken_up_and_ends_as_ever(case: Case, arena: Path) -> None:
    meet(case, arena)


def together(folder: Path, verb: str, number: int) -> Attack:
    expected = reference(verb, folder)
    arguments = VERBS[verb](folder)

    def meet_it() -> Outcome:
        processes = [start(arguments) for _ in range(number)]
        outcomes = [ended(process) for process in processes]
        bad = [outcome for outcome in outcomes if outcome.status not in (0, 2) or outcome.trace]
        if bad:
            return bad[0]
        assert made(folder) == expected or verb == "train"
        return min(outcomes, key=lambda outcome: outcome.status or 0)

    return meet_it


@pytest.mark.attack
@corpus(
    "at once",
    [
        Case(f"{verb}, {number} of them", functools.partial(together, verb=verb, number=number), statuses=(0,))
        for verb in VERBS
        for number in ((2,) if verb == "train" else (2, 3))  # three trainings take longer than a case may
    ],
)
def test_commands_that_meet_each_other_end_well_or_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


def without_room(folder: Path, verb: str, limit_kb: int) -> Attack:
    arguments = VERBS[verb](folder)
    return lambda: ended(start(arguments, before=f"ulimit -f {limit_kb};"))


def without_files(folder: Path, verb: str, limit: int) -> Attack:
    arguments = VERBS[verb](folder)
    return lambda: ended(start(arguments, before=f"ulimit -n {limit};"))


@corpus(
    "no room",
    [
        Case(f"{verb}, files of {limit} kB at most", functools.partial(without_room, verb=verb, limit_kb=limit))
        for verb in VERBS
        for limit in (0, 1, 2, 5, 20, 100)
    ]
    + [
        Case(f"{verb}, {limit} files open at most", functools.partial(without_files, verb=verb, limit=limit))
        for verb in VERBS
        for limit in (32, 64)
    ],
)
def test_a_command_without_room_ends_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)
