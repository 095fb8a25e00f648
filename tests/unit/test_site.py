"""The site: what stands on a page, what is bold, what is never mixed, and which files a build may touch."""

from __future__ import annotations

import csv
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from tests.helpers.results_sets import write_record
from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.leaderboard import charts
from tips_bench.leaderboard import ranking as boards
from tips_bench.leaderboard.published import Reported, StatedProtocol
from tips_bench.leaderboard.run_report import write_report
from tips_bench.leaderboard.sample_tables import samples_href
from tips_bench.leaderboard.site import build
from tips_bench.leaderboard.site_files import MANIFEST, file_name, files_of
from tips_bench.leaderboard.standing import standing
from tips_bench.metrics.spec import MetricSpec
from tips_bench.results.comparison import compare
from tips_bench.results.record import Deviation

SCRIPT = '<script>alert("x")</script>'
VOID = {"meta", "link", "br", "input", "img", "wbr"}


class Page(HTMLParser):
    """Links, ids and scripts of a page; an element that is closed in the wrong order is an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, f"{path}: {self.open} stay open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [value for key, value in attrs if key in ("href", "src") and value]
        self.ids += [value for key, value in attrs if key == "id" and value]
        self.handlers += [key for key, _ in attrs if key.startswith("on") or key == "style"]
        if tag == "script":
            self.scripts.append(found)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> within {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


CHANGED = Deviation(card="protocol", key="image.short_side", value=112, card_value=224)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    for number, (model, quality) in enumerate({"tips-b14": 0.8, "tips-s14": 0.79, "pixels": 0.3, SCRIPT: 0.5}.items()):
        write_record(out, model, quality, seed=0, pictures=number == 0, pictured=[2, 7] if number < 2 else [], encoder_s=1.0 + number)
        write_record(out, model, quality, task="voc2012", protocol="convex")
    write_record(out, "clip-b16", 0.6)
    write_record(
        out,
        "tips-b14",
        0.9,
        seed=3,
        comparable=False,
        deviations=[CHANGED],
    )
    return out


PAPER = Reported(
    model="tips-s14", printed="S/14 & co", task="voc2012", metric="mIoU", unit="%", value=80.625,
    protocol=StatedProtocol(text="Linear probe.", like="linear-tips", unstated=["steps"]), paper="TIPS",
    citation="A paper", url="javascript:alert(1)", where="Table <1>", note="",
)  # fmt: skip


@pytest.fixture(scope="module")
def site(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("built") / "site"
    built = build([results], to, reported=[PAPER])
    assert built.records == 10
    assert not built.broken
    return to


def pages(site: Path) -> Iterator[Path]:
    yield from sorted(site.rglob("*.html"))


def test_every_page_is_well_formed_and_every_link_leads_somewhere(site: Path) -> None:
    found = {path: Page(path) for path in pages(site)}
    for path, page in found.items():
        assert len(page.ids) == len(set(page.ids)), path
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("data", "https", "http"):
                continue
            assert not parts.scheme, f"{path}: {link}"
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path}: {link}"
            place = parse_qs(parts.fragment)["table"][0] if "=" in parts.fragment else parts.fragment  # a view of a table, or a place
            assert not place or place in found[target].ids, f"{path}: {link}"


def test_text_from_records_and_papers_stays_text(site: Path) -> None:
    for path in pages(site):
        page = Page(path)
        assert [script.get("src", "").rsplit("/", 1)[-1] for script in page.scripts] == ["theme.js", "table.js"], path
        assert not page.handlers, path
        assert not any(link.startswith("javascript:") for link in page.links), path
    assert SCRIPT in Page(site / "index.html").text
    assert "<script>alert" not in (site / "index.html").read_text()


def test_a_picture_stands_with_its_image_and_score_and_no_other_is_promised(results: Path, site: Path) -> None:
    entries = {entry.label: entry for entry in boards.read([results])[0] if entry.record.task == "rooms-seg"}
    pages = {label: (site / "runs" / f"{entry.id}.html").read_text() for label, entry in entries.items()}
    for model in ("tips-b14", "tips-s14"):
        record, page = entries[model].record, pages[model]
        alone, drawn = record.samples()["mIoU"], re.findall(r'<img src="\.\./(pictures/[^"]*)" alt="what the model makes of ([^"]*)"', page)
        assert [sample for _, sample in drawn] == record.pictured
        for address, sample in drawn:
            assert (site / address).read_bytes() == (record.file.parent / record.picture_of[sample]).read_bytes()
            assert f"<b>{alone[sample]:.2f}</b> %" in page
    assert "<img" not in pages["pixels"] and "<h2>Predictions</h2>" not in pages["pixels"]


def test_every_board_has_a_page_of_its_images_with_all_models(results: Path, site: Path) -> None:
    for board in boards.boards(boards.read([results])[0]):
        page = (site / samples_href(board)).read_text()
        for entry in board.entries:
            alone = entry.record.samples()["mIoU"]
            assert all(f">{value:.2f}<" in page for value in alone)
            assert f'href="../{samples_href(board)}"' in (site / "runs" / f"{entry.id}.html").read_text()
        assert f'href="../{samples_href(board)}"' in (site / "tasks" / f"{board.task}.html").read_text()


def test_reported_numbers_stand_in_their_own_column_only(site: Path) -> None:
    text = (site / "tasks" / "voc2012.html").read_text()
    cells = re.findall(r'<td class="([^"]*)">(?:(?!</td>).)*80\.6', text, re.DOTALL)
    assert cells and set(cells) <= {"n papers", "n"}
    assert re.search(r'<td class="n papers"><span class="paper"[^>]*>80\.62</span><small title="under another protocol', text)
    assert "80.62" not in (site / "index.html").read_text()
    assert not any("80.625" in line for line in (site / "data" / "results.csv").read_text().splitlines())
    assert "80.625" in (site / "data" / "published.csv").read_text()


def test_what_deviates_stands_on_no_board_and_says_why(site: Path) -> None:
    board, apart = (site / "tasks" / "rooms-seg.html").read_text().split("<h2>On no board</h2>")
    assert "short_side = 112" in apart
    assert "short_side = 112" not in board.split("The protocol in full")[0]
    front = (site / "index.html").read_text().split("<h2>On no board</h2>")[1]
    assert re.search(r"rooms-seg, convex-224: mIoU \d+\.\d\d %; [^<]*short_side = 112", front)


def test_the_same_records_give_the_same_bytes_wherever_they_lie(results: Path, site: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(results, tmp_path / "elsewhere" / "moved")
    build([tmp_path / "elsewhere"], tmp_path / "site", reported=[PAPER])
    assert files_of(site) == files_of(tmp_path / "site")
    for name in [*files_of(site), MANIFEST]:
        assert (site / name).read_bytes() == (tmp_path / "site" / name).read_bytes(), name


def test_csv_and_json_hold_every_number_at_full_precision(results: Path, site: Path) -> None:
    with (site / "data" / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    said = {(row["task"], row["model"], row["created"], row["metric"]): row for row in rows if not row["deviations"]}
    for path in results.rglob("*.json"):
        record = json.loads(path.read_text())
        if record["deviations"]:
            continue
        for name, metric in record["metrics"].items():
            row = said[record["task"], record["model"], record["created"], name]
            assert float(row["value"]) == metric["value"]
            assert [float(row["low"]), float(row["high"])] == metric["ci95"]
    data = json.loads((site / "data" / "results.json").read_text())
    assert len(data["records"]) == 10
    one = data["records"][0]
    whole = json.loads((site / "data" / "records" / f"{one['id']}.json").read_text())
    assert whole["metrics"] == one["metrics"]


def test_a_formula_in_a_name_is_no_formula_in_the_csv(tmp_path: Path) -> None:
    write_record(tmp_path / "r", "=1+1", 0.5)
    build([tmp_path / "r"], tmp_path / "site")
    assert "'=1+1" in (tmp_path / "site" / "data" / "results.csv").read_text()


def test_bold_is_the_best_that_the_paired_test_tells_from_all_others(tmp_path: Path) -> None:
    for model, quality in {"best": 0.9, "second": 0.6, "third": 0.58}.items():
        write_record(tmp_path / "clear", model, quality)
    for model, quality in {"one": 0.60, "two": 0.601, "far": 0.2}.items():
        write_record(tmp_path / "close", model, quality)
    (clear,), (close,) = (boards.boards(boards.read([tmp_path / name])[0]) for name in ("clear", "close"))
    assert clear.sure and not clear.tied and clear.entries[0].label == "best"
    for other in clear.entries[1:]:
        assert compare(other.path, clear.entries[0].path).verdict == "B is better"
    assert not close.sure
    tied = {entry.label for entry in close.entries if entry.id in close.tied}
    assert tied == {close.entries[1].label} and "far" not in tied
    assert compare(close.entries[1].path, close.entries[0].path).verdict == "cannot tell"
    build([tmp_path / "close"], tmp_path / "site")
    assert 'class="score best"' not in (tmp_path / "site" / "tasks" / "rooms-seg.html").read_text()


def test_a_mean_rank_is_the_mean_of_the_ranks_and_its_interval_holds_it(results: Path) -> None:
    found = boards.boards(boards.read([results])[0])
    overall = standing(found)
    labels = [rank.label for rank in overall.ranks]
    assert sorted(labels) == sorted(["tips-b14", "tips-s14", "pixels", SCRIPT])
    ranks = [rankdata([-board.by_label[label].metric.value for label in labels]) for board in found]
    assert [rank.value for rank in overall.ranks] == pytest.approx(np.mean(ranks, axis=0), abs=1e-3)
    for rank in overall.ranks:
        assert 1 <= rank.interval[0] <= rank.interval[1] <= len(labels)
    assert overall.ranks[-1].interval == (4.0, 4.0)
    assert overall.unplaced == {"clip-b16": "it meets others on 1 task; a place needs 2 tasks"}


def test_a_lower_value_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    from tips_bench.results.record import MetricValue, load_record

    for model, quality in {"high": 0.9, "low": 0.3}.items():
        path = write_record(tmp_path, model, quality)
        record = load_record(path)
        metrics = {name: MetricValue(**(metric.model_dump() | {"higher_is_better": False})) for name, metric in record.metrics.items()}
        record.model_copy(update={"metrics": metrics}).save(path)
    (board,) = boards.boards(boards.read([tmp_path])[0])
    assert [entry.label for entry in board.entries] == ["low", "high"]
    assert board.sure


def test_records_of_other_data_or_samples_are_on_other_boards(tmp_path: Path) -> None:
    write_record(tmp_path, "a", 0.5)
    write_record(tmp_path, "b", 0.5, number=20)
    write_record(tmp_path, "c", 0.5, protocol_hash="1" * 64)
    assert len(boards.boards(boards.read([tmp_path])[0])) == 3


def test_two_runs_of_one_model_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    write_record(tmp_path, "a", 0.5, seed=0)
    write_record(tmp_path, "a", 0.5, seed=1)
    write_record(tmp_path, "b", 0.5)
    assert [entry.label for entry in boards.read([tmp_path])[0]] == ["a (seed 0)", "a (seed 1)", "b"]


def test_a_record_that_its_counts_do_not_give_is_left_out_and_named(tmp_path: Path) -> None:
    write_record(tmp_path / "r", "good", 0.5)
    path = write_record(tmp_path / "r", "forged", 0.5)
    data = json.loads(path.read_text())
    data["metrics"]["mIoU"]["value"] += 1
    path.write_text(json.dumps(data))
    built = build([tmp_path / "r"], tmp_path / "site")
    assert built.records == 1
    assert [str(error).startswith(str(path)) for error in built.broken] == [True]
    assert "forged" not in (tmp_path / "site" / "index.html").read_text()


def test_a_build_never_replaces_what_it_did_not_write(results: Path, tmp_path: Path) -> None:
    to = tmp_path / "site"
    to.mkdir()
    (to / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"did not write: 'thesis\.txt'"):
        build([results], to)
    (to / "thesis.txt").unlink()
    build([results], to)
    build([results], to)  # its own it may replace
    (to / "index.html").write_text("edited by hand")
    with pytest.raises(UserError, match=r"index\.html"):
        build([results], to)
    assert (to / "index.html").read_text() == "edited by hand"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_build_that_fails_leaves_the_earlier_site(results: Path, tmp_path: Path) -> None:
    build([results], tmp_path / "site")
    before = (tmp_path / "site" / MANIFEST).read_bytes()
    with pytest.raises(UserError, match="No such file or directory"):
        build([tmp_path / "nowhere"], tmp_path / "site")
    with pytest.raises(UserError, match="no records there"):
        (tmp_path / "empty").mkdir()
        build([tmp_path / "empty"], tmp_path / "site")
    assert (tmp_path / "site" / MANIFEST).read_bytes() == before


@given(st.text(max_size=120))
def test_a_file_name_is_one_that_every_file_system_takes(name: str) -> None:
    made = file_name(name)
    assert re.fullmatch(r"[a-z0-9][a-z0-9_+.-]{0,79}", made)
    assert made == name or made.endswith(f".{digest(name)[:8]}")
    assert made != file_name(name + "x")


def test_names_that_differ_in_case_or_are_devices_are_told_apart() -> None:
    assert len({file_name(name).lower() for name in ("a", "A", "con", "CON", "a/b", "a-b", "..", "")}) == 8
    assert file_name("con") != "con"


def test_the_report_of_a_run_is_one_file_that_needs_nothing_beside_it(results: Path, tmp_path: Path) -> None:
    path = next((results / "rooms-seg" / "tips-b14").glob("convex-224-00000000.json"))
    write_report(path, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert not page.scripts
    assert all(link.startswith(("data:", "#", "https://", "http://")) for link in page.links)
    assert any(link.startswith("data:image/png;base64,iVBOR") for link in page.links)
    record = json.loads(path.read_text())
    assert f"{record['metrics']['mIoU']['value']:.2f}" in page.text
    assert "tips-bench run --task rooms-seg --model tips-b14 --protocol convex-224 --dtype fp32" in page.text
    for label in record["dataset"]["classes"]:
        assert label in page.text


def test_a_report_of_counts_that_give_another_number_is_refused(tmp_path: Path) -> None:
    path = write_record(tmp_path, "forged", 0.5)
    data = json.loads(path.read_text())
    data["metrics"]["aAcc"]["value"] = 99.0
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"aAcc = 99\.0"):
        write_report(path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


scores = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(st.text(max_size=30), st.floats(1e-3, 1e6), scores), max_size=12), st.booleans())
def test_a_scatter_is_xml_and_its_front_is_beaten_by_no_point(points: list[tuple[str, float, float]], higher: bool) -> None:
    clean = [charts.Point("".join(filter(str.isprintable, label)), x, y, None, "#", "d") for label, x, y in points]
    drawn = charts.scatter(clean, "ms", "%", MetricSpec("%", higher))
    if drawn:
        ET.fromstring(str(drawn))
    for one in charts.pareto(clean, MetricSpec("%", higher)):
        better = [p for p in clean if p.x <= one.x and (p.y > one.y if higher else p.y < one.y)]
        assert not better


@pytest.mark.slow
@given(scores, st.floats(1e-6, 1e6))
def test_ticks_lie_within_their_axis(low: float, width: float) -> None:
    if low + width > low:
        found = charts.ticks(low, low + width)
        assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in found) or math.isclose(width, 0)


@pytest.mark.slow
def test_ten_tasks_of_sixty_models_are_built_in_seconds(tmp_path: Path) -> None:
    import time

    source = write_record(tmp_path / "one", "m", 0.5, number=12)
    text, counts = source.read_text(), (source.parent / json.loads(source.read_text())["per_sample"]).read_bytes()
    for task in range(10):
        for model in range(60):
            folder = tmp_path / "r" / f"t{task}" / f"m{model}"
            folder.mkdir(parents=True)
            (folder / source.name).write_text(
                text.replace('"rooms-seg"', f'"t{task}"', 1).replace('"model": "m"', f'"model": "m{model}"', 1)
            )
            (folder / source.name.replace(".json", ".samples.npz")).write_bytes(counts)
    start = time.perf_counter()
    built = build([tmp_path / "r"], tmp_path / "site")
    assert built.records == 600
    assert time.perf_counter() - start < 60  # 2 s on an idle core


def test_a_protocol_with_a_source_says_what_it_does_differently_and_others_say_nothing(tmp_path: Path) -> None:
    write_record(tmp_path / "a", "tips-b14", 0.8, task="voc2012", protocol="linear-tips")
    write_record(tmp_path / "b", "tips-b14", 0.8, task="voc2012", protocol="convex")
    differs = {"source_does": "<b>", "where": "a.py:1", "we_do": "b", "why": "c", "effect": "Small.", "tasks": ["voc2012"]}
    build([tmp_path / "a", tmp_path / "b"], tmp_path / "site", deviations={"linear-tips": [differs], "convex": []})
    pages = {path.name: path.read_text() for path in (tmp_path / "site" / "tables").glob("*.html")}
    assert [name for name, text in pages.items() if "Differences from the source: 1" in text] == ["segmentation-linear-tips.html"]
    assert "Only on voc2012." in pages["segmentation-linear-tips.html"] and "&lt;b&gt;" in pages["segmentation-linear-tips.html"]
    assert (tmp_path / "site" / "tasks" / "voc2012.html").read_text().count("Differences from the source") == 1
