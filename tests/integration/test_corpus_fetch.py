"""`corpus fetch`: the same shards from every kind of source, stopped or not, and on every executor."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.helpers.corpora import corpus, fetched, files_of, image_folder, samples_of
from tests.helpers.shards import picture, sample, write_shard
from tips_bench.cli.app import app
from tips_bench.corpus import fetch as fetching
from tips_bench.corpus import pieces
from tips_bench.corpus.filters import Limits
from tips_bench.corpus.sources import links
from tips_bench.corpus.sources.named import Asked, open_source
from tips_bench.corpus.store import Sample, Shard

ROOT = Path(__file__).resolve().parents[2]


def dropped(to: Path) -> dict[str, str]:
    lines = (to / "dropped.jsonl").read_text().splitlines()
    return {one["name"]: one["reason"] for one in map(json.loads, lines)}


def test_images_in_folders_become_shards_with_captions_and_facts(tmp_path: Path) -> None:
    raw = image_folder(tmp_path / "raw", 12)
    (raw / "a" / "001.json").write_text(json.dumps({"web": "said here", "license": "CC-BY-4.0"}))
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A maker", 6
    buffer = io.BytesIO()
    Image.new("RGB", (64, 32)).save(buffer, "JPEG", exif=exif)
    (raw / "turned.jpg").write_bytes(buffer.getvalue())
    (raw / "torn.jpg").write_bytes(buffer.getvalue()[:200])
    (raw / "b" / "000.json").write_text("{")
    out = fetched(raw, tmp_path / "out", "--samples-per-shard", 5, "--license", "CC0-1.0")
    found = samples_of(out)
    assert [path.name for path in sorted(out.glob("*.tar"))] == ["00000.tar", "00001.tar", "00002.tar"]
    assert len(found) == 12 and len({one.key for one in found}) == 12
    first = found[0]
    assert first.said["web"] == "said here" and first.said["license"] == "CC-BY-4.0" and found[1].said["license"] == "CC0-1.0"
    assert (first.said["width"], first.said["height"], first.extension) == (49, 40, "jpg") and first.image == picture(1, "jpeg", (49, 40))
    turned = found[-1]
    assert (turned.said["width"], turned.said["height"]) == (32, 64) and turned.said["exif"] == {"Make": "A maker", "Orientation": 6}
    assert dropped(out) == {"b/000.png": "broken captions", "torn.jpg": "broken image"}
    manifest = json.loads((out / "corpus.json").read_text())
    assert manifest["steps"][0]["dropped"] == {"broken captions": 1, "broken image": 1}
    assert manifest["steps"][0]["licenses"] == {"CC-BY-4.0": 1, "CC0-1.0": 11}
    assert not (out / ".fetch").exists() and "| CC0-1.0 | 11 |" in (out / "README.md").read_text()


def test_a_corpus_that_is_whole_is_left_as_it_is_and_another_one_refused(tmp_path: Path) -> None:
    raw = image_folder(tmp_path / "raw", 4)
    out = fetched(raw, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    fetched(raw, out)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    again = corpus("fetch", raw, "--to", out, "--least-side", 41)
    assert again.exit_code == 2 and "made in another way" in again.stderr


LIMITS = """
def dark(samples):
    return [None if int(one.said["web"].split()[3]) % 3 else "too dark" for one in samples]
def wrong(samples):
    return [True]
def broken(samples):
    raise KeyError("light")
"""


def test_limits_leave_out_samples_and_say_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_limits.py").write_text(LIMITS)
    monkeypatch.chdir(tmp_path)
    raw = image_folder(tmp_path / "raw", 12)
    out = fetched(raw, tmp_path / "out", "--most-aspect", 1.28, "--shortest-text", 21, "--classifier", "my_limits:dark")
    kept = [one.said["web"] for one in samples_of(out)]
    assert kept == ["a room with 10 things"]
    assert json.loads((out / "corpus.json").read_text())["steps"][0]["dropped"] == {"text too short": 10, "image too long": 1}
    small = corpus("fetch", raw, "--to", tmp_path / "small", "--least-side", 41)
    assert small.exit_code == 2 and "not one sample stays: 12 image too small" in small.stderr
    assert "4 left out: too dark" in corpus("fetch", raw, "--to", tmp_path / "dark", "--classifier", "my_limits:dark").stdout
    for name, said in (("wrong", "something else than was asked for"), ("broken", "the classifier failed: KeyError")):
        done = corpus("fetch", raw, "--to", tmp_path / name, "--classifier", f"my_limits:{name}")
        assert done.exit_code == 2 and said in done.stderr
    assert corpus("fetch", raw, "--to", tmp_path / "no", "--classifier", "my_limits:absent").exit_code == 2


def test_a_changed_classifier_is_another_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_classes.py").write_text("def all_stay(samples):\n    return [None] * len(samples)\n")
    monkeypatch.chdir(tmp_path)
    asked = (image_folder(tmp_path / "raw", 2), "--to", tmp_path / "out", "--classifier", "my_classes:all_stay")
    assert [corpus("fetch", *asked).exit_code for _ in range(2)] == [0, 0]
    with (tmp_path / "my_classes.py").open("a") as file:
        file.write("# changed\n")
    again = corpus("fetch", *asked)
    assert again.exit_code == 2 and "made in another way" in again.stderr


def test_languages_are_told_where_the_package_is_installed(tmp_path: Path) -> None:
    raw = image_folder(tmp_path / "raw", 3)
    (raw / "a" / "001.txt").write_text("Ein roter Sessel steht neben dem Fenster und dem kleinen Tisch.")
    out = fetched(raw, tmp_path / "out", "--languages", "de")
    assert [one.said["web"][:3] for one in samples_of(out)] == ["Ein"]


def test_shards_that_are_there_are_read_as_they_are_and_cut_anew(tmp_path: Path) -> None:
    (old := tmp_path / "old").mkdir()
    img2dataset = {"url": "http://a/b.jpg", "caption": "a room", "status": "success", "key": "000000001", "error_message": None}
    write_shard(old / "00000.tar", [sample(0), sample(1, json=json.dumps(img2dataset).encode(), txt=b"a room")])
    write_shard(old / "00001.tar", [sample(2), sample(3, jpg=None), sample(4)])
    (old / "00000.parquet").touch()
    out = fetched(old, tmp_path / "out", "--samples-per-shard", 3)
    assert [one.said["web"] for one in samples_of(out)] == ["web 0", "a room", "web 2", "web 4"]
    assert samples_of(out)[1].said["url"] == "http://a/b.jpg" and "status" not in samples_of(out)[1].said
    assert dropped(out) == {"00001.tar: 000003": "no image"}
    by_pattern = fetched(f"{old}/{{00000..00001}}.tar", tmp_path / "pattern", "--samples-per-shard", 3)
    assert files_of(by_pattern)["00001.tar"] == files_of(out)["00001.tar"]
    again = fetched(out, tmp_path / "again", "--least-side", 2)
    steps = json.loads((again / "corpus.json").read_text())["steps"]
    assert [step["samples"] for step in steps] == [4, 4], "what was done before is kept"


def hub_rows(count: int) -> list[dict[str, Any]]:
    return [
        {"image": {"bytes": picture(number), "path": f"{number}.jpg"}, "text": f"web {number}", "aesthetic": 5.5} for number in range(count)
    ]


def test_tables_with_images_are_read_in_any_place(tmp_path: Path) -> None:
    import fsspec
    import pyarrow
    from pyarrow import parquet

    memory = fsspec.filesystem("memory")
    for number, rows in enumerate((hub_rows(7), [*hub_rows(4), {"image": None, "text": "nothing", "aesthetic": 1.0}])):
        with memory.open(f"/hub/data/train-{number}.parquet", "wb") as file:
            parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=3)
    out = fetched("memory://hub", tmp_path / "out", "--samples-per-shard", 5)
    assert [one.said["web"] for one in samples_of(out)] == [f"web {number}" for number in (*range(7), *range(4))]
    assert samples_of(out)[6].image == picture(6) and samples_of(out)[6].said["aesthetic"] == 5.5
    assert list(dropped(out).values()) == ["no image"]
    named = corpus("fetch", "memory://hub", "--to", tmp_path / "no", "--caption-column", "title")
    assert named.exit_code == 2 and "there is no column 'title'" in named.stderr


def test_a_saved_data_set_is_read_by_split(tmp_path: Path) -> None:
    import datasets

    rows = {"image": [row["image"] for row in hub_rows(5)], "caption": [f"web {number}" for number in range(5)]}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features=features)}).save_to_disk(str(tmp_path / "saved"))
    none = corpus("fetch", tmp_path / "saved", "--to", tmp_path / "no")
    assert none.exit_code == 2 and "Choose one with --split: train" in none.stderr
    out = fetched(tmp_path / "saved", tmp_path / "out", "--split", "train", "--samples-per-shard", 2)
    assert [(one.said["web"], one.image) for one in samples_of(out)] == [(f"web {number}", picture(number)) for number in range(5)]


class _Photos(BaseHTTPRequestHandler):
    """/N.jpg is a picture; 3 fails once, 4 is missing, 5 is no image, 6 forbids its use."""

    failed: set[str] = set()
    seen: list[tuple[str, str]] = []  # path and user agent

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["User-Agent"]))
        number = int(self.path.strip("/").partition(".jpg")[0])
        if number == 3 and self.path not in self.failed:
            self.failed.add(self.path)
            self.send_error(500)
        elif number == 4:
            self.send_error(404)
        else:
            self.send_response(200)
            if number == 6:
                self.send_header("X-Robots-Tag", "noai")
            self.end_headers()
            self.wfile.write(b"<html>" if number == 5 else picture(number))

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def photos() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Photos)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


needs_img2dataset = pytest.mark.skipif(
    not Path(sys.executable).with_name(links.PROGRAM).is_file() and not links.shutil.which(links.PROGRAM),
    reason="needs the program img2dataset: pipx install img2dataset",
)


@pytest.mark.nightly
@needs_img2dataset
def test_links_are_fetched_by_img2dataset_in_their_order(tmp_path: Path) -> None:
    with photos() as address:
        rows = [f'"{address}/{number}.jpg?fill=1,2&q=""%2C""","a room, {number}",0.{number}\n' for number in range(12)]
        (tmp_path / "links.csv").write_text("URL,TEXT,similarity\n" + "".join(rows) + "file:///etc/hostname,no,0\n")
        out = fetched(tmp_path / "links.csv", tmp_path / "out", "--samples-per-shard", 8)
        again = fetched(tmp_path / "links.csv", tmp_path / "again" / "out", "--samples-per-shard", 8)
    found = samples_of(out)
    assert [one.said["web"] for one in found] == [f"a room, {number}" for number in (0, 1, 2, 3, 7, 8, 9, 10, 11)]
    assert [one.image for one in found] == [picture(number) for number in (0, 1, 2, 3, 7, 8, 9, 10, 11)]
    assert found[1].said["url"] == f'{address}/1.jpg?fill=1,2&q="%2C"' and found[1].said["similarity"] == "0.1"
    reasons = {name.rpartition("/")[2].partition("?")[0]: reason for name, reason in dropped(out).items()}
    assert reasons == {"4.jpg": "not fetched", "5.jpg": "broken image", "6.jpg": "not fetched", "hostname": "no http or https address"}
    assert files_of(out) == files_of(again)


@pytest.mark.nightly
@needs_img2dataset
def test_a_machine_without_a_network_makes_no_empty_corpus(tmp_path: Path) -> None:
    with photos() as address:
        pass  # nobody answers there any more
    (tmp_path / "links.jsonl").write_text("".join(json.dumps({"url": f"{address}/{number}.jpg"}) + "\n" for number in range(30)))
    done = corpus("fetch", tmp_path / "links.jsonl", "--to", tmp_path / "out")
    assert done.exit_code == 2 and "not one of 30 links leads to a server" in done.stderr
    done = corpus("fetch", tmp_path / "links.jsonl", "--to", tmp_path / "out", "--give-up", 0)
    assert done.exit_code == 2 and "not one sample stays: 30 not fetched" in done.stderr


@pytest.mark.nightly
@needs_img2dataset
def test_a_list_whose_links_are_dead_or_refused_is_completed_with_what_the_servers_see_of_us(tmp_path: Path) -> None:
    with photos() as address:
        good = {"url": f"{address}/0.jpg", "caption": "a red chair"}
        stated = [good | {"sha256": hashlib.sha256(picture(number)).hexdigest()} for number in (0, 1)]
        dead = [{"url": f"{address}/4.jpg?{number}", "caption": "a red chair"} for number in range(47)]
        short = [{"url": f"{address}/1.jpg", "caption": "no"}]
        (tmp_path / "links.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*stated, *short, *dead]))
        _Photos.seen.clear()
        options = ["--samples-per-shard", 25, "--shortest-text", 5, "--user-agent", "my-lab-bot", "--threads", 2, "--link-timeout", 5]
        out = fetched(tmp_path / "links.jsonl", tmp_path / "out", *options)
    manifest = json.loads((out / "corpus.json").read_text())
    assert manifest["steps"][0]["dropped"] == {"not fetched": 47, "not the stated image": 1, "text too short": 1}
    assert [one.image for one in samples_of(out)] == [picture(0)]
    assert not any(path == "/1.jpg" for path, _ in _Photos.seen) and all("my-lab-bot" in agent for _, agent in _Photos.seen)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent", None, "there is no such file or folder"),
        ("a.txt", "http://a", "this kind of file is no source"),
        ("a.csv", "", "the file has no rows"),
        ("a.csv", "link,text\na,b\n", "there is no column of images or links"),
        ("a.jsonl", "[]\n", "a line cannot be read as a row"),
        ("a.parquet", "no", "not a Parquet file"),
        ("a.tar", "no", "not a complete, uncompressed tar file"),
        ("empty/a.doc", "no", "no images, shards or Parquet files are here"),
    ],
)
def test_what_is_no_source_is_said_in_a_sentence(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if text is not None:
        path.write_text(text)
    done = corpus("fetch", path.parent if "/" in name else path, "--to", tmp_path / "out")
    assert done.exit_code == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_links_without_the_program_that_fetches_them_are_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "links.csv").write_text("url\nhttp://127.0.0.1/a.jpg\n")
    done = corpus("fetch", tmp_path / "links.csv", "--to", tmp_path / "out")
    assert done.exit_code == 2 and "pipx install img2dataset" in done.stderr and not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("photos"), 60)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> dict[str, str]:
    """The files of a corpus that was made at once, in this process."""
    return files_of(fetched(photo_folder, tmp_path_factory.mktemp("unbroken") / "out", "--samples-per-shard", 4))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_a_fetch_that_is_killed_gives_the_same_files(tmp_path: Path, photo_folder: Path, unbroken: dict[str, str]) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tips_bench", "corpus", "fetch", str(photo_folder), "--to", str(out), "--samples-per-shard", "4"]
    for stop in (1, 8):  # shards that are there when it is killed
        with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and len(list(out.glob("*.tar"))) < stop:
                time.sleep(0.005)
            process.kill()
        assert process.returncode == -signal.SIGKILL and not (out / "corpus.json").exists()
    fetched(photo_folder, out, "--samples-per-shard", 4)
    assert files_of(out) == unbroken


def test_two_commands_with_one_target_share_its_pieces(
    tmp_path: Path, photo_folder: Path, unbroken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "LOOK_AGAIN_S", 0.01)
    write, written = fetching.write_shard, list[str]()

    def counted(path: Path, samples: Iterator[Sample]) -> Shard:
        written.append(path.name)
        return write(path, samples)

    monkeypatch.setattr(fetching, "write_shard", counted)
    out, both = tmp_path / "out", list[Thread]()
    for _ in range(2):
        source = open_source(str(photo_folder), Asked())
        both.append(Thread(target=fetching.fetch, args=(source, out, Limits()), kwargs={"size": 4, "license": None, "chosen": None}))
        both[-1].start()
    for one in both:
        one.join()
    assert files_of(out) == unbroken and sorted(written) == [f"{number:05d}.tar" for number in range(15)]


@pytest.mark.parametrize(
    "on",
    [pytest.param(("local", "--jobs", "2"), id="local"), pytest.param(("slurm", "--slurm", "cluster=local"), id="submitit")],
)
def test_executors_make_the_corpus_of_one_process(
    tmp_path: Path, photo_folder: Path, on: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    elsewhere = fetched(photo_folder, tmp_path / "elsewhere" / "out", "--samples-per-shard", 20, "--on", *on)
    assert files_of(elsewhere) == files_of(fetched(photo_folder, tmp_path / "out", "--samples-per-shard", 20))


def test_a_plan_counts_what_there_is_to_do_and_writes_nothing(tmp_path: Path) -> None:
    photos, raw, out = image_folder(tmp_path / "photos", 25), tmp_path / "raw", tmp_path / "out"
    fetch = ["corpus", "fetch", str(photos), "--to", str(raw), "--samples-per-shard", "10"]

    def planned(*arguments: str) -> dict[str, int]:
        done = CliRunner().invoke(app, [*arguments, "--dry-run", "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert planned(*fetch) == {"shards to write": 3, "samples of the source, at most": 30, "shards that are written already": 0}
    assert not raw.exists()
    assert CliRunner().invoke(app, fetch).exit_code == 0 and planned(*fetch)["shards that are written already"] == 3
    caption = planned("corpus", "caption", str(raw), "--to", str(out), "--captioner", "pixels", "--prompt", "short,long")
    assert (caption["images"], caption["questions to the captioner, at most"]) == (25, 50)
    curate = planned("corpus", "curate", str(raw), "--to", str(out), "--encoder", "pixels", "--balance")
    assert (curate["images through the encoder, at most"], curate["images to keep, at most"]) == (25, 12)
    assert not out.exists()


@pytest.mark.parametrize(
    "command",
    [
        ["caption", "raw", "--to", "out", "--captioner", "pixels", "--cache", "s3://bucket/answers"],
        ["curate", "raw", "--to", "memory://bucket/out", "--encoder", "pixels", "--dedup", "--work", "s3://bucket/work"],
    ],
    ids=["cache", "work"],
)
def test_an_address_where_a_folder_is_needed_is_refused_with_what_to_do(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(tmp_path / "photos", 2)
    monkeypatch.chdir(tmp_path)
    done = corpus(*command)
    assert done.exit_code == 2 and "this takes a folder. Use a folder on a disk" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
