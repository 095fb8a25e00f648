"""Tables (rows.py) as sources: images in their rows, or links. On a disk or in object storage, as data sets of a hub are.

An image is a column of bytes, or of {bytes, path} as Hugging Face's data sets have it. The caption's column, of texts or lists of them,
becomes "web"; other columns of plain values are kept under their names.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tips_bench.corpus.sources.base import Found, Refuse, batched, full_name, ranges
from tips_bench.corpus.sources.links import Manner
from tips_bench.corpus.sources.rows import Holds, columns_of, count_of, parquet_file, rows_in, rows_of
from tips_bench.corpus.store import Step
from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.strict import Strict
from tips_bench.training.shard_files import shard_path

LINKS, CAPTIONS, PICTURES = ("url",), ("caption", "text", "alt_text", "alt", "web"), ("image", "jpg", "png", "webp", "img")
PLAIN = (str, int, float, bool, bytes)


class Columns(Strict):
    """Names of columns; None = the first that has a usual name: url; caption, text, alt_text, alt, web; image, jpg, png, webp, img.

    Where there are images, no link is followed, and one that was named is kept as "url". caption: or COLUMN.FIELD of a column of objects.
    """

    link: str | None = None
    caption: str | None = None
    image: str | None = None

    def found_in(self, known: Mapping[str, Holds], where: object) -> Columns:
        """These columns as a file calls them, whatever the case of letters.

        Errors: one that is not there, or that holds no images or no captions; neither image nor link.
        """
        names = ", ".join(known)[:300]
        column, _, field = (self.caption or "").partition(".")
        within = {self.caption} if field in known.get(column, Holds()).fields else set()
        for name in filter(None, (self.link, self.caption, self.image)):
            if name not in known.keys() | within:
                raise UserError(f"there is no column {name!r}", where=where, fix=f"It has: {names}.")
        if self.image and not known.get(self.image, Holds()).image:
            fix = "Name a column of bytes, or of {bytes, path}, in a Parquet file or a saved data set."
            raise UserError(f"the column {self.image!r} holds no images", where=where, fix=fix)
        image, link = self.image or (None if self.link else _usual(PICTURES, known, image=True)), self.link or _usual(LINKS, known)
        if image is None and link is None:
            fix = f"Name it with --url-column or --image-column. The file has: {names}."
            raise UserError("there is no column of images or links", where=where, fix=fix)
        return Columns(link=self.link if image else link, caption=self.captions_in(known, where), image=image)

    def captions_in(self, known: Mapping[str, Holds], where: object) -> str | None:
        """The column of captions as a file calls it; None where it has none. Errors: one that holds objects with several texts."""
        caption = self.caption or _usual(CAPTIONS, known)
        if caption is not None and (fields := known.get(caption, Holds()).fields):
            fix = f"Name the one that is the caption, for example with --caption-column {caption}.{fields[0]}."
            raise UserError(f"the column {caption!r} has fields: {', '.join(fields)[:300]}", where=where, fix=fix)
        return caption


def has_images(table: Path) -> bool:
    """Whether a file that can be read has a column of images with a usual name."""
    with suppress(UserError):
        return _usual(PICTURES, columns_of(table), image=True) is not None
    return False


def _usual(usual: tuple[str, ...], known: Mapping[str, Holds], *, image: bool = False) -> str | None:
    """The first of the usual names that a column has. image: of columns that may hold images."""
    return next((name for one in usual for name, holds in known.items() if name.lower() == one and (holds.image or not image)), None)


class TableSource:
    """Rows of files. links: how links are followed. Errors: a file that is none, no column of images or links, no pyarrow for Parquet."""

    def __init__(self, files: list[Path], columns: Columns, links: Manner) -> None:
        self.files = files
        self.columns = columns.found_in(columns_of(files[0]), files[0])
        self.options: tuple[str, ...] = ("--url-column", "--caption-column", "--image-column")
        if self.columns.image is None:
            self.read, self.manner = "tips_bench.corpus.sources.links:read", {"manner": links.model_dump(mode="json")}
            self.options += tuple(links.options())
        else:
            self.read, self.manner = "tips_bench.corpus.sources.tables:read", {}

    def identity(self) -> dict[str, Any]:
        """The names and sizes of the files, and the columns."""
        known = [f"{path.name} {path.stat().st_size}" for path in self.files]
        return {"kind": "table", "files": digest(*known), "columns": self.columns.model_dump(mode="json")}

    def steps(self) -> list[Step]:
        """None is known."""
        return []

    def parts(self, size: int) -> Iterator[dict[str, Any]]:
        """Links with what is said of them; or ranges of rows where they have the images."""
        if self.columns.image is not None:
            counts = ((full_name(path), count_of(path)) for path in self.files)
            yield from ({"ranges": some, "columns": self.columns.model_dump(mode="json")} for some in ranges(counts, size))
        else:
            rows = (row for path in self.files for row in rows_of(path))
            for some in batched(rows, size):
                yield {"rows": [[link_of(row, self.columns), said_of(row, self.columns)] for row in some]}


def read(refuse: Refuse, ranges: list[tuple[str, int, int]], columns: dict[str, Any]) -> Iterator[Found]:
    """The rows of a part of a table with images. Errors: a file that cannot be read."""
    known = Columns(**columns)
    for name, first, behind in ranges:
        with parquet_file(shard_path(name)) as table:
            begins = 0
            for group in range(table.metadata.num_row_groups):
                count = table.metadata.row_group(group).num_rows
                low, high = max(first - begins, 0), min(behind - begins, count)
                if low < high:
                    batches = table.read_row_group(group).slice(low, high - low).to_batches()
                    rows = itertools.chain.from_iterable(map(rows_in, batches))
                    yield from (found_in(row, known, f"{name}: row {begins + low + at}", refuse) for at, row in enumerate(rows))
                begins += count


def found_in(row: dict[str, Any], columns: Columns, name: str, refuse: Refuse) -> Found:
    """The sample of a row with an image."""
    image = row.get(columns.image or "")
    data = image.get("bytes") if isinstance(image, dict) else image
    said = said_of(row, columns)
    return Found(name, data, said, refuse(said) or "") if isinstance(data, bytes) else Found(name, said=said, fault="no image")


def link_of(row: dict[str, Any], columns: Columns) -> Any:
    """The link of a row, without spaces around it."""
    value = _as_text(row.get(columns.link or ""))
    return value.strip() if isinstance(value, str) else value


def said_of(row: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """What a row says beside its image."""
    said = {name: value for name, value in row.items() if name != columns.image and isinstance(value, str | int | float | bool)}
    said.pop(columns.caption or "", None)
    said.pop(columns.link or "", None)
    if isinstance(link := link_of(row, columns), str):
        said["url"] = link
    caption = captions_of(row, columns.caption or "")
    if caption is None:
        return said | ({"web": []} if "caption" in said else {})  # or else another column would be read as the caption
    return said | {"web": caption}


def captions_of(row: dict[str, Any], name: str) -> str | list[str] | None:
    """The text or the texts in a column, or in the field of a column; None where there is none."""
    column, _, field = name.partition(".")
    value = row[name] if name in row else _within(row.get(column), field)
    if isinstance(value, list):
        return [str(_as_text(one)) for one in value if isinstance(one, PLAIN)]
    return str(_as_text(value)) if isinstance(value, PLAIN) else None


def _within(value: Any, field: str) -> Any:
    """The field of an object, or of each of a list of them."""
    if isinstance(value, list):
        return [_within(one, field) for one in value]
    return value.get(field) if isinstance(value, dict) else None


def _as_text(value: Any) -> Any:
    """The text that some bytes are, as columns have it that do not say that they hold texts; another value as it is."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
