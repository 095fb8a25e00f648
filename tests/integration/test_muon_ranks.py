"""Muon on matrices that ranks hold together."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.torchrun import torchrun

SCRIPT = Path(__file__).resolve().parents[1] / "helpers" / "muon_ranks.py"


def test_matrices_that_are_cut_up_take_the_very_steps_of_whole_ones() -> None:
    done = torchrun(3, SCRIPT)
    assert done.returncode == 0, done.stderr[-3000:]
