"""Corpora in object storage: read there and made there, by steps that are killed, fail and meet; the files are those of a disk."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner, Result

from tests.helpers.corpora import image_folder
from tests.helpers.kills import Killed
from tests.helpers.memory_storage import Faulty
from tests.helpers.shards import picture
from tests.helpers.text_models import small_tips
from tips_bench.cards import load_card
from tips_bench.cli.app import app
from tips_bench.corpus.caption import Wish, caption
from tips_bench.corpus.check import check_corpus
from tips_bench.corpus.storage import place
from tips_bench.corpus.store import Manifest, Sample, load_manifest, write_shard
from tips_bench.corpus.target import OWNER, bring
from tips_bench.errors import UserError
from tips_bench.training import shard_files

WISH = Wish("pixels", (load_card("prompt", "short"),))
ASIDE = {".begun.json"}  # what stays there beside a corpus


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shard_files, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(Faulty, "fault", staticmethod(lambda when, verb, name: None))
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    storage = Faulty()
    storage.store.clear()
    storage.requests.clear()
    return storage


def raw(folder: Path, shards: int = 3, samples: int = 2) -> Path:
    for shard in range(shards):
        numbers = [shard * samples + number for number in range(samples)]
        write_shard(
            folder / f"{shard:05d}.tar",
            [Sample(f"{number:06d}", picture(number), "jpg", {"web": f"web {number}", "license": "MIT"}) for number in numbers],
        )
    return folder


def local_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}


def made(bucket: Faulty, folder: str) -> dict[str, bytes]:
    """The files of a whole corpus, beside which nothing else lies."""
    files = bucket.files(folder)
    assert {name for name in files if name.startswith(".")} == ASIDE
    return {name: data for name, data in files.items() if not name.startswith(".")}


def break_at(monkeypatch: pytest.MonkeyPatch, number: int, when: str) -> None:
    """End the process before or after so many requests."""
    count = Counter[str]()

    def fault(now: str, verb: str, name: str) -> None:
        count[now] += 1
        if now == when and count[now] == number:
            raise Killed

    monkeypatch.setattr(Faulty, "fault", staticmethod(fault))


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["corpus", *(str(argument) for argument in arguments)])


def unharmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Faulty, "fault", staticmethod(lambda when, verb, name: None))


def test_captions_go_into_storage_and_from_there_to_there_and_are_those_of_a_disk(tmp_path: Path, bucket: Faulty) -> None:
    source = raw(tmp_path / "raw")
    for path in source.iterdir():
        bucket.put_file(str(path), f"/bucket/raw/{path.name}")
    expected, _ = caption(source, tmp_path / "out", WISH)
    for start, to in ((source, "a"), (place("faulty://bucket/raw/"), "b")):
        got, _ = caption(start, place(f"faulty://bucket/{to}/out/"), WISH)
        assert got == expected == load_manifest(place(f"faulty://bucket/{to}/out"))
        assert made(bucket, f"{to}/out") == local_files(tmp_path / "out")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".tar", ".tmp") or path.name == "README.md"]
    before = len(bucket.requests)
    assert caption(source, place("faulty://bucket/a/out"), WISH) == (expected, 0)
    assert {verb for verb, _ in bucket.requests[before:]} == {"get", "list"}, "a whole corpus is left as it is"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("lost", [False, True], ids=["taken up", "work folder lost"])
def test_killed_at_any_request_it_is_taken_up_and_ends_as_ever(
    tmp_path: Path, bucket: Faulty, monkeypatch: pytest.MonkeyPatch, when: str, lost: bool
) -> None:
    source, target, works = raw(tmp_path / "raw", 2), place("faulty://bucket/out"), tmp_path / "works"
    caption(source, tmp_path / "out", WISH)
    expected = local_files(tmp_path / "out")
    number, ended = 0, False
    while not ended:
        number += 1
        bucket.store.clear()
        break_at(monkeypatch, number, when)
        with suppress(Killed):  # the command goes on in the next round
            caption(source, target, WISH, works=works)
            ended = True
        unharmed(monkeypatch)
        there = bucket.files("out")
        if "corpus.json" in there:
            assert {name: data for name, data in there.items() if not name.startswith(".")} == expected, "the manifest is the last"
        if lost and OWNER in there:
            shutil.rmtree(works)
            if "corpus.json" not in there:
                with pytest.raises(UserError, match=r"made from the work folder .*works/.* delete \.owner\.json"):
                    caption(source, target, WISH, works=works)
                bucket.rm(f"/bucket/out/{OWNER}")
        bucket.requests.clear()
        caption(source, target, WISH, works=works)
        left = {name: data for name, data in bucket.files("out").items() if not name.startswith(".")}
        assert left == expected, f"killed {when} request {number}"
        again = [name for verb, name in bucket.requests if verb == "put" and name.endswith(".tar")]
        recorded = {Path(name).name.removesuffix(".json") for name in there if name.startswith(".captions/")}
        assert not [name for name in again if Path(name).name in recorded], "what is up is not brought again"
    assert number > 15


def test_requests_that_fail_or_whose_answer_is_lost_change_nothing(tmp_path: Path, bucket: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    source = raw(tmp_path / "raw")
    caption(source, tmp_path / "out", WISH)
    for path in source.iterdir():
        bucket.put_file(str(path), f"/bucket/raw/{path.name}")
    count = Counter[str]()

    def fault(when: str, verb: str, name: str) -> None:
        count[verb] += 1
        if count[verb] % 5 in (1, 3):
            raise OSError(121, "503 Slow Down")

    monkeypatch.setattr(Faulty, "fault", staticmethod(fault))
    caption(place("faulty://bucket/raw"), place("faulty://bucket/out"), WISH)
    report = check_corpus(place("faulty://bucket/out"))
    unharmed(monkeypatch)
    assert min(count[verb] for verb in ("get", "put", "list", "remove")) >= 3
    assert made(bucket, "out") == local_files(tmp_path / "out")
    assert report.faults == [] and report.samples == 6


def test_two_commands_share_a_target_and_each_shard_is_brought_once(tmp_path: Path, bucket: Faulty) -> None:
    source, target = raw(tmp_path / "raw", 4), place("faulty://bucket/out")
    caption(source, tmp_path / "out", WISH)
    found: list[Manifest] = []
    threads = [threading.Thread(target=lambda: found.append(caption(source, target, WISH)[0])) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 3 and found[0] == found[1] == found[2]
    assert made(bucket, "out") == local_files(tmp_path / "out")
    puts = Counter(name for verb, name in bucket.requests if verb == "put" and name.endswith(".tar"))
    assert set(puts.values()) == {1} and len(puts) == 4


def test_who_comes_late_writes_nothing_into_a_corpus_that_another_has(tmp_path: Path, bucket: Faulty) -> None:
    source, target = raw(tmp_path / "raw", 1), place("faulty://bucket/out")
    caption(source, target, WISH)
    before = bucket.files("out")
    late = {"address": str(target), "owner": "0123456789abcdef", "work": str(tmp_path / "late")}
    shard = write_shard(tmp_path / "late" / "00000.tar", [Sample("other", picture(9), "jpg", {})])
    said, done = {"shard": shard.model_dump(mode="json")}, tmp_path / "late" / ".captions" / "00000.tar.json"
    with pytest.raises(UserError, match="another command has taken the corpus over, or has ended it"):
        bring(tmp_path / "late" / "00000.tar", said, done, late)
    assert bucket.files("out") == before and not done.exists()


def test_a_shard_that_is_gone_from_the_target_is_made_again(tmp_path: Path, bucket: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = raw(tmp_path / "raw"), place("faulty://bucket/out")

    def fault(when: str, verb: str, name: str) -> None:
        if name.endswith("00002.tar"):
            raise Killed

    monkeypatch.setattr(Faulty, "fault", staticmethod(fault))
    with pytest.raises(Killed):
        caption(source, target, WISH)
    unharmed(monkeypatch)
    bucket.rm("/bucket/out/00000.tar")
    bucket.pipe_file("/bucket/out/00007.tar", b"of an earlier choice")
    bucket.requests.clear()
    caption(source, target, WISH)
    assert [name[-9:] for verb, name in bucket.requests if verb == "put" and name.endswith(".tar")] == ["00000.tar", "00002.tar"]
    caption(source, tmp_path / "out", WISH)
    assert made(bucket, "out") == local_files(tmp_path / "out")


# Refusals


def unasked(questions: list[Any]) -> list[str]:
    raise AssertionError("it works before it knows whether it may write")


REFUSED: dict[str, tuple[str, Callable[[str], Exception | None], str]] = {
    "no such bucket": ("faulty://nowhere/out", lambda verb: None, r"nowhere/out/\.owner\.json: it cannot be written \(the bucket does not"),
    "read only": ("faulty://bucket/out", lambda verb: PermissionError(13, "no") if verb == "put" else None, r"it cannot be written \(no\)"),
    "no access": ("faulty://bucket/out", lambda verb: PermissionError(13, "no"), r"bucket/out: it cannot be read \(no\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_storage_that_refuses_is_told_of_before_any_work(
    tmp_path: Path, bucket: Faulty, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    target, error_of, message = REFUSED[kind]

    def fault(when: str, verb: str, name: str) -> None:
        if error := error_of(verb):
            raise error

    monkeypatch.setattr(Faulty, "fault", staticmethod(fault))
    wish = Wish(f"{__name__}:unasked", WISH.prompts)
    with pytest.raises(UserError, match=message):
        caption(raw(tmp_path / "raw", 1), place(target), wish)
    assert not bucket.store


def test_a_target_with_other_files_or_another_step_is_refused(tmp_path: Path, bucket: Faulty) -> None:
    source = raw(tmp_path / "raw", 1)
    for name in ("thesis/one.doc", "copied/corpus.json"):
        bucket.pipe_file(f"/bucket/{name}", b"{}")
        with pytest.raises(UserError, match="not empty, and no step began here"):
            caption(source, place(f"faulty://bucket/{name.partition('/')[0]}"), WISH)
    caption(source, place("faulty://bucket/out"), WISH)
    with pytest.raises(UserError, match="made in another way than this `caption`"):
        caption(source, place("faulty://bucket/out"), Wish("pixels", WISH.prompts, "keep"))
    with pytest.raises(UserError, match="Leave --work out"):
        caption(source, tmp_path / "out", WISH, works=tmp_path)
    assert set(bucket.files("thesis")) == {"one.doc"}


# Commands


def test_a_corpus_that_is_looked_at_in_storage_is_found_as_on_a_disk(tmp_path: Path, bucket: Faulty) -> None:
    source = raw(tmp_path / "raw")
    (source / "00001.tar").write_bytes((source / "00001.tar").read_bytes()[:1500])
    for path in source.glob("*.tar"):
        bucket.put_file(str(path), f"/bucket/raw/{path.name}")

    def found(folder: Path) -> dict[str, Any]:
        report = check_corpus(folder).model_dump(mode="json")
        return {**report, "folder": "", "faults": [fault.replace(str(folder), "") for fault in report["faults"]]}

    there = found(place("faulty://bucket/raw"))
    assert there == found(source) and "/00001.tar: not a complete" in there["faults"][0]
    bucket.requests.clear()
    found(place("faulty://bucket/raw"))
    assert {verb for verb, _ in bucket.requests if not _.endswith(".json")} == {"list"}, "shards that did not change are not read again"
    whole = raw(tmp_path / "whole") / "00001.tar"
    bucket.put_file(str(whole), "/bucket/raw/00001.tar")
    assert check_corpus(place("faulty://bucket/raw")).faults == []


def test_commands_make_a_corpus_in_storage_from_images_on_a_disk(tmp_path: Path, bucket: Faulty) -> None:
    photos = image_folder(tmp_path / "photos", 12)
    fetch = ["fetch", photos, "--samples-per-shard", 5, "--license", "MIT"]
    planned = command(*fetch, "--to", "faulty://bucket/raw", "--dry-run", "--json")
    assert json.loads(planned.stdout)["shards to write"] == 3 and not bucket.store
    for to in (tmp_path / "raw", "faulty://bucket/raw"):
        done = command(*fetch, "--to", to)
        assert done.exit_code == 0 and f"{place(str(to))}: 12 samples in 3 shards" in done.stdout, done.stderr
    assert made(bucket, "raw") == local_files(tmp_path / "raw")
    assert command("check", "faulty://bucket/raw").exit_code == 0
    planned = command(*fetch, "--to", "faulty://bucket/raw", "--dry-run", "--json")
    assert json.loads(planned.stdout)["shards that are written already"] == 3
    none = command("check", "faulty://bucket/nothing")
    assert none.exit_code == 2 and "no shards (*.tar) are here" in none.stderr


def test_a_curation_from_storage_to_storage_is_the_one_of_a_disk_even_if_it_was_killed(
    tmp_path: Path, bucket: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = raw(tmp_path / "raw", 3, 6)
    write_shard(source / "00003.tar", [Sample("copy", picture(4), "jpg", {"web": "again"})])
    for path in source.iterdir():
        bucket.put_file(str(path), f"/bucket/raw/{path.name}")
    (tmp_path / "model").mkdir()
    encoder = small_tips(tmp_path / "model")
    asked = ["--encoder", encoder, "--device", "cpu", "--dedup", "--agree", "0.9", "--set", "samples=5"]
    done = command("curate", source, "--to", tmp_path / "out", *asked)
    assert done.exit_code == 0, done.output

    def fault(when: str, verb: str, name: str) -> None:
        if when == "after" and verb == "put" and name.endswith("000001.tar"):
            raise Killed

    monkeypatch.setattr(Faulty, "fault", staticmethod(fault))
    line = ["curate", "faulty://bucket/raw", "--to", "faulty://bucket/out", *asked, "--work", tmp_path / "works"]
    with pytest.raises(Killed):
        command(*line)
    unharmed(monkeypatch)
    assert "corpus.json" not in bucket.files("out") and any((tmp_path / "works").iterdir())
    done = command(*line)
    assert done.exit_code == 0 and str(place("faulty://bucket/out/curation.html")) in done.output, done.output
    assert made(bucket, "out") == local_files(tmp_path / "out")
    assert not [path for path in (tmp_path / "works").iterdir() if path.is_dir()]
