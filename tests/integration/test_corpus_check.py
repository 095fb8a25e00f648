"""`corpus check`: what training would skip or stop at is found before it starts."""

from __future__ import annotations

import errno
import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.corpora import image_folder
from tests.helpers.shards import picture, sample, write_shard, write_shards
from tips_bench.cli.app import app
from tips_bench.corpus.card import croissant, finish, readme
from tips_bench.corpus.page import bars, histogram
from tips_bench.corpus.store import Manifest, Sample, Step
from tips_bench.corpus.store import write_shard as write_own
from tips_bench.corpus.target import Target
from tips_bench.training import shard_files


def check(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["corpus", "check", *(str(argument) for argument in arguments)], env={"COLUMNS": "80"})


def found(folder: Path, status: int = 0, *options: str) -> dict[str, object]:
    done = check(folder, "--json", *options)
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


def test_what_is_there_is_counted(tmp_path: Path) -> None:
    write_shards(tmp_path, [4, 3])
    bad = [sample(20, jpg=b"no"), sample(21, jpg=None), sample(22, json=b"{"), sample(23, jpg=picture(1)), sample(24, json=b"{}")]
    write_shard(tmp_path / "train-002.tar", bad)
    report = found(tmp_path)
    assert (report["shards"], report["samples"], report["duplicates"], report["faults"]) == (3, 9, 1, [])
    assert report["with_caption"] == {"web": 8, "synthetic": 8}
    assert report["skipped"] == {
        "broken image": [1, "train-002.tar: 000020"],
        "no image": [1, "train-002.tar: 000021"],
        "broken captions": [1, "train-002.tar: 000022"],
    }
    assert report["sides"] == [9, *[0] * 11] and report["aspects"] == [0, 9, *[0] * 7]
    assert sum(report["lengths"]["synthetic"]) == 16  # type: ignore[index]
    shown = check(tmp_path)
    assert shown.exit_code == 0 and max(map(len, shown.stdout.splitlines())) <= 80
    assert "exact duplicates" in shown.stdout and "with web captions" in shown.stdout


def test_only_shards_that_changed_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path, [2, 2])
    first = found(tmp_path)
    read: list[str] = []
    monkeypatch.setattr("tips_bench.corpus.pieces.load_target", lambda name: lambda shard, file: read.append(shard))
    assert found(tmp_path) == first and read == []
    write_shard(tmp_path / "train-001.tar", [sample(number) for number in range(3)])
    assert check(tmp_path).exit_code == 1 and [Path(shard).name for shard in read] == ["train-001.tar"]


def test_what_training_would_stop_at_is_said_and_the_exit_status_is_1(tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    write_shards(tmp_path / "torn", [3])
    whole = (tmp_path / "torn" / "train-000.tar").read_bytes()
    (tmp_path / "torn" / "train-001.tar").write_bytes(whole[: len(whole) // 2])
    assert "not a complete, uncompressed tar file" in str(found(tmp_path / "torn", 1)["faults"])

    (tmp_path / "apart").mkdir()
    (tmp_path / "a.jpg").write_bytes(picture(0))
    (tmp_path / "a.json").write_text('{"web": "a"}')
    with tarfile.open(tmp_path / "apart" / "0.tar", "w") as tar:  # all images, and then all captions
        for name in ("1.jpg", "2.jpg", "1.json", "2.json"):
            tar.add(tmp_path / f"a{Path(name).suffix}", name)
    assert "do not stand together" in str(found(tmp_path / "apart", 1)["faults"])

    (tmp_path / "empty").mkdir()
    write_shard(tmp_path / "empty" / "0.tar", [sample(0, jpg=b"no")])
    assert "not one sample can be trained on" in str(found(tmp_path / "empty", 1)["faults"])


def test_captions_that_a_recipe_needs_have_to_be_there(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [sample(0, json=b'{"web": "a room"}')])
    assert found(tmp_path)["faults"] == []
    faults = found(tmp_path, 1, "--recipe", "tips-nano")["faults"]
    assert "recipe tips-nano trains with synthetic captions, and 0 of 1 samples have one" in str(faults)


def test_captions_of_hugging_face_are_seen_and_samples_without_any_are_named(tmp_path: Path) -> None:
    said = [json.dumps({"caption": "a room"}).encode(), b'{"label": 3}', b'{"label": 4}']
    write_shard(tmp_path / "0.tar", [sample(number, json=one) for number, one in enumerate(said)])
    report = found(tmp_path)
    assert report["with_caption"] == {"web": 1} and report["uncaptioned"] == [2, "0.tar: 000001"]
    shown = " ".join(check(tmp_path).stdout.split())
    assert "with web captions 1 (33.3%) with synthetic captions 0 (0.0%)" in shown
    assert "without any caption 2, the first is 0.tar: 000001" in shown


def corpus(folder: Path, count: int = 3) -> Manifest:
    """A whole corpus of two shards."""
    shards = [
        write_own(folder / f"{n:05d}.tar", [Sample(f"{n}{k}", picture(10 * n + k), "jpg", {"web": f"a {k}"}) for k in range(count)])
        for n in range(2)
    ]
    settings = {"captioner": "a|b*", "prompts": ["short"]}
    step = Step(name="fetch", settings=settings, version="1", samples=2 * count, dropped={"x": 1, "y": 3}, licenses={"CC0-1.0": 2 * count})
    manifest = Manifest(steps=[step], shards=shards)
    finish(Target(folder, folder), manifest)
    return manifest


def test_a_shard_that_is_not_the_one_of_the_manifest_is_told_of(tmp_path: Path) -> None:
    corpus(tmp_path)
    assert found(tmp_path)["faults"] == []
    write_own(tmp_path / "00001.tar", [Sample("0", picture(5), "jpg")])
    assert "not the shard that the manifest states" in str(found(tmp_path, 1)["faults"])


def test_a_shard_of_the_manifest_that_is_missing_is_told_of_and_the_others_are_counted(tmp_path: Path) -> None:
    corpus(tmp_path)
    (tmp_path / "00000.tar").unlink()
    report = found(tmp_path, 1)
    assert report["faults"] == [f"{tmp_path}/00000.tar: the shard is missing. Fetch it again."] and report["samples"] == 3


def test_a_disk_that_fails_once_is_no_finding_and_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path, [2, 2])

    def failing(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(shard_files, "FIRST_WAIT_S", 0.0)
        patched.setattr("tips_bench.corpus.look.sha256", failing)
        done = check(tmp_path)
    assert done.exit_code == 2 and f"{tmp_path}/train-000.tar: the shard cannot be read (Input/output error)" in done.stderr
    report = found(tmp_path)
    assert report["samples"] == 4 and report["faults"] == []


def test_languages_are_told_when_the_package_was_installed_after_the_first_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path, [2])
    with monkeypatch.context() as patched:
        for module in ("check", "look"):
            patched.setattr(f"tips_bench.corpus.{module}.knows_languages", lambda: False)
        assert found(tmp_path)["languages"] == {}
    assert sum(found(tmp_path)["languages"].values()) == 2  # type: ignore[attr-defined]


def test_the_page_shows_the_counts_and_escapes_what_strangers_wrote(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [sample(0, json=b'{"web": "<script>alert(1)</script>"}')])
    assert check(tmp_path, "--html", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and page.count("<figure>") == 1 and "<svg" in page
    assert "http" not in page.replace("http-equiv", ""), "it needs nothing from elsewhere"


def test_bars_are_as_high_as_their_counts() -> None:
    drawn = str(bars([("a", 1), ("b<", 4)]))
    assert 'height="122.0"' in drawn and 'height="30.5"' in drawn and "b&lt;" in drawn and "80%" in drawn
    assert "&lt;5" in str(histogram([0, 0], [5])) and histogram([], [5]) == ""


def test_the_readme_follows_from_the_manifest(tmp_path: Path) -> None:
    text = readme("mine", corpus(tmp_path))
    assert "6 images with captions in 2 tar shards" in text and "| CC0-1.0 | 6 |" in text and "| y | 3 |\n| x | 1 |" in text
    assert "a\\|b\\*" in text, "as it is, and inside the table"
    assert (tmp_path / "README.md").read_text().splitlines()[1:] == readme(tmp_path.name, corpus(tmp_path)).splitlines()[1:]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of rdflib, and of the checker's own calls
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves files open
def test_croissants_own_checker_reads_images_and_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path / "cache"))
    import mlcroissant

    folder = tmp_path / "corpus"
    folder.mkdir()
    manifest = corpus(folder)
    data_set = mlcroissant.Dataset(str(folder / "croissant.json"))
    assert not data_set.metadata.issues.errors
    assert data_set.metadata.to_json()["name"] == "corpus" == croissant("corpus", manifest)["name"]
    hashes = {one["@id"]: one.get("sha256") for one in data_set.metadata.to_json()["distribution"]}
    assert [hashes[shard.name] for shard in manifest.shards] == [shard.sha256 for shard in manifest.shards]
    images = {one["samples/key"]: one["samples/image"].size for one in data_set.records("samples")}
    captions = {one["about/key"]: json.loads(one["about/json"])["web"] for one in data_set.records("about")}
    keys = [f"{n}{k}".encode() for n in range(2) for k in range(3)]
    assert images == dict.fromkeys(keys, (48, 40)) and captions == {key: f"a {int(key[1:])}" for key in keys}


def test_a_step_that_has_not_ended_is_no_corpus(tmp_path: Path) -> None:
    raw = image_folder(tmp_path / "raw", 2)
    done = check(raw)
    assert done.exit_code == 2 and "no shards (*.tar) are here" in done.stderr
    (raw / ".begun.json").write_text("{}")
    assert "has not ended" in check(raw).stderr
