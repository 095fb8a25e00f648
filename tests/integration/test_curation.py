"""A curation as a whole: what goes and stays, whatever stops it and wherever its pieces are done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.curation import TASK, drawing, encoded, write_corpus, write_task
from tests.helpers.kills import Killed, kills_at_each_file
from tips_bench.cli.app import app
from tips_bench.corpus import pieces
from tips_bench.corpus.card import CROISSANT, README
from tips_bench.corpus.curation import alike, shuffle, signatures
from tips_bench.corpus.curation import curate as step
from tips_bench.corpus.curation.card import curation_card
from tips_bench.corpus.curation.curate import curate
from tips_bench.corpus.curation.signatures import Signer
from tips_bench.corpus.curation.task_images import gather
from tips_bench.corpus.curation.wish import Wish
from tips_bench.corpus.store import Manifest, Sample, load_manifest, read_samples, shards_of, write_shard
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen

PIXELS = Signer("pixels", device="cpu")
CARD = ["samples=10", "balance.members=[6, 3]", "balance.rounds=1"]
IN_CELLS = [*CARD, "duplicates.cells.above=0", "duplicates.cells.images=12"]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path / "cards"))
    monkeypatch.setenv("TIPS_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    write_task(tmp_path / "cards", tmp_path / "data")
    return write_corpus(tmp_path / "raw")


def wish(card: list[str] = CARD, **options: Any) -> Wish:
    against, absent = gather([TASK, "rooms-seg", "ade20k"], ["test"], None, whatever_is_here=True)
    return Wish(PIXELS, curation_card(card), against=against, absent=absent, dedup=True, **options)


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
    assert step.licenses == {"CC0-1.0": 33}
    assert step.settings["absent"] == {name: "its data are not on this machine" for name in ("rooms-seg", "ade20k")}
    assert [shard.samples for shard in made.shards] == [10, 10, 10, 3] and load_manifest(tmp_path / "out") == made
    lines = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert {line["image"].split("/")[1] for line in lines} == shown | copies
    page = (tmp_path / "out" / "curation.html").read_text()
    assert page.count("<figure>") == 9 and "drawings (test)" in page and "ade20k" in page
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == []
    keys = [sample.key for shard in shards_of(tmp_path / "out") for sample in read_samples(shard)]
    assert keys == sorted(keys) and len(set(keys)) == 33


def test_data_sets_have_a_number_of_candidates_of_their_own(
    tmp_path: Path, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_pairs, seen = alike.find_pairs, dict[str, int]()

    def noted(**given: Any) -> None:
        seen[Path(given["among"]).name] = given["card"]["neighbors"]
        find_pairs(**given)

    monkeypatch.setattr(alike, "find_pairs", noted)
    curate(tmp_path / "raw", tmp_path / "out", wish([*CARD, "duplicates.neighbors=5", "contamination.neighbors=3"]))
    assert seen == {"corpus": 5, "sets": 3}


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
    kills = kills_at_each_file(lambda: curate(tmp_path / "raw", tmp_path / "killed", asked), monkeypatch)
    assert kills >= 5 and contents(tmp_path / "killed") == expected


def test_in_cells_the_same_copies_go_and_stopped_at_any_moment_it_goes_on_to_the_same_bytes(
    tmp_path: Path, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, asked = curate(tmp_path / "raw", tmp_path / "exact", wish()), wish(IN_CELLS)
    made = curate(tmp_path / "raw", tmp_path / "once", asked)
    assert made.steps[-1].dropped == exact.steps[-1].dropped and made.shards == exact.shards
    kills = kills_at_each_file(lambda: curate(tmp_path / "raw", tmp_path / "killed", asked), monkeypatch)
    assert kills >= 5 and contents(tmp_path / "killed") == contents(tmp_path / "once")


@pytest.mark.parametrize("card", [["duplicates.cells.above=0", "duplicates.cells.images=100"], []], ids=["in-cells", "all-pairs"])
def test_a_part_that_only_knows_what_goes_is_compared_with_what_stays_whatever_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: list[str]
) -> None:
    """Each image has one candidate: the part of a part has the part, and this goes for the picture."""
    picture = drawing(1)
    part = picture.crop((8, 6, 152, 114))
    images = {"picture": picture, "part": part, "part-of-part": part.crop((12, 8, 136, 102)), "other": drawing(2)}
    for number, (key, image) in enumerate(images.items()):
        write_shard(tmp_path / "raw" / f"{number:03d}.tar", [Sample(key, encoded(image), "png", {"web": key})])
    one = ["duplicates.neighbors=1", "duplicates.largest=0", *card]

    def asked(*more: str) -> Wish:
        return Wish(PIXELS, curation_card([*one, *more]), dedup=True)

    curate(tmp_path / "raw", tmp_path / "once", asked("duplicates.rounds=0"))
    assert origins(tmp_path / "once") == {"picture", "part-of-part", "other"}
    curate(tmp_path / "raw", tmp_path / "again", asked())
    assert origins(tmp_path / "again") == {"picture", "other"}
    lines = [json.loads(line) for line in (tmp_path / "again" / "dropped.jsonl").read_text().splitlines()]
    assert {line["same_as"].split("/")[1] for line in lines} == {"picture"} and all(line["agreement"] > 0.945 for line in lines)
    kills = kills_at_each_file(lambda: curate(tmp_path / "raw", tmp_path / "killed", asked()), monkeypatch)
    assert kills >= 5 and contents(tmp_path / "killed") == contents(tmp_path / "again")


def test_two_commands_with_one_target_share_its_pieces(tmp_path: Path, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "LOOK_AGAIN_S", 0.01)
    done = Counter[str]()

    def count(room: Any, name: str, file: str) -> None:
        function = getattr(room, name)

        def counted(**given: Any) -> None:
            done[given[file]] += 1
            function(**given)

        monkeypatch.setattr(room, name, counted)

    for room, name in ((signatures, "sign_shard"), (alike, "find_pairs"), (shuffle, "sort_shard"), (shuffle, "put_together")):
        count(room, name, "done")
    asked, made = wish(balance=True, keep=24), list[Manifest]()
    both = [Thread(target=lambda: made.append(curate(tmp_path / "raw", tmp_path / "shared", asked))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(made) == 2 and made[0] == made[1] and set(done.values()) == {1}
    curate(tmp_path / "raw", tmp_path / "alone", asked)
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone") and not (tmp_path / "shared" / ".curation").exists()


def test_a_command_that_comes_late_takes_what_another_one_has_made(
    tmp_path: Path, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one ends everything, and its stages' files go, between two stages of the late one."""
    compare, out = step._Curation._compare, tmp_path / "out"

    def late(self: Any, *given: Any) -> Any:
        monkeypatch.setattr(step._Curation, "_compare", compare)
        curate(tmp_path / "raw", out, wish())
        return compare(self, *given)

    monkeypatch.setattr(step._Curation, "_compare", late)
    assert curate(tmp_path / "raw", out, wish()) == load_manifest(out)
    assert not (out / ".curation").exists() and {path.name for path in out.glob("*.tar")} == {f"{n:06d}.tar" for n in range(4)}


def test_merged_files_give_the_same_shards_and_hold_no_sample_twice(
    tmp_path: Path, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    curate(tmp_path / "raw", tmp_path / "out", wish())
    monkeypatch.setattr(shuffle, "MERGED", 2)
    put_together, held = shuffle.put_together, set[str]()

    def seen(**given: Any) -> None:
        held.update(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.samples"))
        assert len(given["indexes"]) == 2
        put_together(**given)

    monkeypatch.setattr(shuffle, "put_together", seen)
    curate(tmp_path / "raw", tmp_path / "merged", wish())
    assert contents(tmp_path / "merged") == contents(tmp_path / "out")
    assert held == {f"merged/.curation/merged/{first:06d}.samples" for first in (0, 2)}


@pytest.mark.nightly
@pytest.mark.parametrize("chosen", [Chosen("local", {}, at_once=2), Chosen("slurm", {"cluster": "local"})], ids=["local", "submitit"])
def test_executors_make_the_same_corpus(tmp_path: Path, planted: dict[str, str], chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    asked = wish(IN_CELLS, balance=True, keep=24)
    curate(tmp_path / "raw", tmp_path / "here", asked)
    curate(tmp_path / "raw", tmp_path / "there", asked, chosen)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_the_work_of_a_stage_is_not_done_again(tmp_path: Path, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(step, "choose", stop)
        curate(tmp_path / "raw", tmp_path / "out", wish())
    signed = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / ".curation").glob("*/*.npz")}
    assert len(signed) == 11
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


def curated(tmp_path: Path, *options: str) -> Result:
    command = ["corpus", "curate", str(tmp_path / "raw"), "--to", str(tmp_path / "out"), "--encoder", "pixels", "--device", "cpu"]
    return CliRunner().invoke(app, [*command, *options])


def test_the_command_says_which_data_sets_were_compared_and_which_were_not(tmp_path: Path, planted: dict[str, str]) -> None:
    refused = curated(tmp_path, "--dedup", "--decontaminate", "all", "--require-all")
    assert refused.exit_code == 2 and "cannot be compared:" in refused.stderr and "ade20k" in refused.stderr
    assert not (tmp_path / "out").exists()
    done = curated(tmp_path, "--decontaminate", "all")
    said = " ".join(done.stdout.split())
    assert done.exit_code == 0 and re.search(r"compared with 4 images of 1 task: drawings; \d+ tasks? NOT compared: .*ade20k", said)


@pytest.mark.parametrize("options", [("--dedup", "--decontaminate", "all"), ("--decontaminate", "all"), ("--near", "all")])
def test_without_the_data_of_a_single_task_nothing_is_compared_and_that_is_an_error(
    tmp_path: Path, planted: dict[str, str], options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIPS_BENCH_DATA", str(tmp_path / "nothing"))
    done = curated(tmp_path, *options)
    assert done.exit_code == 2 and re.search(r"the images of none of \d+ tasks are on this machine", done.stderr)
    assert not (tmp_path / "out").exists()
