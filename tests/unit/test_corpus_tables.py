"""Tables of every kind give the rows that their writers meant, and what cannot be read is said when they are opened."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
from pyarrow import parquet

from tips_bench.corpus.sources.links import Manner
from tips_bench.corpus.sources.tables import Columns, TableSource, read
from tips_bench.errors import UserError

ROWS = [{"url": "http://a/0.jpg", "text": "a chair"}, {"url": "http://a/1.jpg", "text": "a lamp, red"}]


def links_in(path: Path, **columns: Any) -> list[tuple[Any, Any]]:
    """(link, caption) of each row of a list of links."""
    parts = TableSource([path], Columns(**columns), Manner()).parts(1000)
    return [(link, said.get("web")) for part in parts for link, said in part["rows"]]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a file of the kind that its name says."""
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    mark = {"csv": ",", "tsv": "\t"}.get(kind)
    lines = (
        [json.dumps(row) for row in rows]
        if mark is None
        else [mark.join(map(json.dumps, row)) for row in (rows[0], *map(dict.values, rows))]
    )
    data = "\n".join([*lines, ""]).encode()
    path.write_bytes(gzip.compress(data) if path.name.lower().endswith(".gz") else data)
    return path


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz"])
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_the_kind_of_a_file_does_not_depend_on_the_case_of_its_name(tmp_path: Path, kind: str, case: Any) -> None:
    assert links_in(written(tmp_path / f"links.{case(kind)}", ROWS)) == [(row["url"], row["text"]) for row in ROWS]


def test_the_parts_of_a_table_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    written(tmp_path / "here" / "a.parquet", [{"image": b"0", "text": "a chair"}])
    monkeypatch.chdir(tmp_path / "here")
    (part,) = TableSource([Path("a.parquet")], Columns(), Manner()).parts(10)
    monkeypatch.chdir(tmp_path)
    assert [(one.image, one.said["web"]) for one in read(lambda _: None, **part)] == [(b"0", "a chair")]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_spaces_around_a_link_are_not_part_of_it(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"a.{kind}", [{"url": " http://a/0.jpg  ", "text": "a chair"}])
    (part,) = TableSource([path], Columns(), Manner()).parts(10)
    assert part["rows"] == [["http://a/0.jpg", {"url": "http://a/0.jpg", "web": "a chair"}]]
    (tmp_path / "b.tsv").write_text("a lamp\t http://a/1.jpg\n")
    assert links_in(tmp_path / "b.tsv") == [("http://a/1.jpg", "a lamp")]


def test_columns_of_json_lines_are_those_of_the_first_hundred_rows(tmp_path: Path) -> None:
    rows = [{"id": number} for number in range(98)] + [{"url": "http://a/98.jpg"}, {"Caption": "a chair", "url": "http://a/99.jpg"}]
    assert links_in(written(tmp_path / "a.jsonl", rows))[98:] == [("http://a/98.jpg", None), ("http://a/99.jpg", "a chair")]
    with pytest.raises(UserError, match=r"no column of images or links.*The file has: id\."):
        links_in(written(tmp_path / "b.jsonl", [{"id": 1}] * 100 + rows[98:]))


RAW = [
    '"Moon" print',
    'Print: "Moon"',
    '"Moon',
    '"Moon"',
    'a 5" pipe',
    '"a" and "b"',
    '"',
    '"an open one',
    "plain",
    'He said "hello"',
    '"The last one, open',
]


@pytest.mark.parametrize("order", ["caption first", "link first"])
@pytest.mark.parametrize("header", [True, False])
def test_a_list_that_quotes_nothing_keeps_its_quotes_and_all_its_rows(tmp_path: Path, order: str, header: bool) -> None:
    way = 1 if order == "link first" else -1
    for turned in range(len(RAW)):
        texts = RAW[turned:] + RAW[:turned]
        wanted = [(f"http://a/{number}.jpg", text) for number, text in enumerate(texts)]
        lines = ["\t".join(pair[::way]) for pair in [*([("url", "caption")] if header else []), *wanted]]
        (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n")
        assert links_in(tmp_path / "a.tsv") == wanted


QUOTED = [
    'The "Moon" print',
    '"Moon"',
    "two\tfields",
    "two\nlines",
    'all:\t"a"\n\n"b"\n',
    "\n",
    "\t\t",
    "\r\na",
    "plain",
    "three\nshort\nlines",
    '"',
    'a 5" pipe',
]


@pytest.mark.parametrize(
    "order", [["text", "url"], ["url", "text"], ["url", "text", "score"], ["text", "score", "url"], ["text", "url", "text2"]]
)
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_a_list_that_a_tool_quoted_comes_out_as_it_went_in(tmp_path: Path, order: list[str], quoting: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        texts = [QUOTED[at] for at in rng.permutation(len(QUOTED))]
        links = [f"http://a/{number}.jpg" for number in range(len(texts))]
        table = pandas.DataFrame({"url": links, "text": texts, "score": 0.5, "text2": [" ".join(text.splitlines()) for text in texts]})[
            order
        ]
        table.to_csv(tmp_path / "a.tsv", sep="\t", index=False, quoting=quoting)
        assert links_in(tmp_path / "a.tsv") == list(zip(links, texts, strict=True))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('"two\tfields"\thttp://a/0\n"two\nlines"\thttp://a/1\n', ["two\tfields", "two\nlines"]),
        ('http://a/0\t"first\nsecond"\nhttp://a/1\tplain\n', ["first\nsecond", "plain"]),
        ('"plain"\t"http://a/0"\n"Say ""a"""\t"http://a/1"\n', ["plain", 'Say "a"']),
        ('"open\thttp://a/0\r\n\r\n"open, too\thttp://a/1', ['"open', '"open, too']),
        ('a\thttp://a/0\n"short\n"Moon" print\thttp://a/1\n', ["a", '"Moon" print']),
    ],
)
def test_lists_without_a_header_are_read_by_their_first_lines(tmp_path: Path, text: str, wanted: list[str]) -> None:
    (tmp_path / "a.tsv").write_text(text, newline="")
    assert [caption for link, caption in links_in(tmp_path / "a.tsv") if link] == wanted


NOT_UTF8 = b"a caf\xe9"
TEXT_KINDS = {
    "string": pyarrow.string(),
    "large_string": pyarrow.large_string(),
    "string_view": pyarrow.string_view(),
    "binary": pyarrow.binary(),
    "list": pyarrow.list_(pyarrow.string()),
    "dictionary": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
}


@pytest.mark.parametrize("kind", TEXT_KINDS)
@pytest.mark.parametrize("image", [True, False])
def test_a_text_that_is_not_utf8_is_read_with_a_mark_in_its_place(tmp_path: Path, kind: str, image: bool) -> None:
    texts = [b"a chair", None, NOT_UTF8]
    plain = pyarrow.array(texts, pyarrow.binary())
    column = {
        "list": lambda: pyarrow.ListArray.from_arrays(pyarrow.array([0, 1, 1, 3]), text_array(plain, pyarrow.string())),
        "dictionary": lambda: pyarrow.DictionaryArray.from_arrays(
            pyarrow.array([0, None, 1], pyarrow.int32()), text_array(plain.drop_null(), pyarrow.string())
        ),
    }.get(kind, lambda: text_array(plain, TEXT_KINDS[kind]))()
    paths = text_array(plain, pyarrow.string())
    images = pyarrow.StructArray.from_arrays([pyarrow.array([b"0", b"1", b"2"]), paths], ["bytes", "path"])
    links = pyarrow.array([b"http://a/%d" % number for number in range(3)], pyarrow.binary() if kind == "binary" else pyarrow.string())
    parquet.write_table(
        pyarrow.table({"image": images, "text": column} if image else {"url": links, "text": column}), tmp_path / "a.parquet"
    )
    wanted = [["a chair"], [], ["a caf\ufffd"]] if kind == "list" else ["a chair", None, "a caf\ufffd"]
    (part,) = TableSource([tmp_path / "a.parquet"], Columns(), Manner()).parts(10)
    if image:
        assert [(one.image, one.said.get("web")) for one in read(lambda _: None, **part)] == list(
            zip([b"0", b"1", b"2"], wanted, strict=True)
        )
    else:
        assert part["rows"] == [
            [f"http://a/{number}", {"url": f"http://a/{number}"} | ({} if text is None else {"web": text})]
            for number, text in enumerate(wanted)
        ]
    json.dumps(part)


def text_array(plain: Any, kind: Any) -> Any:
    """Texts of bytes that need not be UTF-8."""
    if kind == pyarrow.string_view():
        return plain.cast(pyarrow.binary_view()).view(kind)
    return plain.cast(pyarrow.large_binary()).view(kind) if kind == pyarrow.large_string() else plain.view(kind)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_caption_that_is_an_object_is_asked_for_by_its_field(tmp_path: Path, kind: str) -> None:
    said = [{"en": "a chair", "de": "ein Stuhl"}, {"en": None, "de": "eine Lampe"}, None]
    rows = [{"url": f"http://a/{number}", "caption": one, "more": [one] * 2} for number, one in enumerate(said)]
    path = written(tmp_path / f"a.{kind}", rows)
    with pytest.raises(
        UserError, match=r"the column 'caption' has fields: (en, de|de, en)\. Name the one .* --caption-column caption\.(en|de)\."
    ):
        links_in(path)
    with pytest.raises(UserError, match=r"there is no column 'caption\.fr'"):
        links_in(path, caption="caption.fr")
    with pytest.raises(UserError, match=r"there is no column 'caption\.en'"):
        links_in(path, link="caption.en")
    assert [text for _, text in links_in(path, caption="caption.en")] == ["a chair", None, None]
    assert [text for _, text in links_in(path, caption="more.de")] == [["ein Stuhl"] * 2, ["eine Lampe"] * 2, []]


def test_only_a_column_that_can_hold_images_is_one_of_images(tmp_path: Path) -> None:
    rows = [{"image": "photos/0.jpg", "url": "http://a/0", "text": "a chair"}]
    for kind in ("csv", "tsv", "jsonl", "parquet"):
        path = written(tmp_path / f"a.{kind}", rows)
        assert links_in(path) == [("http://a/0", "a chair")]
        with pytest.raises(UserError, match="the column 'image' holds no images"):
            links_in(path, image="image")
