"""The pages a reader follows: every link leads somewhere, every command is one, and no page is too long to find anything in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.helpers.commands import Shown, shown_commands
from tips_bench.catalog import card_files
from tips_bench.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
GENERATED_LISTS = {"models.md", "tasks.md"}  # a section for each card
LONGEST = 300
OF_READERS = {"all", "mine", "my-shapes", "image-brightness", "mlp"}  # names of the examples' own cards
COMMANDS = [shown for page in [*PAGES, *sorted((ROOT / "examples").rglob("*.md"))] for shown in shown_commands(page)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_is_longer_than_a_reader_can_search(page: Path) -> None:
    assert page.name in GENERATED_LISTS or len(page.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("shown", COMMANDS, ids=lambda shown: f"{shown.page.relative_to(ROOT)}:{shown.line}")
def test_a_command_that_a_page_shows_is_one_that_the_command_line_takes(shown: Shown) -> None:
    """Its verb and options exist, values have their types, nothing that is required is missing, and names are those of cards."""
    # the packages that read s3:// are no part of the tests; fsspec itself reads memory://
    verb, words = named_verb(tuple(word.replace("s3://", "memory://") for word in shown.words))
    if {"-h", "--help", "--version"} & {*shown.words} or verb is None:
        return
    given = verb.make_context("tips-bench", words).params
    for option, kind in (("task", "task"), ("model", "model"), ("protocol", "protocol")):
        named = given.get(option) or ""  # of an option that may be given several times, a list
        for name in filter(None, (",".join(named) if isinstance(named, list) else str(named)).split(",")):
            assert is_a_name(kind, name), f"{shown.text}: no {kind} is named {name}"


def named_verb(words: tuple[str, ...]) -> tuple[Any, list[str]]:
    """The verb that words name, None = only the command itself, and what they give it."""
    verb, left = get_command(app), list(words)
    while (commands := vars(verb).get("commands")) is not None:
        while left and left[0].startswith("-"):
            left = left[2 if left[0] == "--plugin" else 1 :]
        if not left:
            return None, []
        assert left[0] in commands, f"there is no {left[0]!r}"
        verb = commands[left.pop(0)]
    return verb, left


def is_a_name(kind: str, name: str) -> bool:
    """Whether a card has it, or it is none of a card: a place that a reader fills in, a path, a name with a prefix, the reader's own."""
    base = name.partition("@")[0].partition("+")[0]
    own = base.isupper() or bool({":", "/", "$", "."} & {*base}) or base in OF_READERS
    return own or base in card_files(kind)


def test_commands_are_found_in_code_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Call tips-bench run here.\n\n    FOO=1 tips-bench run --task a \\\n      --model b  # why\n"
        "    tips-bench list tasks | head; tips-bench doctor\n"
        "\n```bash\ntorchrun --nproc-per-node 2 -m tips_bench train R > log\n```\n"
    )
    words = [shown.words for shown in shown_commands(page)]
    assert words == [("run", "--task", "a", "--model", "b"), ("list", "tasks"), ("doctor",), ("train", "R")]
