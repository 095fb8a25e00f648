"""The documentation as a website: each page has its place, and links into the repository lead to it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.docs_site import API, PAGES, on_page_content, python_names, relinked

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://host/owner/name"


def test_the_navigation_names_every_page_once() -> None:
    named = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    docs = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(named) == sorted({page for page in docs if not page.startswith("protocols/")} | {*PAGES.values(), API})


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("README.md", "docs/ci.md#github", "ci.md#github"),
        ("README.md", "docs/images/late.png", "images/late.png"),
        ("README.md", "CONTRIBUTING.md", "contributing.md"),
        ("docs/ci.md", "../README.md", "index.md"),
        ("docs/ci.md", "index.md#commands", "commands.md#commands"),
        ("docs/ci.md", "../action.yml", f"{REPOSITORY}/blob/main/action.yml"),
        ("docs/protocols/convex.md", "../protocols.md", "../protocols.md"),
        ("docs/new-task.md", "../examples/plugin/", f"{REPOSITORY}/tree/main/examples/plugin"),
        ("docs/ci.md", "https://arxiv.org/abs/2410.16512", "https://arxiv.org/abs/2410.16512"),
        ("docs/ci.md", "#files", "#files"),
    ],
)
def test_a_link_leads_where_it_leads_in_the_repository(source: str, link: str, expected: str) -> None:
    assert relinked(f"see [this]({link}).", source, REPOSITORY) == f"see [this]({expected})."


def test_the_empty_corner_of_a_table_is_no_header() -> None:
    row = '<tr><th></th><th style="text-align: right;"></th><th>mIoU</th></tr>'
    assert on_page_content(row, page=None) == '<tr><td></td><td style="text-align: right;"></td><th>mIoU</th></tr>'


def test_the_page_of_the_python_names_has_all_of_them() -> None:
    import tips_bench

    assert re.findall(r"^::: tips_bench\.(\w+)$", python_names(), re.MULTILINE) == sorted(
        [name for name in tips_bench.__all__ if name != "__version__"], key=str.lower
    )


@pytest.mark.nightly
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    if not shutil.which("mkdocs", path=str(Path(sys.executable).parent)):
        pytest.skip("the packages of the extra `docs` are not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tips_bench.load_records" in (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
