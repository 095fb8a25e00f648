"""Shards, recipes and run folders: broken tar files, hostile values, checkpoints of something else."""

from __future__ import annotations

import functools
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tests.attacks.frame import Attack, Case, call, command, corpus, meet, seeded, write
from tests.attacks.mutations import bytes_mutated, data_mutated
from tests.attacks.seeds import HOME
from tests.helpers.pretraining import values, write_recipe, write_shards
from tips_bench.cli.app import app
from tips_bench.training.runs import RECIPE_FILE
from tips_bench.training.shard_index import index_shard
from tips_bench.training.shards import Cursor, ShardOrder

SHARDS, RECIPES, RUNS = 120, 60, 60
FIELDS = {
    "name": (0, 100),
    "mode": (100, 8),
    "size": (124, 12),
    "time": (136, 12),
    "check sum": (148, 8),
    "kind": (156, 1),
    "magic": (257, 8),
}
WORDS = [b"\xff" * 12, b"\x80" + b"\xff" * 11, b"-1", b"99999999999\0", b"abc", b"\0" * 12, b"../../../x", b"7777777777\0"]


@functools.cache
def shard() -> bytes:
    write_shards(HOME / "shards", shards=1, samples=6)
    return (HOME / "shards" / "train-000.tar").read_bytes()


def read_all(path: Path) -> Attack:
    """The shard indexed, and each of its samples read."""

    def read() -> None:
        index_shard(path)
        order = ShardOrder([path], seed=0, shuffle=4)
        for number, draw in enumerate(order.draws(Cursor())):
            if not draw.entry.twice and all(size < 1 << 20 for _, size in draw.entry.members.values()):
                draw.read("png", "json")
            if number == 12:
                break

    return call(read)


def shards() -> Iterator[Case]:
    for number in range(SHARDS):

        def prepare(folder: Path, number: int = number) -> Attack:
            data = list(bytes_mutated(shard(), number + 1, seeded("shards", str(number))))[number][1]
            return read_all(Path(write(folder / "a.tar", data)))

        yield Case(f"form {number}", prepare)
    for field, (at, length) in FIELDS.items():
        for index, word in enumerate(WORDS):

            def header(folder: Path, at: int = at, length: int = length, word: bytes = word, fixed: bool = field != "check sum") -> Attack:
                data = bytearray(shard())
                data[1024 + at : 1024 + at + length] = word[:length].ljust(length, b"\0")
                if fixed:  # a right check sum over the wrong header
                    total = tarfile.calc_chksums(bytes(data[1024:1536]))[0]  # type: ignore[attr-defined]
                    data[1024 + 148 : 1024 + 156] = f"{total:06o}\0 ".encode()
                return read_all(Path(write(folder / "a.tar", bytes(data))))

            yield Case(f"{field}, word {index}", header)


@corpus("shards", list(shards()))
def test_a_shard_is_read_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


def recipes() -> Iterator[Case]:
    for number in range(RECIPES):

        def prepare(folder: Path, number: int = number) -> Attack:
            shard()
            found = list(data_mutated(values("none.tar", steps=1), number + 1, seeded("recipes", "values")))[number][1]
            write(folder / "tiny.yaml", json.dumps(found | {"name": found.get("name", "tiny")}))
            return command("train", "tiny.yaml", "--out", "run", "--device", "cpu")

        yield Case(f"form {number}", prepare, statuses=(2,))  # the shards are not there


@corpus("recipes", list(recipes()))
def test_a_recipe_is_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


@functools.cache
def begun() -> Path:
    """A run of four steps."""
    pattern = write_shards(HOME / "begun-shards", shards=1, samples=20)
    write_recipe(HOME / "tiny.yaml", pattern, steps=4, running={"checkpoint_every": 2, "log_every": 1})
    done = CliRunner().invoke(app, ["train", str(HOME / "tiny.yaml"), "--out", str(HOME / "begun"), "--device", "cpu"])
    assert done.exit_code == 0, done.stderr
    return HOME / "begun"


def runs() -> Iterator[Case]:
    for number in range(RUNS):

        def prepare(folder: Path, number: int = number) -> Attack:
            shutil.copytree(begun(), folder / "run")
            rng = seeded("runs", str(number))
            files = sorted(path for path in (folder / "run").rglob("*") if path.is_file())
            path = folder / "run" / RECIPE_FILE if number % 2 else files[rng.randrange(len(files))]
            data = path.read_bytes()
            if number % 2:
                found: Any = list(data_mutated(json.loads(data), number + 1, rng))[number][1]
                path.write_text(json.dumps(found))
            elif data:
                path.write_bytes(list(bytes_mutated(data, number + 1, rng))[number][1])
            return command("export", "run", "--to", "out")

        yield Case(f"form {number}", prepare)


@corpus("run folders", list(runs()))
def test_a_run_is_exported_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)
