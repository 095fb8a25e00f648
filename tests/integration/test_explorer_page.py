"""The explorer's page in a browser: what a person does there, at two widths, light and dark; and the saved page without a server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.chromium import Browser, chromium
from tests.helpers.kept_heads import fitted
from tips_bench.explorer import session as sessions
from tips_bench.explorer import surfaces
from tips_bench.explorer.server import ExplorerServer
from tips_bench.explorer.session import Session
from tips_bench.results.record import Record

IDLE = "turn > 0 && document.querySelector('#status').textContent !== 'Computing…' && !document.querySelector('#error').textContent"
REFUSED = "400 (Bad Request)"  # the browser's own remark where the server says what is wrong
SAID = "document.querySelector('#error').textContent"
# From a click to the picture on the screen, by the browser's own clock.
PAINTED = """window.painted = []; new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (entry.name === "click") painted.push(entry.duration);
}).observe({ type: "event", durationThreshold: 16 })"""


@contextmanager
def explorer(models: list[str], photos: int = 2, heads: Sequence[Record] = ()) -> Iterator[tuple[str, Session]]:
    """The address of a page, and its session with photos of coloured squares."""
    session = Session(models, heads=heads)
    for number in range(photos):
        session.add_image(f"photo {number}", squares(number))
    with served(session) as address:
        yield address, session


@contextmanager
def served(session: Session) -> Iterator[str]:
    """The address of a session's page."""
    with ExplorerServer(session, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def squares(seed: int) -> np.ndarray:
    """224 x 280 pixels."""
    colors_hw3 = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return colors_hw3.repeat(56, 0).repeat(56, 1)


def colors(browser: Browser, canvas: int = 0) -> int:
    """How many colors a photo's canvas shows."""
    script = """(canvas => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height), context = copy.getContext("2d");
        context.drawImage(canvas, 0, 0);
        return new Set(new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size;
    })"""
    return int(browser.run(f"{script}(document.querySelectorAll('.photo canvas')[{canvas}])"))


def saved_page(browser: Browser) -> str:
    """The page that "Save as a page" would hand to the person."""
    browser.run("window.handed = null; download = blob => blob.text().then(text => { window.handed = text; })")
    browser.click("#save-page")
    browser.until("window.handed !== null")
    return str(browser.run("window.handed"))


def test_a_click_shows_what_is_alike_and_a_saved_page_shows_the_same_without_a_server(tmp_path: Path) -> None:
    with chromium(tmp_path) as browser:
        with explorer(["tips-nano"]) as (address, session):
            browser.open(address)
            browser.until(IDLE)
            browser.click("figure .photo", 0.1, 0.1)
            browser.until("performance.getEntriesByName('click to map').length === 1")
            assert browser.run("settings.query.x < 0.11 && settings.mode === 'similarity'")
            assert colors(browser, 1) > 20
            here = browser.run("shown.get('tips-nano 1').values.reduce((sum, value) => sum + value, 0)")
            first_hwD, second_hwD = (session.features(photo, sessions.View("tips-nano", 2, 448)) for photo in (0, 1))
            units = [one_hwD / np.linalg.norm(one_hwD, axis=-1, keepdims=True) for one_hwD in (first_hwD, second_hwD)]
            row, column = (int(0.1 * side) for side in first_hwD.shape[:2])
            assert here == pytest.approx(float((units[1] @ units[0][row, column]).sum()), abs=0.01 * units[1][..., 0].size)
            (tmp_path / "saved.html").write_text(saved_page(browser), encoding="utf-8")
        browser.open((tmp_path / "saved.html").as_uri())
        browser.until(IDLE)
        assert browser.run("shown.get('tips-nano 1').values.reduce((sum, value) => sum + value, 0)") == here
        assert not browser.messages


@pytest.mark.nightly
def test_photos_are_dropped_and_removed_and_what_is_none_is_said(tmp_path: Path) -> None:
    Image.fromarray(squares(5)).save(tmp_path / "mine.png")
    Image.fromarray(squares(6)).save(tmp_path / "web.webp", lossless=True)
    (tmp_path / "text.png").write_text("no image")
    with chromium(tmp_path) as browser, explorer(["tips-nano"], photos=1) as (address, session):
        browser.open(address)
        browser.until(IDLE)
        browser.choose_files("#files", tmp_path / "text.png", tmp_path / "mine.png", tmp_path / "web.webp")
        browser.until(f"document.querySelectorAll('.photo').length === 3 && {SAID}")
        assert browser.run(SAID) == "text.png: not a JPEG or PNG image. Choose another JPEG or PNG file."
        np.testing.assert_array_equal(list(session.photos.values())[-1].image_HW3, squares(6))  # the browser has made a PNG of it
        browser.click("figcaption button")
        browser.until(f"document.querySelectorAll('.photo').length === 2 && {IDLE}")
        assert [photo.name for photo in session.photos.values()] == ["mine.png", "web.webp"]
        browser.click("figcaption button")
        browser.until(f"document.querySelectorAll('.photo').length === 1 && {IDLE}")
        browser.click("input[value=matches]")
        browser.until(SAID)
        assert "two different photos" in browser.run(SAID)
        assert [message for message in browser.messages if REFUSED not in message] == []


@pytest.mark.nightly
def test_every_view_is_drawn_by_two_encoders_at_the_layer_and_resolution_of_the_sliders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(surfaces, "TRAIN", 4)
    monkeypatch.setattr(surfaces, "VAL", 2)
    with chromium(tmp_path) as browser, explorer(["tips-nano", "tips-nano-random"]) as (address, session):
        browser.open(address)
        browser.until(IDLE)
        browser.slide("#side", 224)
        browser.until(f"settings.side === 224 && {IDLE}")
        browser.slide("#layer-1", 0)
        browser.until(f"settings.layers['tips-nano-random'] === 0 && {IDLE}")
        assert {(view.model, view.layer) for _, view in session._kept if view.side == 224} >= {("tips-nano", 2), ("tips-nano-random", 0)}
        assert [browser.run(f"document.querySelector('#layer-{number}-value').textContent") for number in (0, 1)] == ["3 of 3", "1 of 3"]
        drawn = {}
        for mode in ("photo", "colors", "matches", "classes", "depth", "normals"):
            browser.click(f"input[value={mode}]")
            browser.until(f"settings.mode === '{mode}' && {IDLE}")
            drawn[mode] = colors(browser)
            assert ("held out" in browser.run("document.querySelector('.encoder').innerText")) == (mode == "depth")
        browser.click("input[value=classes]")
        browser.type("#names", "wall, zebra")
        browser.type("#template", "a photo of a {}")
        browser.click("#find")
        browser.until(f"document.querySelectorAll('#legend li').length === 2 && {IDLE}")
        browser.slide("#threshold", 100)
        browser.until(f"settings.threshold === 100 && {IDLE}")
        assert colors(browser) == drawn["photo"] != drawn["classes"]  # no place is alike enough
        browser.type("#template", "no place")
        browser.click("#find")
        browser.until(SAID)
        assert "no place for the name" in browser.run(SAID)
        assert [message for message in browser.messages if REFUSED not in message] == []


def drag(browser: Browser, selector: str, first: float, last: float, steps: int) -> None:
    """A real drag along a slider, from one share of its width to another."""
    left, top, width, height = browser.run(
        f"(box => [box.left, box.top, box.width, box.height])(document.querySelector('{selector}').getBoundingClientRect())"
    )
    places = [{"x": left + width * (first + (last - first) * step / steps), "y": top + height / 2} for step in range(steps + 1)]
    browser.send("Input.dispatchMouseEvent", type="mousePressed", **places[0], button="left", clickCount=1)
    for place in places:
        browser.send("Input.dispatchMouseEvent", type="mouseMoved", **place, button="left", buttons=1)
    browser.send("Input.dispatchMouseEvent", type="mouseReleased", **places[-1], button="left", clickCount=1)


@pytest.mark.nightly
def test_a_slider_that_is_dragged_ends_at_its_last_place_with_few_questions(tmp_path: Path) -> None:
    with chromium(tmp_path) as browser, explorer(["tips-nano"]) as (address, session):
        browser.open(address)
        browser.until(IDLE)
        assert browser.run("asked") == 1
        drag(browser, "#side", 0.43, 0.99, 60)
        browser.until(f"settings.side === 896 && {IDLE}")
        grid = browser.run("(({rows, columns}) => [rows, columns])(unpacked.get(answers.get([...answers.keys()].at(-1)))[0])")
        assert grid == list(session.features(0, sessions.View("tips-nano", 2, 896)).shape[:2]) and browser.run("settings.side") == 896
        assert browser.run("asked") < 1 + 8 and browser.run("document.querySelector('#side-value').textContent") == "896"
        before = browser.run("asked")  # 30 places at once: no time passes between them
        browser.run(
            "for (let place = 0; place < 30; place++) { const slider = document.querySelector('#layer-0');"
            " slider.value = place % 2; slider.dispatchEvent(new Event('input', { bubbles: true })); }"
        )
        browser.until(f"settings.layers['tips-nano'] === 1 && {IDLE}")
        assert browser.run("asked") == before + 1
        assert {view.layer for _, view in session._kept} == {1, 2}
        assert not browser.messages


@pytest.mark.nightly
def test_a_question_that_another_one_overtakes_ends_in_the_browser_and_on_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chromium(tmp_path) as browser, explorer(["tips-nano"]) as (address, session):
        browser.open(address)
        browser.until(IDLE)
        encode, began, go, encoded = session._encoded, threading.Event(), threading.Event(), []

        def slow(image_HW3: np.ndarray, view: sessions.View) -> np.ndarray:
            encoded.append(view.side)
            began.set()
            assert go.wait(60)
            return encode(image_HW3, view)

        monkeypatch.setattr(session, "_encoded", slow)
        browser.slide("#side", 504)
        assert began.wait(60)
        for side in (560, 616):
            browser.slide("#side", side)
            browser.until(f"waiting && waiting.key.includes('\"side\":{side}')")
        go.set()
        browser.until(f"settings.side === 616 && !waiting && {IDLE}")
        assert encoded[0] == 504 and encoded[-2:] == [616, 616] and len(encoded) <= 4
        assert colors(browser) > 20 and not browser.messages


@pytest.mark.nightly
def test_heads_of_runs_are_drawn_and_saved(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    heads = [fitted(f"rooms-{kind}", "tips-nano", data, out) for kind in ("seg", "depth", "normals")]
    with chromium(tmp_path) as browser:
        with explorer(["tips-nano", "tips-nano-random"], heads=heads) as (address, _):
            browser.open(address)
            browser.until(IDLE)
            for place, name in enumerate(("rooms-seg", "rooms-depth", "rooms-normals")):
                browser.click(f"input[value=head-{place}]")
                browser.until(f"settings.mode === 'head-{place}' && {IDLE}")
                assert colors(browser) > 5
                notes = browser.run("[...document.querySelectorAll('.note')].map(note => note.textContent)")
                assert notes[0].startswith("Fitted under convex") and notes[1] == "No head of this encoder was given for this task."
                assert browser.run("document.querySelector(`input[name=mode]:checked`).parentElement.textContent") == name
                assert not browser.run("[...document.querySelectorAll('.layer, #resolution')].some(part => part.offsetParent)")
                assert browser.violations() == []
            browser.click("input[value=head-0]")
            browser.until(f"settings.mode === 'head-0' && {IDLE}")
            said = browser.run("[...document.querySelectorAll('#legend li')].map(line => line.textContent.trim())")
            assert said and set(said) <= set(heads[0].dataset.classes)
            (tmp_path / "saved.html").write_text(saved_page(browser), encoding="utf-8")
        browser.open((tmp_path / "saved.html").as_uri())
        browser.until(IDLE)
        assert browser.run("[...document.querySelectorAll('#legend li')].map(line => line.textContent.trim())") == said
        assert browser.run("[...document.querySelectorAll('input[value^=head]')].map(one => one.value)") == ["head-0", "head-1", "head-2"]
        assert not browser.messages


@pytest.mark.nightly
def test_the_chosen_patch_moves_by_keys(tmp_path: Path) -> None:
    with chromium(tmp_path) as browser, explorer(["tips-nano"]) as (address, _):
        browser.open(address)
        browser.until(IDLE)
        browser.click("figure .photo", 0.5, 0.5)
        browser.until("performance.getEntriesByName('click to map').length === 1")
        before = browser.run("settings.query")
        browser.run("document.querySelector('.photo').focus()")
        browser.send("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", windowsVirtualKeyCode=39)
        browser.until("performance.getEntriesByName('click to map').length === 2")
        assert browser.run("settings.query.x") > before["x"] and browser.run("settings.query.y") == before["y"]


@pytest.mark.nightly
def test_how_long_a_click_takes_to_become_a_map_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For docs/explore.md: pytest -m nightly -k click_takes. Random weights change no time; other work on the machine does."""
    session = Session(["tips-b14"], weights=["random"], device="cpu")
    session.add_rooms()
    with chromium(tmp_path) as browser, served(session) as address:
        browser.open(address)
        browser.until(IDLE, 600)
        browser.run("document.querySelectorAll('.photo').forEach((photo, place) => { photo.id = `photo-${place}`; })")
        browser.run(PAINTED)
        rng = np.random.default_rng(0)
        for number in range(1, 31):
            browser.click(f"#photo-{rng.integers(len(session.photos))}", *rng.uniform(0.02, 0.98, 2))
            browser.until(f"performance.getEntriesByName('click to map').length === {number}")
        drawn = browser.run("performance.getEntriesByName('click to map').map(entry => entry.duration)")
        browser.until("painted.length > 0")  # those that took 16 ms or longer, in steps of 8 ms
        painted = browser.run("painted")
        grid = browser.run("[...shown.values()].map(under => under.grid.rows * under.grid.columns * under.grid.dim)")
        assert len(drawn) == 30 and grid == [32 * 32 * 768] * len(session.photos)
    with capsys.disabled():
        print(f"\ntips-b14, 448 px, {len(session.photos)} photos, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        for what, times in (("drawn", drawn), ("painted", painted)):
            least, median, most = np.percentile(times, [0, 50, 95])
            print(f"click to map, {what}: least {least:.0f} ms, median {median:.0f} ms, 95 % below {most:.0f} ms")


@pytest.mark.nightly
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1400])
def test_a_page_fits_its_window_and_is_accessible(tmp_path: Path, width: int, dark: bool) -> None:
    with chromium(tmp_path) as browser, explorer(["tips-nano"]) as (address, _):
        browser.open(address, width=width, dark=dark)
        browser.until(IDLE)
        for mode in ("colors", "matches", "classes"):
            browser.click(f"input[value={mode}]")
            browser.until(f"settings.mode === '{mode}' && {IDLE}")
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.violations() == []
        assert not browser.messages


@pytest.mark.nightly
def test_nothing_is_asked_of_another_machine(tmp_path: Path) -> None:
    with chromium(tmp_path) as browser, explorer(["tips-nano"]) as (address, _):
        browser.open(address)
        browser.until(IDLE)
        browser.click("figure .photo")
        browser.until("performance.getEntriesByName('click to map').length === 1")
        loaded = browser.run("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert loaded and all(name.startswith((address, "data:")) for name in loaded)
        assert browser.run("fetch('https://example.org').then(() => 'asked', () => 'refused')") == "refused"
