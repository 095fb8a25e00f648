"""UserError and unknown_name: the sentences a user reads."""

from __future__ import annotations

import difflib
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tips_bench.errors import UserError, system_fault, unknown_name


def test_a_message_says_where_then_what_then_what_to_do() -> None:
    error = UserError("layers = [99]: it has 24 blocks", where="tasks/x.yaml", fix="Use 0-23.")
    assert str(error) == "tasks/x.yaml: layers = [99]: it has 24 blocks. Use 0-23."


def test_a_problem_that_ends_in_a_full_stop_gets_no_second_one() -> None:
    assert str(UserError("It broke.", fix="Fix it.")) == "It broke. Fix it."


def test_a_message_without_place_or_advice_is_the_problem_alone() -> None:
    assert str(UserError("It broke")) == "It broke"


def test_near_names_are_suggested_nearest_first() -> None:
    assert str(unknown_name("task", "ade20", ["voc2012", "ade20k"])) == "there is no task named 'ade20'. Did you mean 'ade20k'?"


@pytest.mark.parametrize("name", ["ADE20K", "Ade20k", "aDE20"])
def test_the_case_of_letters_does_not_hide_a_near_name(name: str) -> None:
    assert str(unknown_name("task", name, ["voc2012", "ade20k"])).endswith("Did you mean 'ade20k'?")
    assert "Did you mean 'ViT-B-16'?" in str(unknown_name("architecture", "vit-b-16", ["RN50", "ViT-B-16"]))
    assert "Did you mean 'Wall' or 'wall'?" in str(unknown_name("class", "WALL", ["wall", "Wall"]))


def test_a_short_list_is_given_whole_where_nothing_is_near() -> None:
    assert "Known: a, b." in str(unknown_name("task", "zzzz", ["b", "a"]))


def test_a_long_list_of_cards_is_left_to_the_list_command() -> None:
    assert "`tips-bench list models`" in str(unknown_name("model", "zzzz", [f"m{i}" for i in range(50)]))


def test_a_long_list_of_something_that_cannot_be_listed_is_given_whole() -> None:
    message = str(unknown_name("key", "zzzz", [f"k{i}" for i in range(20)]))
    assert "tips-bench list" not in message and "k19" in message


def test_no_names_at_all_is_said() -> None:
    assert "Known: none." in str(unknown_name("class", "x", []))


@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=10), max_size=30))
def test_every_suggestion_is_a_known_name_that_difflib_finds_near(name: str, known: list[str]) -> None:
    message = str(unknown_name("model", name, known))
    near = difflib.get_close_matches(name.lower(), sorted({one.lower() for one in known}), n=3, cutoff=0.5)
    assert all(repr(candidate) in message for candidate in known if candidate.lower() in near)


def test_a_name_that_is_known_twice_is_suggested_once() -> None:
    assert str(unknown_name("card", "uned1", ["uned", "uned"])).endswith("Did you mean 'uned'?")


def test_a_hint_comes_last() -> None:
    assert str(unknown_name("model", "ab", ["abc"], hint="Or use a prefix.")).endswith("Did you mean 'abc'? Or use a prefix.")


def test_what_the_system_refuses_is_a_sentence_and_what_may_be_our_mistake_is_not() -> None:
    fault = system_fault(OSError(errno.ENAMETOOLONG, "File name too long", "x" * 4096))
    assert fault is not None and "File name too long" in str(fault) and len(str(fault)) < 500
    assert system_fault(FileNotFoundError(errno.ENOENT, "No such file or directory", "x")) is None


def test_a_very_long_name_is_shortened() -> None:
    assert len(str(unknown_name("task", "x" * 5000, ["ade20k"]))) < 500
