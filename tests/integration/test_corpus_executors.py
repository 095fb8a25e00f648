"""Pieces on executors: the files that this process would have written, and the sentence of one that fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tips_bench.corpus.pieces import Piece, run_pieces
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen

ROOT = Path(__file__).resolve().parents[2]
EXECUTORS = {"local": Chosen("local", {}, at_once=2), "submitit": Chosen("slurm", {"cluster": "local"})}
STEP = """
import os, signal
from pathlib import Path
from tips_bench.errors import UserError
from tips_bench.files import write_text

def piece(file, number):
    if number == 7:
        raise UserError("seven is too many", where="number", fix="Give six.")
    if number == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    write_text(Path(file), f"{number} by {'OMP_NUM_THREADS' in os.environ}")
"""


@pytest.fixture(autouse=True)
def _step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small_step.py").write_text(STEP)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def pieces(folder: Path, *numbers: int) -> list[Piece]:
    return [Piece("small_step:piece", {"file": str(folder / f"{one}"), "number": one}, folder / f"{one}") for one in numbers]


@pytest.mark.parametrize("chosen", EXECUTORS.values(), ids=list(EXECUTORS))
def test_an_executor_writes_the_files_of_pieces_and_says_which_failed(tmp_path: Path, chosen: Chosen) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"number: seven is too many\. Give six\."):
        run_pieces(pieces(out, 1, 7, 2), "numbers", chosen)
    assert sorted(path.name for path in out.iterdir()) == [".pieces", "1", "2"]
    run_pieces(pieces(out, 1, 2, 3), "numbers", chosen)
    assert {path.name: path.read_text() for path in out.iterdir()} == {name: f"{name} by True" for name in "123"}


def test_a_process_that_is_killed_is_said_and_its_piece_is_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ended by SIGKILL.*Give the command again"):
        run_pieces(pieces(tmp_path / "out", 8), "numbers", EXECUTORS["local"])
    with pytest.raises(UserError, match="ranks=2, but these jobs have one process each"):
        run_pieces(pieces(tmp_path / "out", 1), "numbers", Chosen("slurm", {"cluster": "local", "ranks": 2}))
