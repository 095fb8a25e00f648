"""Paths and the environment: names too long, links to themselves, devices, text that is no text, variables that say nonsense."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks.frame import Attack, Case, Outcome, command, corpus, meet, process, same_numbers
from tests.attacks.seeds import run_shapes, tips_npz
from tests.attacks.test_records import records

NOBODY = 65534
OPTIONS: dict[str, Callable[[Path, str], list[str]]] = {
    "run --out": lambda folder, path: [*run_shapes(folder), "--out", path],
    "run --data-root": lambda folder, path: [*run_shapes(folder), "--data-root", path],
    "run --model": lambda folder, path: run_shapes(folder, model=path),
    "run --weights": lambda folder, path: [*run_shapes(folder, model="tips-tiny-random"), "--weights", path],
    "run --task": lambda folder, path: ["run", "--task", path, "--model", "pixels"],
    "run --protocol": lambda folder, path: [*run_shapes(folder), "--protocol", path],
    "data check --data-root": lambda folder, path: ["data", "check", "ade20k", "--data-root", path],
    "data check": lambda folder, path: ["data", "check", path],
    "show": lambda folder, path: ["show", path],
    "table": lambda folder, path: ["table", path],
    "compare": lambda folder, path: ["compare", str(records() / "old"), path],
    "check": lambda folder, path: ["check", path, "--against", str(records() / "old")],
    "check --report": lambda folder, path: ["check", str(records() / "new"), "--against", str(records() / "old"), "--report", path],
    "check --junit": lambda folder, path: ["check", str(records() / "new"), "--against", str(records() / "old"), "--junit", path],
    "leaderboard build": lambda folder, path: ["leaderboard", "build", path, "--to", "out"],
    "leaderboard build --to": lambda folder, path: ["leaderboard", "build", str(records() / "old"), "--to", path],
    "leaderboard validate": lambda folder, path: ["leaderboard", "validate", path],
    "leaderboard report": lambda folder, path: ["leaderboard", "report", path],
    "train": lambda folder, path: ["train", path],
    "export": lambda folder, path: ["export", path, "--to", "out"],
}
PATHS: dict[str, Callable[[Path], str]] = {
    "empty": lambda folder: "",
    "a blank": lambda folder: " ",
    "256 characters": lambda folder: "x" * 256,
    "4,096 characters": lambda folder: "x/" * 2048,
    "100,000 characters": lambda folder: "x" * 100_000,
    "a NUL": lambda folder: "a\0b",
    "an escape": lambda folder: "\x1b[2J",
    "a text direction": lambda folder: "a\u202eb",
    "a link to itself": lambda folder: _linked(folder, "loop", "loop"),
    "a link to nothing": lambda folder: _linked(folder, "dangling", "nowhere"),
    "below a file": lambda folder: _below(folder),
    "a device": lambda folder: "/dev/zero",
    "a device that is full": lambda folder: "/dev/full",
    "a file of the kernel": lambda folder: "/proc/self/mem",
    "a folder of the kernel": lambda folder: "/proc/self/x",
    "nobody's home": lambda folder: "~nobody-of-this-name/x",
    "an option": lambda folder: "--help-me",
    "a URL": lambda folder: "https://[::1/x\0",
    "a prefix": lambda folder: "timm:",
    "a callable": lambda folder: "no_such_module:build",
    "a tilde and a file": lambda folder: "~/x.yaml",
    "a card that is a folder": lambda folder: _folder(folder, "x.yaml"),
    "a weight file that is a folder": lambda folder: _folder(folder, "x.npz"),
}


# Where a verb writes to the path itself, that is what was asked for.
WRITTEN = (
    *(
        "out",
        "cache",
        " ",
        "a\u202eb",
        "\x1b[2J",
        "nowhere",
        "dangling",
        "loop",
        "--help-me",
        "x.yaml",
        "x.npz",
        "timm:",
        "~",
        "x",
        "https:",
    ),
    *("no_such_module:build", "report.html", "~nobody-of-this-name"),
)


def _linked(folder: Path, name: str, target: str) -> str:
    os.symlink(target, folder / name)
    return name


def _below(folder: Path) -> str:
    (folder / "file").write_text("x")
    return "file/x"


def _folder(folder: Path, name: str) -> str:
    (folder / name).mkdir()
    return name


def paths() -> Iterator[Case]:
    for verb, arguments in OPTIONS.items():
        for name, make in PATHS.items():
            if name == "empty" and verb in ("run --out", "leaderboard build --to"):
                continue  # the working directory, in which anything may be written then

            def prepare(
                folder: Path, arguments: Callable[[Path, str], list[str]] = arguments, make: Callable[[Path], str] = make
            ) -> Attack:
                return command(*arguments(folder, make(folder)))

            yield Case(f"{verb} {name}", prepare, statuses=(0, 1, 2), writes=WRITTEN)


@corpus("paths", list(paths()))
def test_a_path_is_used_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


VALUES = ["", "x", "-1", "0", "9" * 30, "1.5", "/dev/null", "nowhere", "\x1b[2J", "a:b:c", "../.."]
VARIABLES = [
    "TIPS_BENCH_CACHE", "TIPS_BENCH_DATA", "TIPS_BENCH_CARDS", "HOME", "TMPDIR", "COLUMNS", "LINES", "TERM", "NO_COLOR",
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE",
]  # fmt: skip
MEETING = {"run": run_shapes, "list": lambda folder: ["list", "tasks"], "check": lambda folder: ["data", "check", "ade20k"]}


def variables() -> Iterator[Case]:
    for number, variable in enumerate(VARIABLES):
        for index, value in enumerate(VALUES):
            verb = list(MEETING)[(number + index) % len(MEETING)]

            def prepare(folder: Path, variable: str = variable, value: str = value, verb: str = verb) -> Attack:
                arguments = MEETING[verb](folder)
                (folder / "data").mkdir(exist_ok=True)
                return command(*arguments, env={variable: value})

            # a cache may be put anywhere that its variable names
            names = (
                "x",
                "-1",
                "0",
                "9" * 30,
                "1.5",
                "nowhere",
                "\x1b[2J",
                "a:b:c",
                "contents.sqlite",
                "../../features",
                "../../contents.sqlite",
            )
            yield Case(
                f"{variable}={value!a}, {verb}", prepare, statuses=(0, 1, 2), writes=("out", "cache", "../home", *names), check=same_numbers
            )


@corpus("environment", list(variables()))
def test_a_variable_is_used_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


PROCESSES: dict[str, Callable[[Path], Attack]] = {
    "an argument that is not UTF-8": lambda folder: process("show", b"\xff\xfe"),
    "an output folder that is not UTF-8": lambda folder: process(*run_shapes(folder), "--out", b"out/\xff"),
    "ranks that are no numbers": lambda folder: process("train", "tips-nano", env={"RANK": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}),
    "no ranks at all": lambda folder: process("train", "tips-nano", env={"RANK": "0", "WORLD_SIZE": "0", "LOCAL_RANK": "0"}),
    "a rank beyond the world": lambda folder: process("train", "tips-nano", env={"RANK": "5", "WORLD_SIZE": "2", "LOCAL_RANK": "5"}),
    "a terminal of ASCII": lambda folder: process("list", "protocols", env={"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"}),
    "a terminal of Latin-1": lambda folder: process("show", "ade20k", env={"PYTHONIOENCODING": "latin-1"}),
    "a variable that is not UTF-8": lambda folder: process("list", "tasks", env={"TIPS_BENCH_CARDS": b"\xff\xfe"}),
    "a data folder that is not UTF-8": lambda folder: process("data", "check", "ade20k", env={"TIPS_BENCH_DATA": b"\xff\xfe"}),
    "threads that are no number": lambda folder: process(*run_shapes(folder), env={"OMP_NUM_THREADS": "x"}),
    "no home": lambda folder: process("list", "models", env={"HOME": "", "TIPS_BENCH_CACHE": ""}),
}


@corpus("processes", [Case(name, prepare, statuses=(0, 1, 2), writes=("out", "cache", "runs")) for name, prepare in PROCESSES.items()])
def test_a_process_in_an_odd_place_ends_as_promised(case: Case, arena: Path) -> None:
    meet(case, arena)


@pytest.mark.parametrize("place", ["records", "record", "counts", "cards", "weights"])
def test_what_cannot_be_read_is_a_sentence(place: str, arena: Path) -> None:
    work = arena / "work"
    shutil.copytree(records(), work / "records")
    (work / "w.npz").write_bytes(tips_npz())
    (work / "tips-bench-cards" / "tasks").mkdir(parents=True)
    record = next((work / "records" / "new").rglob("*.json"))
    closed, attack = {
        "records": (work / "records" / "new", command("table", "records/new")),
        "record": (record, command("table", str(record))),
        "counts": (record.with_name(record.stem + ".samples.npz"), command("compare", "records/old", "records/new")),
        "cards": (work / "tips-bench-cards" / "tasks", command("list", "tasks")),
        "weights": (work / "w.npz", command("run", "--task", "ade20k", "--model", "w.npz")),
    }[place]
    mode = closed.stat().st_mode
    closed.chmod(0)
    try:
        meet(Case(place, lambda folder: _as_nobody(attack), statuses=(0, 2)), arena)
    finally:
        closed.chmod(mode)


def _as_nobody(attack: Attack) -> Attack:
    """The attack as a user without rights: root reads everything."""

    def meet_it() -> Outcome:
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        try:
            return attack()
        finally:
            os.seteuid(user)

    return meet_it
