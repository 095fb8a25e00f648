"""The documentation as a website, in a browser: a page is found by its search, and has no barriers on a phone and a desk, light and dark.

It needs the packages of the extra `docs`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.chromium import Browser, chromium

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "front": "",
    "tutorial": "tutorials/your-encoder/",
    "python": "api/",
    "table": "which-protocol/",
    "code": "training/",
    "cards": "tasks/",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site, built and served on this machine."""
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    site = tmp_path_factory.mktemp("docs") / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", site]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", site],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    port = re.search(r"port (\d+)", server.stdout.readline())
    assert port
    yield f"http://127.0.0.1:{port[1]}/"
    server.terminate()
    server.communicate(timeout=20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_a_page_has_no_barrier_fits_its_window_and_says_nothing_on_the_console(
    address: str, browser: Browser, page: str, dark: bool, width: int
) -> None:
    browser.messages.clear()
    browser.open(address + PAGES[page], width=width, height=900, dark=dark)
    assert browser.run("document.body.dataset.mdColorScheme") == ("slate" if dark else "default")
    assert browser.run("document.documentElement.scrollWidth") <= width
    loaded = browser.run("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith((address, "data:"))] == []
    assert browser.violations() == []
    assert browser.messages == []


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("width", [360, 1400])
def test_the_search_finds_a_page_by_a_word_of_it_and_leads_there(address: str, browser: Browser, width: int) -> None:
    browser.messages.clear()
    browser.open(address, width=width, height=900)
    browser.run("document.querySelector('#__search').click()")
    browser.type(".md-search__input", "fingerprint")
    browser.until("document.querySelectorAll('.md-search-result__link').length > 0", 30)
    browser.run("document.querySelector('.md-search-result__link').click()")
    browser.until("location.pathname !== '/' && document.readyState === 'complete'", 30)
    assert "fingerprint" in browser.run("document.querySelector('article').innerText").lower()
    assert browser.messages == []
