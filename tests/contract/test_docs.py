"""The pages a reader follows: every link between them leads somewhere, and no page is too long to find anything in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
GENERATED_LISTS = {"models.md", "tasks.md"}  # a section for each card
LONGEST = 300


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


def test_the_first_pages_of_a_beginner_name_only_commands_that_exist() -> None:
    from typer.main import get_command

    from tips_bench.cli.app import app

    commands: dict[str, object] = vars(get_command(app))["commands"]
    for page in (ROOT / "README.md", ROOT / "docs" / "index.md", ROOT / "docs" / "new-encoder.md", ROOT / "docs" / "new-task.md"):
        named = set(re.findall(r"^ {4}tips-bench ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert named and named <= set(commands), page.name
