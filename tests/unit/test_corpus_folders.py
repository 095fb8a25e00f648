"""What is taken of a folder that holds several kinds of files: what is there before links to it, and captions wherever they stand."""

from __future__ import annotations

import json
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


def photos(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(number))
    return folder


ROWS = [{"file_name": "a.jpg", "text": "a chair, red", "score": 1}, {"file_name": "./b/c.jpg", "text": 'a "lamp"', "score": 2}]


def image_folder(folder: Path, kind: str) -> Path:
    """Two images and a table of this kind that names them."""
    photos(folder, "a.jpg", "b/c.jpg")
    if kind == "parquet":
        write_table(folder / "metadata.parquet", ROWS)
    elif kind == "jsonl":
        (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    else:
        (folder / "metadata.csv").write_text('file_name,text,score\na.jpg,"a chair, red",1\n./b/c.jpg,"a ""lamp""",2\n')
    return folder


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_what_is_known_of_the_images_of_a_folder_stands_in_a_table(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    samples = found(open_source(str(image_folder(tmp_path, kind)), Asked()))
    assert [(one.said["web"], int(one.said["score"])) for one in samples] == [("a chair, red", 1), ('a "lamp"', 2)]
    assert "file_name" not in samples[0].said and not caplog.text


def test_captions_of_an_image_folder_are_those_that_hugging_face_reads(tmp_path: Path) -> None:
    import datasets

    folder = image_folder(tmp_path / "photos", "jsonl")
    theirs = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert captions(folder) == list(theirs["text"])


def test_the_nearest_of_several_tables_counts_and_what_lies_beside_an_image_before_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = photos(tmp_path, "a.jpg", "b/c.jpg", "b/d.jpg", "e.jpg", "f.jpg")
    rows = [{"file_name": name, "text": ["of above", name], "alt": {"en": name}} for name in ("a.jpg", "b/c.jpg", "b/d.jpg", "e.jpg")]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "b" / "metadata.csv").write_text("file_name,caption\nc.jpg,nearer\n")
    (folder / "e.txt").write_text("beside")
    wanted = [["of above", "a.jpg"], "nearer", ["of above", "b/d.jpg"], "beside", None]
    assert captions(folder) == wanted
    assert "1 of 5 images have no row in metadata.jsonl" in caplog.text
    assert captions(folder, caption="alt.en") == ["a.jpg", [], "b/d.jpg", "e.jpg", []]
    with pytest.raises(UserError, match="not one of the first 5 samples has a caption 'title'"):
        captions(folder, caption="title")


def test_another_table_called_metadata_is_passed_over_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = photos(tmp_path, "a.jpg")
    before = open_source(str(folder), Asked()).identity()
    (folder / "metadata.csv").write_text("id,text\n1,a chair\n")
    assert captions(folder) == [None] and "metadata.csv is not read: it has no column file_name" in caplog.text
    assert open_source(str(folder), Asked()).identity() == before
    (folder / "metadata.csv").write_text("file_name,text\na.jpg,a chair\n")
    assert open_source(str(folder), Asked()).identity() != before
