"""The small modules that every room may use: plain data, text for terminals, git."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tips_bench.git import git
from tips_bench.plain_data import leaves, null_for_nan
from tips_bench.terminal import one_line, printable
from tips_bench.wording import counted


def test_leaves_are_dotted_in_order_and_lists_of_mappings_are_stepped_into() -> None:
    card = {"b": {"x": 1, "empty": {}}, "a": [1, 2], "stages": [{"steps": 3}, {"steps": 4}], "none": None}
    assert list(leaves(card)) == [
        ("b.x", 1), ("b.empty", {}), ("a", [1, 2]), ("stages.0.steps", 3), ("stages.1.steps", 4), ("none", None),
    ]  # fmt: skip
    assert list(leaves({"x": 1}, "model")) == [("model.x", 1)] and list(leaves(3, "seed")) == [("seed", 3)]


def test_nan_becomes_null_wherever_it_stands() -> None:
    assert null_for_nan({"a": [math.nan, (1.0, math.nan)], "b": "nan"}) == {"a": [None, [1.0, None]], "b": "nan"}


@given(st.text())
def test_printable_text_has_no_line_break_and_no_escape(text: str) -> None:
    assert printable(text).isprintable() and len(printable(text)) == len(text)
    assert one_line(text).isprintable() and "  " not in one_line(text)


def test_one_line_keeps_words_apart() -> None:
    assert one_line("a\n b\x1b[31m") == "a b\N{REPLACEMENT CHARACTER}[31m"


@pytest.mark.parametrize(
    ("words", "text"),
    [((0, "image"), "0 images"), ((1, "image"), "1 image"), ((2000, "image"), "2,000 images"), ((2, "class", "classes"), "2 classes")],
)
def test_a_number_agrees_with_its_noun(words: tuple[int, str, str], text: str) -> None:
    assert counted(*words) == text


def test_git_is_not_led_elsewhere_by_the_callers_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "here")], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    inside = git(tmp_path / "here", "rev-parse", "--is-inside-work-tree", seconds=20)
    assert (inside.returncode, inside.stdout.strip()) == (0, "true")
    led = git(tmp_path / "here", "rev-parse", "--git-dir", seconds=20, keep={"GIT_DIR"})
    assert led.returncode != 0 and "nowhere" in led.stderr
