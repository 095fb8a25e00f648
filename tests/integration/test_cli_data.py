"""tips-bench data: what is asked of download, check and rooms, on real files."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from tips_bench.catalog import card_files
from tips_bench.cli.app import app

SMALL = ["--train", "2", "--val", "1", "--size", "64", "--frames-per-scene", "1", "--workers", "1"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", *arguments])


def put_task(folder: Path, name: str, **data: Any) -> None:
    """A task card `name` like rooms-seg, with its data changed, in a folder of the user's own."""
    card = yaml.safe_load(card_files("task")["rooms-seg"].read_text())
    base = card_files("task")["rooms-seg"].parent / card["_base_"]
    card |= {"_base_": str(base), "name": name, "data": {"reader": "folder", "splits": {"train": "train", "test": "val"}, **data}}
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(card))


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task `shapes` with a plain folder of two splits as its data; returns that folder."""
    root = Path(os.environ["TIPS_BENCH_DATA"]) / "shapes"
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(np.full((20, 30, 3), 40 * k + (split == "val"), np.uint8)).save(root / "images" / split / f"{k}.png")
            Image.fromarray(np.repeat([[0, 1]], 20, 0).repeat(15, 1).astype(np.uint8)).save(root / "labels" / split / f"{k}.png")
    (root / "classes.json").write_text(json.dumps({"classes": ["a", "b"], "palette": [[0, 0, 0], [9, 9, 9]]}))
    put_task(tmp_path, "shapes", root="shapes", expected={"train": 2, "val": 2})
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path))
    return root


def test_check_of_a_sound_set_counts_it_and_is_status_0(shapes: Path) -> None:
    done = run("check", "shapes")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("no fault found") == 2 and "20x30 (2)" in done.stdout


def test_check_as_json_holds_the_histogram_and_the_fingerprint(shapes: Path) -> None:
    (report,) = json.loads(run("check", "shapes", "--split", "test", "--json").stdout)
    assert report["pixels"] == {"a": 600, "b": 600} and report["samples"] == 2 and report["ok"]
    assert len(report["fingerprint"]) == 64


def test_check_of_a_set_with_a_broken_image_names_it_and_is_status_1(shapes: Path) -> None:
    broken = shapes / "images" / "val" / "1.png"
    broken.write_bytes(broken.read_bytes()[:40])
    done = run("check", "shapes")
    assert done.exit_code == 1
    assert str(broken) in done.stdout and done.stdout.endswith("1 fault\n")


def test_check_of_a_set_that_is_not_there_is_status_1_and_says_how_to_get_it(shapes: Path, tmp_path: Path) -> None:
    done = run("check", "shapes", "--data-root", str(tmp_path / "nowhere"))
    assert done.exit_code == 1 and str(tmp_path / "nowhere") in done.stdout


def test_rooms_are_written_and_counted(tmp_path: Path) -> None:
    done = run("rooms", str(tmp_path / "rooms"), *SMALL)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path}/rooms: 2 + 1 image of 3 rooms\n"
    assert len(list((tmp_path / "rooms").rglob("*.jpg")) + list((tmp_path / "rooms" / "images").rglob("*.png"))) == 3


def test_rooms_into_a_folder_that_holds_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    done = run("rooms", str(tmp_path), *SMALL)
    assert done.exit_code == 2 and (tmp_path / "mine.txt").read_text() == "keep me"


def test_a_generated_task_is_generated_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"layout": "rooms", "seed": 0, "train": 2, "val": 1, "size": 64, "frames_per_scene": 1, "workers": 1}
    put_task(tmp_path, "few-rooms", root="few", generator="rooms", generator_options=options, expected={"train": 2, "val": 1})
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path))
    done = run("check", "few-rooms")
    assert done.exit_code == 0, done.output
    assert (Path(os.environ["TIPS_BENCH_CACHE"]) / "generated" / "few").is_dir()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of tmp_path."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def test_download_fetches_unpacks_and_says_where(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("inner/classes.json", "{}")
    put_task(tmp_path, "fetched", root="sets/inner", download=[{"url": f"{server}/set.zip", "unpack_to": "sets"}])
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path))
    done = run("download", "fetched", "--data-root", str(tmp_path / "data"))
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path}/data/sets/inner\n"
    assert (tmp_path / "data" / "sets" / "inner" / "classes.json").read_text() == "{}"


def test_download_of_what_cannot_be_fetched_says_how_to_get_it() -> None:
    done = run("download", "cityscapes")
    assert done.exit_code == 2 and "https://www.cityscapes-dataset.com" in done.stderr


@pytest.mark.parametrize("verb", ["download", "check"])
def test_an_unknown_task_is_a_mistake(verb: str) -> None:
    assert "Did you mean 'ade20k'" in run(verb, "ade20").stderr
