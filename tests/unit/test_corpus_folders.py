"""What is taken of a folder that holds several kinds of files: what is there before links to it, and captions wherever they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pytest
from pyarrow import parquet

from tests.helpers.corpora import fetched
from tests.helpers.shards import picture, sample, write_shard
from tips_bench.corpus.sources import named
from tips_bench.corpus.sources.base import Found, Source
from tips_bench.corpus.sources.named import Asked, open_source
from tips_bench.corpus.sources.tables import Columns
from tips_bench.errors import UserError
from tips_bench.registry import load_target


def found(source: Source) -> list[Found]:
    """All samples of a source."""
    return [one for part in source.parts(2) for one in load_target(source.read)(lambda _: None, **source.manner, **part)]


def captions(folder: object, **columns: Any) -> list[Any]:
    """Of all samples that a folder gives."""
    return [one.said.get("web") for one in found(open_source(str(folder), Asked(columns=Columns(**columns))))]


def write_table(path: object, rows: list[dict[str, Any]]) -> None:
    with fsspec.open(str(path), "wb", auto_mkdir=True) as file:
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "program", lambda: "img2dataset")


def downloaded(folder: str, kind: str) -> str:
    """What img2dataset leaves: two folders of images, or two shards of them, and beside each a table with their links."""
    files = fsspec.filesystem("memory" if "://" in folder else "file", auto_mkdir=True)
    for part in range(2):
        name, numbers = f"{folder}/{part:05d}", range(2 * part, 2 * part + 2)
        write_table(f"{name}.parquet", [{"url": f"http://a/{number}", "caption": f"link {number}"} for number in numbers])
        if kind == "shards":
            write_shard(Path(f"{name}.tar"), [sample(number) for number in numbers])
        else:
            files.pipe({f"{name}/{number:09d}.jpg": picture(number) for number in numbers})
            files.pipe({f"{name}/{number:09d}.txt": f"web {number}".encode() for number in numbers})
    return folder


@pytest.mark.usefixtures("no_links")
def test_images_are_taken_before_a_list_of_their_links_beside_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = downloaded(str(tmp_path / "files"), "files")
    assert captions(folder) == [f"web {number}" for number in range(4)]
    assert "holds 4 images, and 2 Parquet files without images: the images are taken" in caplog.text
    listed = open_source(folder, Asked(columns=Columns(link="url"))).parts(10)
    assert [said["web"] for part in listed for _, said in part["rows"]] == [f"link {number}" for number in range(4)]


@pytest.mark.usefixtures("no_links")
def test_images_in_storage_are_not_fetched_again_by_their_links(tmp_path: Path) -> None:
    folder = downloaded(f"memory://{tmp_path}/files", "files")
    with pytest.raises(UserError, match=r"a folder of images is read on a disk only\. Copy the folder to a disk\."):
        open_source(folder, Asked())
    assert len(next(iter(open_source(folder, Asked(columns=Columns(link="url"))).parts(10)))["rows"]) == 4


def test_shards_in_folders_are_taken_before_tables(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_table(tmp_path / "metadata" / "0.parquet", [{"url": "http://a/0", "image": picture(0)}])
    downloaded(str(tmp_path / "shards"), "shards")
    assert captions(tmp_path) == [f"web {number}" for number in range(4)] and "holds" not in caplog.text
    (tmp_path / "example.PNG").write_bytes(picture(1))
    assert len(captions(tmp_path)) == 4
    assert "holds shards, which are taken, and 1 image outside of them" in caplog.text


def test_a_table_of_images_may_have_a_picture_beside_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_table(tmp_path / "a" / "0.PARQUET", [{"image": picture(0), "text": "in the table"}])
    (tmp_path / "logo.png").write_bytes(picture(1))
    assert captions(tmp_path) == ["in the table"] and "holds" not in caplog.text
    write_table(tmp_path / "b.parquet" / "part-0.parquet", [{"image": picture(0), "text": "of a folder with the name of a file"}])
    assert captions(tmp_path / "b.parquet") == ["of a folder with the name of a file"]


@pytest.mark.parametrize("kind", ["files", "shards"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_corpus_that_is_made_in_its_source_is_no_part_of_it(tmp_path: Path, kind: str, whole: bool) -> None:
    folder = downloaded(str(tmp_path), kind)
    out = fetched(folder, tmp_path / "out")
    if not whole:
        (out / "corpus.json").rename(out / ".begun.json")
    assert captions(folder) == [f"web {number}" for number in range(4)]
    if whole:
        fetched(folder, out)


def test_a_folder_of_corpora_is_read_with_their_history(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fetched(downloaded(str(tmp_path / "from" / name), "shards"), tmp_path / "to" / name)
    source = open_source(str(tmp_path / "to"), Asked())
    assert [one.said["web"] for one in found(source)] == [f"web {number}" for number in range(4)] * 2
    assert [step.samples for step in source.steps()] == [4, 4]
