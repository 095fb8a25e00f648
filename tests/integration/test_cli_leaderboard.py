"""tips-bench leaderboard: the verbs end to end, and the pages in a browser."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from tests.helpers.browser import look
from tests.helpers.results_sets import write_record
from tips_bench.cards import load_card
from tips_bench.cli.app import app
from tips_bench.results.record import Deviation

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = '<script>document.title="hacked"</script>'
MODELS = {"tips-b14": 0.8, "tips-s14": 0.72, "clip-b16": 0.5, "pixels": 0.3, SCRIPT: 0.4}


def tips_bench(*arguments: object, **options: str) -> Result:
    return CliRunner().invoke(app, ["leaderboard", *map(str, arguments)], **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    for model, quality in MODELS.items():
        for task, protocol in (("rooms-seg", "convex-224"), ("voc2012", "convex"), ("ade20k", "convex")):
            write_record(folder / "results", model, quality, task=task, protocol=protocol, pictures=1)
    done = tips_bench("build", folder / "results", "--to", folder / "site")
    assert done.exit_code == 0, done.output
    assert "15 records" in done.stdout
    return folder / "site"


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of the site, served by the verb itself; it stops at an interrupt."""
    command = [sys.executable, "-m", "tips_bench", "leaderboard", "serve", str(site), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with served(site) as address:
        yield address


def names(html: str, table: str) -> list[str]:
    """The models of a table that are shown, in order."""
    body = re.search(rf'id="{table}">.*?<tbody>(.*?)</tbody>', html, re.DOTALL)
    assert body
    rows = re.findall(r"<tr([^>]*)>(.*?)</tr>", body[1], re.DOTALL)
    found = [re.search(r'<th scope="row"><a[^>]*>(.*?)</a>', row, re.DOTALL) for attributes, row in rows if "hidden" not in attributes]
    return [re.sub(r"<wbr>", "", match[1]) for match in found if match]


def test_only_this_machine_is_served_and_only_a_site(address: str, tmp_path: Path) -> None:
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address) as answer:
        assert b"Frozen vision encoders" in answer.read()
    done = tips_bench("serve", tmp_path)
    assert done.exit_code == 2


@pytest.mark.nightly
def test_a_browser_shows_every_kind_of_page_without_a_message(address: str, site: Path, tmp_path: Path) -> None:
    for folder in ("tables", "tasks", "models", "runs", "samples"):
        page = sorted((site / folder).glob("*.html"))[0]
        assert "<main" in look(f"{address}{folder}/{page.name}", tmp_path)


@pytest.mark.nightly
def test_a_page_that_writes_to_the_console_is_caught(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<script>nothing.here</script>")
    with pytest.raises(AssertionError, match="CONSOLE"):
        look(f"file://{tmp_path / 'page.html'}", tmp_path)


@pytest.mark.nightly
def test_a_script_in_a_name_stays_text(address: str, tmp_path: Path) -> None:
    html = look(address, tmp_path)
    assert "<title>Which encoder?" in html
    assert "&lt;script&gt;document.title=" in html.replace("<wbr>", "")
    assert html.count("<script") == 2


def test_a_table_is_sorted_as_its_address_says(address: str, tmp_path: Path) -> None:
    plain = ["tips-b14", "tips-s14", "clip-b16", SCRIPT.replace("<", "&lt;").replace(">", "&gt;"), "pixels"]
    worst_first = look(f"{address}#table=overall&sort=2&down=1", tmp_path)
    assert names(worst_first, "overall") == plain[::-1]
    assert 'aria-sort="descending"' in worst_first


@pytest.mark.nightly
def test_a_table_is_sorted_by_name_and_filtered_as_its_address_says(address: str, tmp_path: Path) -> None:
    by_name = names(look(f"{address}#table=overall&sort=0", tmp_path), "overall")
    assert by_name[1:] == ["clip-b16", "pixels", "tips-b14", "tips-s14"]
    assert names(look(f"{address}#table=overall&filter=tips%20-s14", tmp_path), "overall") == ["tips-b14"]


def test_two_models_are_compared_image_by_image_as_the_address_says(address: str, site: Path, tmp_path: Path) -> None:
    page = next((site / "samples").glob("voc2012-*.html")).name
    html = look(f"{address}samples/{page}#table=samples&a=tips-s14&b=pixels", tmp_path)
    body = re.search(r'id="samples">.*?<tbody>(.*?)</tbody>', html, re.DOTALL)
    assert body
    rows = [re.findall(r"<td([^>]*)>([^<]*)</td>", row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body[1], re.DOTALL)]
    shown = [[text for attributes, text in row if "hidden" not in attributes] for row in rows]
    assert all(len(texts) == 5 for texts in shown)  # difference, mean, spread and the two
    gains = [float(texts[0].replace("−", "-")) for texts in shown]
    assert gains == sorted(gains, reverse=True) and gains[0] > 0
    assert all(gain == pytest.approx(float(texts[3]) - float(texts[4]), abs=1e-6) for gain, texts in zip(gains, shown, strict=True))


DRIVER = """<!doctype html><body><iframe src="{page}" style="width:{width}px;height:700px;border:0"></iframe><pre id="said"></pre><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument, said = {{}};
  const field = page.querySelector("input[type=search]");
  const heads = [...page.querySelectorAll("th button")];
  const press = (target, key) => target.dispatchEvent(new KeyboardEvent("keydown", {{ key, bubbles: true, cancelable: true }}));
  said.sideways = page.documentElement.scrollWidth > page.documentElement.clientWidth;
  press(page.body, "/");
  said.slash = page.activeElement === field;
  field.value = "clip"; field.dispatchEvent(new Event("input"));
  const shown = () => [...page.querySelectorAll("table.sort tbody tr")].filter((row) => row.offsetHeight > 0).length;
  said.filtered = shown();
  press(field, "Escape");
  said.cleared = shown();
  said.reachable = heads.length > 0 && heads.every((head) => head.tabIndex === 0 && head.textContent.trim() !== "");
  heads[1].focus(); heads[1].click();
  said.sorted = heads[1].closest("th").getAttribute("aria-sort");
  said.focus = page.activeElement === heads[1];
  document.getElementById("said").textContent = JSON.stringify(said);
}};
</script>"""


@pytest.mark.nightly
@pytest.mark.parametrize("width", [360, 1400])
def test_a_person_with_a_keyboard_sorts_and_filters_on_a_phone_and_a_desk(site: Path, tmp_path: Path, width: int) -> None:
    shutil.copytree(site, tmp_path / "www" / "site")
    found = {}
    pages = ["index.html", "tables/segmentation-convex.html", "tasks/voc2012.html"]
    for number, page in enumerate(pages):
        (tmp_path / "www" / f"driver{number}.html").write_text(DRIVER.format(page=f"site/{page}", width=width))
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path / "www")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        port = re.search(r"port (\d+)", server.stdout.readline())
        assert port
        for number, page in enumerate(pages):
            html = look(f"http://127.0.0.1:{port[1]}/driver{number}.html", tmp_path, size="1500,900")
            said = re.search(r'<pre id="said">(.*?)</pre>', html)
            assert said and said[1]
            found[page] = json.loads(said[1])
    finally:
        server.terminate()
        server.communicate(timeout=20)
    for page, said_of in found.items():
        assert said_of["filtered"] < said_of["cleared"], page
        assert said_of["sorted"] in ("ascending", "descending"), page
        assert {key: said_of[key] for key in ("sideways", "slash", "reachable", "focus")} == {
            "sideways": False, "slash": True, "reachable": True, "focus": True,
        }, page  # fmt: skip


def test_pages_of_200_models_and_40_tasks_are_under_a_megabyte() -> None:
    from types import SimpleNamespace

    from tips_bench.leaderboard.front import front
    from tips_bench.leaderboard.html import environment
    from tips_bench.leaderboard.ranking import Board
    from tips_bench.leaderboard.site import Table, _matrix
    from tips_bench.leaderboard.standing import Rank, Standing
    from tips_bench.results.record import MetricValue

    def entry(task: int, model: int) -> SimpleNamespace:
        value = 40 + (model * 7919 + task) % 1000 / 50
        metric = MetricValue(value=value, unit="%", higher_is_better=True, ci95=(value - 1.2, value + 1.1), n=2000)
        name = f"model-with-a-name-{model}"
        cards = {"model": {"parameters": 1_000_000 * (model + 1), "patch_size": 14, "license": "Apache-2.0"}}
        record = SimpleNamespace(model_name=name, primary="mIoU", dataset=SimpleNamespace(n=2000), cards=cards)
        identity = f"{task:06x}{model:06x}"
        return SimpleNamespace(id=identity, label=name, record=record, metric=metric, machine="cpu", encoder_ms=model + 1.0)

    found = [Board(f"task-{t}", "segmentation", "convex", str(t), [entry(t, m) for m in range(200)]) for t in range(40)]  # type: ignore[misc]
    ranks = [
        Rank(f"model-with-a-name-{m}", f"model-with-a-name-{m}", m + 1.0, (m + 0.5, m + 3.0), (m, m + 2), (m + 0.1, m + 4.0))
        for m in range(200)
    ]
    table = Table("segmentation", "convex", Standing(found, ranks), found)
    templates = environment()
    templates.globals |= {
        "site_title": "t",
        "address": "",
        "submit": "",
        "tables": [table],
        "model_href": "models/{}.html".format,
        "task_href": "tasks/{}.html".format,
    }
    templates.globals["run_href"] = lambda entry: f"runs/{entry.id}.html"
    templates.globals["deviations"] = lambda protocol: ()
    rows, scales = _matrix(table), [(30.0, 70.0)] * 40
    page = templates.get_template("table.html.j2").render(root="../", here=table.href, table=table, rows=rows, scales=scales)
    assert page.count("<td") == 200 * 41
    assert len(page.encode()) < 1_000_000
    context = {**front(found, table.standing), "overall": table.standing, "leading": [(table, ranks[:3])], "apart": []}
    context |= {"counts": {}, "images": 1}
    context["entry_of"] = {label: one for board in found for label, one in board.by_label.items()}
    page = templates.get_template("index.html.j2").render(context, root="", here="index.html")
    assert page.count("<td") == 200 * 45
    assert len(page.encode()) < 1_000_000


def test_validate_lists_faults_and_exits_with_1(tmp_path: Path) -> None:
    path = write_record(tmp_path / "sent", "pixels", 0.5)
    data = json.loads(path.read_text())
    data["metrics"]["mIoU"]["value"] = 99.0
    path.write_text(json.dumps(data))
    done = tips_bench("validate", tmp_path / "sent")
    assert done.exit_code == 1
    assert "fault rooms-seg/pixels/convex-224-00000000.json: metrics.mIoU.value = 99.0, the counts give" in done.stdout
    as_json = tips_bench("validate", tmp_path / "sent", "--json")
    assert as_json.exit_code == 1
    assert any("99.0" in fault["problem"] for fault in json.loads(as_json.stdout)["faults"])
    assert tips_bench("validate", tmp_path / "nowhere").exit_code == 2


def test_cards_in_the_working_directory_are_trusted_only_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path / "sent", "pixels", 0.5)
    own = tmp_path / "tips-bench-cards" / "tasks"
    own.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    card = load_card("task", "rooms-seg").model_dump(mode="json")
    (own / "rooms-seg.yaml").write_text(yaml.safe_dump(card | {"primary": "mAcc"}))
    refused = "primary = 'mIoU', the task's is 'mAcc'"
    assert refused not in tips_bench("validate", tmp_path / "sent").stdout
    assert refused in tips_bench("validate", tmp_path / "sent", "--own-cards").stdout


def test_publish_shows_the_change_and_needs_a_yes(site: Path, tmp_path: Path) -> None:
    to = tmp_path / "www"
    asked = tips_bench("publish", site, "--to", to)
    assert asked.exit_code == 2  # nobody is there to be asked
    assert "+ index.html" in asked.stdout
    assert not to.exists()
    assert tips_bench("publish", site, "--to", to, "--yes").exit_code == 0
    again = tips_bench("publish", site, "--to", to)
    assert again.exit_code == 0
    assert "is up to date" in again.stdout
    (to / "index.html").write_text("edited")
    assert tips_bench("publish", site, "--to", to, "--yes").exit_code == 2
    assert (to / "index.html").read_text() == "edited"


@pytest.mark.nightly
def test_a_report_opens_from_the_disk_without_a_message(tmp_path: Path) -> None:
    record = write_record(tmp_path / "results", SCRIPT, 0.5, pictures=1)
    done = tips_bench("report", record, "--to", tmp_path / "report.html")
    assert done.exit_code == 0, done.output
    html = look(f"file://{tmp_path / 'report.html'}", tmp_path)
    assert "data:image/png;base64," in html
    assert "<script" not in html


def test_a_broken_record_is_named_and_left_out(tmp_path: Path) -> None:
    write_record(tmp_path / "r", "good", 0.5)
    write_record(tmp_path / "r", "cut", 0.5).write_text('{"schema": "tips-bench/rec')
    done = tips_bench("build", tmp_path / "r", "--to", tmp_path / "site", "--no-published")
    assert done.exit_code == 0
    assert "1 record, " in done.stdout and "1 fault\n" in done.stdout
    assert "not JSON" in done.stderr


def test_a_first_site_of_trial_runs_says_why_nothing_is_on_a_board(tmp_path: Path) -> None:
    trial = [Deviation(card="run", key="limit", value=8, text="limit = 8 images of each split")]
    write_record(tmp_path / "results", "pixels", 0.5, comparable=False, deviations=trial)
    done = tips_bench("build", tmp_path / "results", "--to", tmp_path / "site")
    assert done.exit_code == 0 and "0 of 1 records are on a board" in done.stderr and "--limit" in done.stderr
    page = (tmp_path / "site" / "index.html").read_text()
    assert "<details open><summary>1 record</summary>" in page and "; limit = 8 images of each split" in page
