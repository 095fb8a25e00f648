"""`corpus fetch` takes of a source what was asked for: its split, its captions, its licenses, its history, and nothing silently."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.helpers.corpora import corpus, fetched, image_folder, samples_of
from tests.helpers.shards import picture, sample, write_shard
from tips_bench.corpus import fetch as fetching
from tips_bench.corpus.sources.links import Manner
from tips_bench.corpus.sources.tables import Columns, TableSource


def refused(source: object, to: Path, *options: object) -> str:
    done = corpus("fetch", source, "--to", to, *options)
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1 and not to.exists(), done.output
    return done.stderr


def dropped(to: Path) -> list[tuple[str, str, str]]:
    return [tuple(json.loads(line).values()) for line in (to / "dropped.jsonl").read_text().splitlines()]


def write_table(address: str, rows: list[dict[str, Any]]) -> None:
    import fsspec
    import pyarrow
    from pyarrow import parquet

    with fsspec.open(address, "wb", auto_mkdir=True) as file:
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)


def rows(first: int, count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"image": {"bytes": picture(number)}, "text": f"web {number}"} | more for number in range(first, first + count)]


@pytest.mark.parametrize("place", ["local", "memory"])
def test_test_images_stay_out_of_a_corpus_of_the_training_split(tmp_path: Path, place: str) -> None:
    import fsspec

    hub = str(tmp_path / "hub") if place == "local" else f"memory://{tmp_path}/hub"
    write_table(f"{hub}/en/train-00000-of-00002.parquet", rows(0, 2))
    write_table(f"{hub}/en/train-00001-of-00002.parquet", rows(2, 1))
    write_table(f"{hub}/en/test-00000-of-00001.parquet", rows(3, 2))
    write_table(f"{hub}/de/train-00000-of-00001.parquet", rows(5, 1))
    assert "several configurations. Choose one with --config: de, en." in refused(hub, tmp_path / "out", "--split", "train")
    assert "several splits. Choose one with --split: test, train." in refused(f"{hub}/en", tmp_path / "out")
    assert "there is no split named 'tain'" in refused(f"{hub}/en", tmp_path / "out", "--split", "tain")
    out = fetched(f"{hub}/en", tmp_path / "out", "--split", "train")
    assert [one.said["web"] for one in samples_of(out)] == ["web 0", "web 1", "web 2"]
    assert len(samples_of(fetched(hub, tmp_path / "same", "--split", "train", "--config", "en"))) == 3
    readme = "---\nconfigs:\n- config_name: plain\n  data_files:\n  - {split: mine, path: de/*}\n  - {split: theirs, path: en/test*}\n---\n"
    fsspec.filesystem("file" if place == "local" else "memory").pipe(f"{tmp_path}/hub/README.md", readme.encode())
    assert "Choose one with --split: mine, theirs." in refused(hub, tmp_path / "no")
    assert [one.said["web"] for one in samples_of(fetched(hub, tmp_path / "mine", "--split", "mine"))] == ["web 5"]


def test_shards_of_a_split_are_chosen_by_their_names(tmp_path: Path) -> None:
    (hub := tmp_path / "hub").mkdir()
    write_shard(hub / "cc3m-train-0000.tar", [sample(0)])
    write_shard(hub / "cc3m-validation-0000.tar", [sample(1)])
    assert "several splits" in refused(hub, tmp_path / "out")
    assert [one.said["web"] for one in samples_of(fetched(hub, tmp_path / "out", "--split", "validation"))] == ["web 1"]


def test_a_license_is_seen_whatever_the_case_of_its_column(tmp_path: Path) -> None:
    for name, column in (("a", "LICENSE"), ("b", "licence")):
        stated = ["CC-BY 4.0", "?", "", None]
        table = [row | {column: one} for row, one in zip(rows(0, 4), stated, strict=True)]
        write_table(str(tmp_path / name / "0.parquet"), table)
        out = fetched(tmp_path / name, tmp_path / f"{name}-out", "--license", "X")
        assert [one.said["license"] for one in samples_of(out)] == ["CC-BY 4.0", "X", "X", "X"]
        without = json.loads((fetched(tmp_path / name, tmp_path / f"{name}-none") / "corpus.json").read_text())
        assert without["steps"][0]["licenses"] == {"CC-BY 4.0": 1, "not stated": 3}


def test_options_that_say_nothing_about_a_source_are_refused(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", 2)
    (shards := tmp_path / "shards").mkdir()
    write_shard(shards / "00000.tar", [sample(0)])
    write_table(str(tmp_path / "table" / "0.parquet"), rows(0, 1))
    made = fetched(photos, tmp_path / "made")
    for source, option, value in [
        (photos, "--split", "train"),
        (photos, "--url-column", "url"),
        (photos, "--threads", 4),
        (shards, "--image-column", "jpg"),
        (shards / "00000.tar", "--split", "train"),
        (made, "--split", "train"),
        (photos, "--config", "en"),
        (tmp_path / "table", "--user-agent", "me"),
        (tmp_path / "table", "--give-up", 0),
        (tmp_path / "table" / "0.parquet", "--split", "train"),
    ]:
        assert f"{option} says nothing about this kind of source" in refused(source, tmp_path / "out", option, value)
    assert "the names of the files tell no split" in refused(tmp_path / "table", tmp_path / "out", "--split", "train")


def test_captions_of_shards_and_folders_are_found_under_another_key(tmp_path: Path) -> None:
    (shards := tmp_path / "shards").mkdir()
    said = [{"caption": "old 0", "re_caption": "new 0"}, {"caption": "old 1"}, {"web": "old 2", "re_caption": ["new 2", "more"]}]
    write_shard(shards / "00000.tar", [sample(number, json=json.dumps(one).encode(), txt=None) for number, one in enumerate(said)])
    (photos := tmp_path / "photos").mkdir()
    for number, one in enumerate(said):
        (photos / f"{number}.jpg").write_bytes(picture(number))
        (photos / f"{number}.json").write_text(json.dumps(one))
    for source in (shards, shards / "00000.tar", photos):
        out = fetched(source, tmp_path / source.stem / "out", "--caption-column", "re_caption")
        assert [one.said.get("web") for one in samples_of(out)] == ["new 0", [], ["new 2", "more"]]
        assert samples_of(out)[0].said["caption"] == "old 0"
        text = refused(source, tmp_path / "no", "--caption-column", "re-caption")
        assert "not one of the first 3 samples has a caption 're-caption'. The first one has:" in text and "re_caption" in text


def test_places_and_serial_numbers_of_img2dataset_stay_out_of_a_corpus(tmp_path: Path) -> None:
    exif = {
        "Image Make": "A maker",
        "Image Model": "\ud83d",
        "Image Orientation": "Rotated 90 CW",
        "GPS GPSLatitude": "[52, 31, 12]",
        "EXIF BodySerialNumber": "7",
    }
    stated = [json.dumps(exif), {"Make": "A maker", "GPSInfo": 1}, "no JSON", "[]", None]
    (shards := tmp_path / "shards").mkdir()
    said = [json.dumps({"caption": "a room", "exif": one, "EXIF": exif}).encode() for one in stated]
    write_shard(shards / "0.tar", [sample(number, json=one) for number, one in enumerate(said)])
    out, ours = fetched(shards, tmp_path / "out", "--most-side", 32), {"Make": "A maker", "Model": "?"}
    assert [one.said.get("exif") for one in samples_of(out)] == [ours, {"Make": "A maker"}, None, None, None]
    assert not any("EXIF" in one.said for one in samples_of(out))
    assert samples_of(fetched(out, tmp_path / "again"))[0].said["exif"] == ours


def test_half_an_emoji_in_a_text_ends_no_step(tmp_path: Path) -> None:
    half = {"web": ["a room \ud83d", "a sofa"], "title": {"\ud83d": ["x\udc00"]}, "whole": "\U0001f600", "url": "http://127.0.0.1/\ud83d"}
    (photos := tmp_path / "photos").mkdir()
    (photos / "0.jpg").write_bytes(picture(0))
    (photos / "0.json").write_text(json.dumps(half))
    (photos / "1.jpg").write_bytes(b"no")
    (shards := tmp_path / "shards").mkdir()
    write_shard(shards / "00000.tar", [sample(0, json=json.dumps(half).encode(), txt=None)])
    (tmp_path / "links.jsonl").write_text(json.dumps(half | {"caption": half["web"][0]}))
    for source in (photos, shards):
        (one,) = samples_of(fetched(source, tmp_path / source.name / "out"))
        assert one.said["web"] == ["a room ?", "a sofa"] and one.said["title"] == {"?": ["x?"]} and one.said["whole"] == "\U0001f600"
    (part,) = TableSource([tmp_path / "links.jsonl"], Columns(), Manner()).parts(1)
    assert part["rows"][0][0] == "http://127.0.0.1/?" and part["rows"][0][1]["web"] == "a room ?"
    done = corpus("caption", shards, "--to", tmp_path / "captioned", "--captioner", "pixels")
    assert done.exit_code == 0 and samples_of(tmp_path / "captioned")[0].said["web"][0] == "a room ?", done.output
    done = corpus("curate", shards, "--to", tmp_path / "curated", "--encoder", "pixels", "--dedup")
    assert done.exit_code == 0 and samples_of(tmp_path / "curated")[0].said["web"][0] == "a room ?", done.output
    assert corpus("check", shards, "--html", tmp_path / "page.html").exit_code == 0
    assert "a room ?" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_names_of_files_that_are_no_utf_8_are_read_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos := tmp_path / "photos").mkdir()
    for number, name in enumerate((b"caf\xe8", b"caf\xe9", b"torn\xe9")):
        (photos / os.fsdecode(name + b".jpg")).write_bytes(picture(number) if name != b"torn\xe9" else b"no")
        (photos / os.fsdecode(name + b".txt")).write_text(f"web {number}")
    with monkeypatch.context() as patched:
        patched.setattr(fetching, "complete", lambda *_: None)
        assert "has not ended" in corpus("fetch", photos, "--to", tmp_path / "out").stderr
    out = fetched(photos, tmp_path / "out")
    assert [(one.said["web"], one.image) for one in samples_of(out)] == [(f"web {number}", picture(number)) for number in (0, 1)]
    assert dropped(out) == [("torn\\xe9.jpg", "broken image", "")]
    (photos / os.fsdecode(b"caf\xe8.jpg")).rename(photos / os.fsdecode(b"caf\xe7.jpg"))
    assert "made in another way" in corpus("fetch", photos, "--to", out).stderr


def test_names_in_shards_that_are_no_utf_8_end_no_step(tmp_path: Path) -> None:
    (shards := tmp_path / "shards").mkdir()
    with tarfile.open(shards / "0.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in ((b"caf\xe8.jpg", picture(0)), (b"caf\xe9.jpg", picture(1)), (b"torn\xe9.jpg", b"no")):
            member = tarfile.TarInfo(os.fsdecode(name))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    out = fetched(shards, tmp_path / "out")
    assert [one.image for one in samples_of(out)] == [picture(0), picture(1)]
    assert dropped(out) == [("0.tar: torn\\xe9", "broken image", "")]
    done = corpus("caption", shards, "--to", tmp_path / "captioned", "--captioner", "pixels")
    assert done.exit_code == 0 and [one.key for one in samples_of(tmp_path / "captioned")] == ["caf\\xe8", "caf\\xe9"], done.output
    assert dropped(tmp_path / "captioned") == [("0.tar/torn\\xe9", "short: broken image", "")]


def test_a_column_of_captions_may_have_lists_and_gaps(tmp_path: Path) -> None:
    more = [["a", "b"], [], None]
    table = [row | {"caption": "old", "re_caption": texts} for row, texts in zip(rows(0, 3), more, strict=True)]
    write_table(str(tmp_path / "table" / "0.parquet"), table)
    out = fetched(tmp_path / "table", tmp_path / "out", "--caption-column", "re_caption")
    assert [one.said["web"] for one in samples_of(out)] == [["a", "b"], [], []]


def encoded(kind: str, **more: Any) -> bytes:
    Image.new("RGB", (40, 30), (200, 40, 90)).save(buffer := io.BytesIO(), kind, **more)
    return buffer.getvalue()


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_images_of_other_formats_are_counted_and_named_in_every_kind_of_source(tmp_path: Path) -> None:
    files = {kind: encoded(kind.upper()) for kind in ("gif", "bmp", "tiff", "avif")} | {"heic": HEIC}
    named = {"gif": "GIF", "bmp": "BMP", "tiff": "TIFF", "avif": "AVIF", "heic": "HEIC"}
    (photos := tmp_path / "photos").mkdir()
    (shards := tmp_path / "shards").mkdir()
    for kind, data in files.items():
        (photos / f"{kind}.{kind}").write_bytes(data)
    for good in ("fine.jpg", "misnamed.gif"):
        (photos / good).write_bytes(picture(0))
    (photos / "notes.doc").write_text("no image")
    write_shard(
        shards / "00000.tar", [sample(0), *(sample(1 + at, jpg=None, **{kind: data}) for at, (kind, data) in enumerate(files.items()))]
    )
    write_table(
        str(tmp_path / "table" / "0.parquet"), [*rows(0, 1), *({"image": {"bytes": data}, "text": "other"} for data in files.values())]
    )
    for source, stay in ((photos, 2), (shards, 1), (tmp_path / "table", 1)):
        out = fetched(source, tmp_path / f"{source.name}-out")
        assert len(samples_of(out)) == stay
        assert {reason for _, reason, _ in dropped(out)} == {"format not read"}
        assert sorted(detail for _, _, detail in dropped(out)) == sorted(named.values())
    assert ("gif.gif", "format not read", "GIF") in dropped(tmp_path / "photos-out")


def test_large_images_are_made_smaller_and_small_ones_keep_their_bytes(tmp_path: Path) -> None:
    (photos := tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 9, 3), np.uint8)).resize((900, 600), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A maker", 6
    coarse.save(photos / "a.jpg", quality=95, exif=exif)
    coarse.convert("RGBA").save(photos / "b.png")
    coarse.convert("CMYK").save(photos / "c.jpg", quality=95)
    coarse.convert("P").save(photos / "d.webp", lossless=True)
    coarse.resize((9000, 10)).save(photos / "e.png")
    (photos / "f.jpg").write_bytes(encoded("JPEG"))
    out = fetched(photos, tmp_path / "out", "--most-side", 256, "--least-side", 10)
    found = samples_of(out)
    sizes = [(171, 256), (256, 171), (256, 171), (256, 171), (256, 1), (40, 30)]
    assert [(one.said["width"], one.said["height"]) for one in found] == sizes, "limits are those of the images as they came"
    assert [Image.open(io.BytesIO(one.image)).size for one in found] == sizes
    assert found[5].image == encoded("JPEG") and "original_width" not in found[5].said
    first = found[0].said
    assert (first["original_width"], first["original_height"]) == (600, 900) and first["exif"] == {"Make": "A maker"}
    for one, name in zip(found[:4], ("a.jpg", "b.png", "c.jpg", "d.webp"), strict=True):
        with Image.open(photos / name) as opened:
            wanted = ImageOps.exif_transpose(opened).convert("RGB").resize((one.said["width"], one.said["height"]), Image.Resampling.BOX)
        difference = np.asarray(wanted, np.float32) - np.asarray(Image.open(io.BytesIO(one.image)).convert("RGB"), np.float32)
        assert one.extension == "jpg" and np.abs(difference).mean() < 3, name
    step = json.loads((out / "corpus.json").read_text())["steps"][0]
    assert step["notes"] == {"made smaller, written as JPEG": 5} and step["settings"]["most_side"] == 256
    again = corpus("fetch", photos, "--to", out, "--least-side", 10)
    assert again.exit_code == 2 and "made in another way" in again.stderr


@pytest.mark.parametrize(("size", "made"), [((3000, 2), (64, 1)), ((2, 3000), (1, 64))])
def test_a_thin_photo_is_made_smaller_too(tmp_path: Path, size: tuple[int, int], made: tuple[int, int]) -> None:
    (photos := tmp_path / "photos").mkdir()
    Image.new("RGB", size, (200, 40, 90)).save(photos / "thin.jpg")
    (one,) = samples_of(fetched(photos, tmp_path / "out", "--most-side", 64))
    assert (one.said["width"], one.said["height"]) == Image.open(io.BytesIO(one.image)).size == made


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        (
            "cc3m.tsv",
            "a very red chair\thttp://a/0.jpg\nchair, 2\thttps://a/1.jpg\n",
            [("http://a/0.jpg", "a very red chair"), ("https://a/1.jpg", "chair, 2")],
        ),
        ("cc12m.tsv", "http://a/0.jpg\ta chair\n\nhttp://a/1.jpg\ta lamp\n", [("http://a/0.jpg", "a chair"), ("http://a/1.jpg", "a lamp")]),
        ("one.csv", "http://a/0.jpg\nhttp://a/1.jpg\n", [("http://a/0.jpg", None), ("http://a/1.jpg", None)]),
        ("headed.tsv", "caption\turl\na chair\thttp://a/0.jpg\nshort\n", [("http://a/0.jpg", "a chair"), (None, "short")]),
    ],
)
def test_lists_of_links_are_read_with_a_header_and_without(
    tmp_path: Path, name: str, text: str, wanted: list[tuple[str | None, str | None]]
) -> None:
    (tmp_path / name).write_text(text)
    source = TableSource([tmp_path / name], Columns(), Manner())
    (part,) = source.parts(100)
    assert [(link, said.get("web")) for link, said in part["rows"]] == wanted


def test_other_columns_of_a_list_without_a_header_are_kept_by_their_places(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("7,http://a/0.jpg,a red chair,0.5\n")
    (part,) = TableSource([tmp_path / "a.csv"], Columns(), Manner()).parts(9)
    assert part["rows"] == [["http://a/0.jpg", {"web": "a red chair", "url": "http://a/0.jpg", "column 1": "7", "column 4": "0.5"}]]


def test_image_folders_of_several_splits_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for folder in ("train/dogs", "val/dogs"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        (tmp_path / "images" / folder / "test_1.jpg").write_bytes(picture(1))
    fetched(tmp_path / "images" / "train", tmp_path / "one")
    assert "splits" not in caplog.text
    assert len(samples_of(fetched(tmp_path / "images", tmp_path / "all"))) == 2
    assert "holds folders of several splits (train, validation), and all of their images are taken" in caplog.text


@pytest.mark.parametrize("place", ["local", "memory"])
def test_the_history_of_a_corpus_is_found_beside_its_shards(tmp_path: Path, place: str) -> None:
    import fsspec

    raw = fetched(image_folder(tmp_path / "photos", 6), tmp_path / "raw", "--samples-per-shard", 3)
    address = str(raw)
    if place == "memory":
        address = f"memory://{tmp_path}/raw"
        fsspec.filesystem("memory").put(str(raw), f"{tmp_path}/raw", recursive=True)
    for number, source in enumerate((address, f"{address}/*.tar", f"{address}/00001.tar", f"{address}/{{00000..00001}}.tar")):
        out = fetched(source, tmp_path / f"out{number}")
        steps = json.loads((out / "corpus.json").read_text())["steps"]
        assert [step["samples"] for step in steps] == [6, 3 if "00001.tar" in source and "{" not in source else 6]
    files = fsspec.filesystem("memory" if place == "memory" else "file")
    files.rm(f"{raw.parent}/raw/corpus.json")
    for source in (address, f"{address}/*.tar"):
        assert "the step that makes this corpus has not ended" in refused(source, tmp_path / "no")


def test_a_saved_data_set_without_splits_has_only_its_own(tmp_path: Path) -> None:
    import datasets

    table = {"image": [picture(0)], "caption": ["a room"], "page": ["http://a/b"]}
    datasets.Dataset.from_dict(table, split="train").save_to_disk(str(tmp_path / "saved"))
    assert "there is no split named 'test'" in refused(tmp_path / "saved", tmp_path / "out", "--split", "test")
    out = fetched(tmp_path / "saved", tmp_path / "out", "--split", "train", "--url-column", "page", "--image-column", "image")
    assert samples_of(out)[0].said["url"] == "http://a/b"
