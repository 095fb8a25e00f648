"""What a reader chooses on a page of the site, in a browser: colors that are kept, and bounds on scores and sizes in the address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.helpers.chromium import Browser, chromium
from tests.helpers.results_sets import write_record
from tips_bench.leaderboard.site import build

LIGHT, DARK = "rgb(251, 251, 249)", "rgb(20, 23, 26)"
COLOR = "getComputedStyle(document.body).backgroundColor"
SHOWN = "[...document.querySelectorAll('#overall tbody tr')].filter(row => !row.hidden).map(row => row.querySelector('th a').textContent)"


class Quiet(SimpleHTTPRequestHandler):
    """Without a line on standard error for each file."""

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    for model, quality in {"tips-g14": 0.9, "tips-b14": 0.7, "tips-s14": 0.5}.items():
        for task in ("voc2012", "ade20k"):
            write_record(folder / "results", model, quality, task=task, protocol="convex")
    build([folder / "results"], folder / "site")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder / "site"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as found:
        yield found


def choose(tab: Browser, selector: str, value: str) -> None:
    events = "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true}))"
    tab.run(f"(field => {{ field.value = '{value}'; {events}; }})(document.querySelector('{selector}'))")


def test_the_colors_are_the_devices_until_the_reader_chooses_and_the_choice_is_kept(address: str, tab: Browser) -> None:
    for dark, color in ((False, LIGHT), (True, DARK)):
        tab.open(f"{address}/index.html", dark=dark)
        assert tab.run(COLOR) == color
    choose(tab, ".theme select", "light")
    assert tab.run(COLOR) == LIGHT
    tab.open(f"{address}/compare.html", dark=True)
    assert tab.run(COLOR) == LIGHT and tab.run("document.querySelector('.theme select').value") == "light"
    choose(tab, ".theme select", "dark")
    tab.open(f"{address}/contents.html", dark=False)
    assert tab.run(COLOR) == DARK and tab.run("getComputedStyle(document.documentElement).colorScheme") == "dark"
    assert not tab.violations()
    choose(tab, ".theme select", "auto")
    assert tab.run(COLOR) == LIGHT
    assert not tab.messages


def test_the_choice_holds_before_the_page_is_drawn(address: str, tab: Browser) -> None:
    """The root carries it as soon as there is a body, so nothing is painted in other colors first."""
    seen = "new MutationObserver(() => { if (document.body && !window.first) window.first = document.documentElement.dataset.theme; })"
    script = f"{seen}.observe(document, {{childList: true, subtree: true}})"
    tab.open(f"{address}/index.html")
    choose(tab, ".theme select", "dark")
    found = tab.send("Page.addScriptToEvaluateOnNewDocument", source=script)
    tab.open(f"{address}/compare.html", dark=False)
    assert tab.run("window.first") == "dark"
    tab.send("Page.removeScriptToEvaluateOnNewDocument", identifier=found["identifier"])
    choose(tab, ".theme select", "auto")


def test_without_scripts_the_colors_are_the_devices_and_no_field_is_shown(address: str, tab: Browser) -> None:
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        for dark, color in ((False, LIGHT), (True, DARK)):
            tab.open(f"{address}/index.html", dark=dark)
            assert tab.run(COLOR) == color
        assert tab.run("[...document.querySelectorAll('input, select')].every(field => field.offsetHeight === 0)")
        assert len(tab.run(SHOWN)) == 3
    finally:
        tab.send("Emulation.setScriptExecutionDisabled", value=False)


def test_bounds_on_score_and_parameters_are_kept_in_the_address(address: str, tab: Browser) -> None:
    tab.open(f"{address}/index.html")
    assert tab.run(SHOWN) == ["tips-g14", "tips-b14", "tips-s14"]
    scores = tab.run("[...document.querySelectorAll('#overall tbody tr')].map(row => Number(row.cells[5].querySelector('a').textContent))")
    choose(tab, "[name=on]", "voc2012 convex")
    choose(tab, "[name=score]", str(scores[1]))
    assert tab.run(SHOWN) == ["tips-g14", "tips-b14"]
    choose(tab, "[name=parameters]", "100")
    assert tab.run(SHOWN) == ["tips-b14"], "tips-g14 has 1,135 million"
    view = tab.run("location.hash")
    assert view == f"#table=overall&on=voc2012+convex&score={scores[1]}&parameters=100"
    tab.open(f"{address}/compare.html")
    tab.open(f"{address}/index.html{view}")
    assert tab.run(SHOWN) == ["tips-b14"] and tab.run("document.querySelector('output').textContent") == "1 of 3"
    choose(tab, "[name=score]", "")
    choose(tab, "[name=parameters]", "")
    assert len(tab.run(SHOWN)) == 3 and tab.run("location.hash") == "#table=overall"
    assert not tab.messages


def test_places_are_sorted_by_the_place_and_not_by_its_interval(address: str, tab: Browser) -> None:
    tab.open(f"{address}/compare.html")
    tab.open(f"{address}/index.html#table=overall&sort=1&down=1")
    assert tab.run("[...document.querySelectorAll('#overall tbody tr')].map(row => row.cells[1].firstChild.textContent)") == ["3", "2", "1"]
