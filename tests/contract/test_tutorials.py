"""docs/tutorials: what the nightly test does of each page is what a reader is asked to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.follow_page import BLOCK, Step, follow, main, steps
from tests.helpers.commands import shown_commands

TUTORIALS = sorted((Path(__file__).resolve().parents[2] / "docs" / "tutorials").glob("*.md"))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_command_that_a_page_shows_is_done_or_says_why_not(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    skipped = "".join(block for not_run, _, _, block in BLOCK.findall(text) if not_run).splitlines()
    asked = [*(step.text for step in steps(text) if step.kind == "bash"), *skipped]
    shown = [command for command in shown_commands(page) if command.text.startswith("tips-bench")]
    assert len(shown) == sum(command.startswith("tips-bench") for command in asked)


def test_a_page_is_done_in_its_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Text.\n\n```bash\n# first\necho one \\\n  two > out\n```\n\n```text\nnot this\n```\n\n"
        "<!-- not run: no account -->\n```bash\nfalse\n```\n\n"
        '```yaml title="deep/card.yaml"\na: 1\n```\n\n```python\nprint(open("out").read() + open("deep/card.yaml").read())\n```\n'
    )
    assert [step.kind for step in steps(page.read_text())] == ["bash", "file", "python"]
    assert main(str(page), str(tmp_path / "work")) == 0
    said = capfd.readouterr().out
    assert "one two\na: 1\n" in said.replace("\n\n", "\n") and "1 commands in" in said


def test_a_command_that_fails_ends_the_page_with_its_status(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\ntest -d nowhere || exit 3\ntouch after\n```\n")
    assert main(str(page), str(tmp_path / "work")) == 3
    assert not (tmp_path / "work" / "after").exists()


def test_a_file_of_a_page_appears_where_its_title_says(tmp_path: Path) -> None:
    assert follow(Step("file", "x\n", "a/b.txt"), tmp_path, {}) == 0
    assert (tmp_path / "a" / "b.txt").read_text() == "x\n"
