"""A curation as a whole: what goes and stays, whatever stops it and wherever its pieces are done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.curation import TASK, write_corpus, write_task
from tests.helpers.kills import Killed
from tips_bench import files
from tips_bench.corpus.card import CROISSANT, README
from tips_bench.corpus.curation.card import curation_card
from tips_bench.corpus.curation.curate import curate
from tips_bench.corpus.curation.signatures import Signer
from tips_bench.corpus.curation.task_images import gather
from tips_bench.corpus.curation.wish import Wish
from tips_bench.corpus.store import load_manifest, read_samples, shards_of
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen

PIXELS = Signer("pixels", device="cpu")
CARD = ["samples=10", "balance.members=[6, 3]", "balance.rounds=1"]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path / "cards"))
    monkeypatch.setenv("TIPS_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    write_task(tmp_path / "cards", tmp_path / "data")
    return write_corpus(tmp_path / "raw")


def wish(**options: Any) -> Wish:
    against, absent = gather([TASK, "rooms-seg", "ade20k"], ["test"], None, whatever_is_here=True)
    return Wish(PIXELS, curation_card(CARD), against=against, absent=absent, dedup=True, **options)


def contents(folder: Path) -> dict[str, bytes]:
    said = {CROISSANT, README}  # they hold the folder's name
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name not in said}


def origins(folder: Path) -> set[str]:
    return {sample.said["origin"].split("/")[1] for shard in shards_of(folder) for sample in read_samples(shard)}


def test_copies_and_test_images_go_and_all_else_stays(tmp_path: Path, planted: dict[str, str]) -> None:
    made = curate(tmp_path / "raw", tmp_path / "out", wish())
    shown = {key for key, what in planted.items() if what.startswith("test")}
    copies = {"copy-smaller", "copy-mirrored", "copy-cropped", "05"}  # of 5 the copy is the larger one
    raw = {sample.key for shard in shards_of(tmp_path / "raw") for sample in read_samples(shard)}
    assert raw - origins(tmp_path / "out") == shown | copies | {"broken"}
    step = made.steps[-1]
    expected = {"shows an image of drawings (test)": 4, "the same picture as another image": 4, "broken image": 1}
    assert step.dropped == expected and step.samples == 33
    assert step.settings["absent"] == {name: "its data are not on this machine" for name in ("rooms-seg", "ade20k")}
    assert [shard.samples for shard in made.shards] == [10, 10, 10, 3] and load_manifest(tmp_path / "out") == made
    lines = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert {line["image"].split("/")[1] for line in lines} == shown | copies
    page = (tmp_path / "out" / "curation.html").read_text()
    assert page.count("<figure>") == 9 and "drawings (test)" in page and "ade20k" in page
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == []
    keys = [sample.key for shard in shards_of(tmp_path / "out") for sample in read_samples(shard)]
    assert keys == sorted(keys) and len(set(keys)) == 33


def test_a_draw_is_of_what_is_near_the_named_images_and_of_the_number_asked_for(tmp_path: Path, planted: dict[str, str]) -> None:
    near, _ = gather([TASK], ["train"], None, whatever_is_here=False)
    made = curate(tmp_path / "raw", tmp_path / "near", Wish(PIXELS, curation_card(["near.per_query=1"]), near=near))
    assert {"00", "01", "02", "04"} <= origins(tmp_path / "near") and made.steps[-1].samples <= 6
    drawn = curate(tmp_path / "raw", tmp_path / "drawn", wish(balance=True, keep=12))
    assert drawn.steps[-1].samples == 12 and drawn.steps[-1].dropped["not drawn"] == 21
    with pytest.raises(UserError, match="made in another way"):
        curate(tmp_path / "raw", tmp_path / "drawn", wish(balance=True, keep=11))
    with pytest.raises(UserError, match="nothing was asked for"):
        curate(tmp_path / "raw", tmp_path / "none", Wish(PIXELS))


def test_stopped_at_any_moment_it_goes_on_to_the_same_bytes(
    tmp_path: Path, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = wish(balance=True, keep=24)
    expected = (curate(tmp_path / "raw", tmp_path / "once", asked), contents(tmp_path / "once"))[1]
    left, real = [0], os.replace

    def replace(*paths: Any) -> None:
        """Every file appears by it: the curation is stopped before one does, and a further time after it did."""
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        real(*paths)
        if left[0] == -1:
            raise Killed

    monkeypatch.setattr(files.os, "replace", replace)
    kills = 0
    for left[0] in range(1, 200):
        try:
            curate(tmp_path / "raw", tmp_path / "killed", asked)
        except Killed:
            kills += 1
            continue
        break
    left[0] = -2
    curate(tmp_path / "raw", tmp_path / "killed", asked)
    assert kills >= 5 and contents(tmp_path / "killed") == expected


@pytest.mark.nightly
@pytest.mark.parametrize("chosen", [Chosen("local", {}, at_once=2), Chosen("slurm", {"cluster": "local"})], ids=["local", "submitit"])
def test_executors_make_the_same_corpus(tmp_path: Path, planted: dict[str, str], chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    asked = wish(balance=True, keep=24)
    curate(tmp_path / "raw", tmp_path / "here", asked)
    curate(tmp_path / "raw", tmp_path / "there", asked, chosen)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_the_work_of_a_stage_is_not_done_again(tmp_path: Path, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from tips_bench.corpus.curation import curate as step

    def stop(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(step, "choose", stop)
        curate(tmp_path / "raw", tmp_path / "out", wish())
    signed = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / ".curation").glob("*/*.npz")}
    assert len(signed) == 10
    from tips_bench.corpus.curation import alike, signatures

    never: Callable[..., Any] = stop
    monkeypatch.setattr(signatures, "look_at", never)
    monkeypatch.setattr(alike, "overlays", never)
    assert curate(tmp_path / "raw", tmp_path / "out", wish()).steps[-1].samples == 33


@pytest.mark.nightly
def test_killed_by_the_system_the_same_command_goes_on_to_the_same_bytes(tmp_path: Path, planted: dict[str, str]) -> None:
    def command(target: str) -> list[str]:
        options = ["--encoder", "pixels", "--device", "cpu", "--dedup", "--decontaminate", TASK, "--balance", "--keep", "24"]
        settings = [part for setting in CARD for part in ("--set", setting)]
        return [
            sys.executable,
            "-m",
            "tips_bench",
            "corpus",
            "curate",
            str(tmp_path / "raw"),
            "--to",
            str(tmp_path / target),
            *options,
            *settings,
        ]

    def made() -> int:
        return len([path for path in (tmp_path / "killed" / ".curation").rglob("*") if path.is_file()])

    subprocess.run(command("once"), check=True, capture_output=True)
    for wanted in (2, 6, 10, 16):
        with subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and made() < wanted:
                time.sleep(0.002)
            process.kill()
        assert not (tmp_path / "killed" / "corpus.json").exists()
    done = subprocess.run(command("killed"), check=True, capture_output=True, text=True)
    assert "kept" in done.stdout and contents(tmp_path / "killed") == contents(tmp_path / "once")
