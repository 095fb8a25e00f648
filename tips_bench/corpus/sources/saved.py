"""Data sets that Hugging Face's `datasets` has saved to a disk (save_to_disk)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tips_bench.corpus.sources.base import Found, Refuse, ranges
from tips_bench.corpus.sources.rows import columns_in
from tips_bench.corpus.sources.tables import Columns, found_in
from tips_bench.corpus.store import Step
from tips_bench.errors import UserError, unknown_name

FILES = ("dataset_dict.json", "dataset_info.json")


class SavedSource:
    """The rows of one split. Errors: no `datasets`, no such split, no images in the rows."""

    read = "tips_bench.corpus.sources.saved:read"
    manner: dict[str, Any] = {}
    options: tuple[str, ...] = ("--url-column", "--caption-column", "--image-column")

    def __init__(self, folder: Path, columns: Columns, split: str | None) -> None:
        self.folder, self.split = folder.absolute(), split
        self.rows = _load(folder, split)
        named = columns.found_in(columns_in(self.rows.features.arrow_schema), folder)
        if named.image is None:
            fix = "Name their column with --image-column; for links, save the data set as Parquet (to_parquet)."
            raise UserError("the data set has no column of images", where=folder, fix=fix)
        self.columns = named.model_dump(mode="json")

    def identity(self) -> dict[str, Any]:
        """The fingerprint that `datasets` gives, the number of rows, and the columns."""
        return {"kind": "saved", "fingerprint": self.rows._fingerprint, "rows": len(self.rows), "columns": self.columns}

    def steps(self) -> list[Step]:
        """None is known."""
        return []

    def parts(self, size: int) -> Iterator[dict[str, Any]]:
        """Ranges of rows."""
        for ((_, first, behind),) in ranges([("", len(self.rows))], size):
            yield {"folder": str(self.folder), "split": self.split, "first": first, "behind": behind, "columns": self.columns}


def read(refuse: Refuse, folder: str, split: str | None, first: int, behind: int, columns: dict[str, Any]) -> Iterator[Found]:
    """The rows of a part."""
    from datasets import Image

    known = Columns(**columns)
    rows = _load(Path(folder), split)
    if isinstance(rows.features[known.image], Image):
        rows = rows.cast_column(known.image, Image(decode=False))
    for number in range(first, behind):
        yield found_in(rows[number], known, f"row {number}", refuse)


def _load(folder: Path, split: str | None) -> Any:
    if importlib.util.find_spec("datasets") is None:
        fix = "Run `pip install 'tips-bench[corpus]'`."
        raise UserError("`datasets` is not installed, which reads this data set", where=folder, fix=fix)
    import datasets

    loaded = datasets.load_from_disk(str(folder))
    if isinstance(loaded, datasets.Dataset):
        if split not in (None, str(loaded.split)):
            raise unknown_name("split", split, filter(None, [loaded.split and str(loaded.split)]), where=folder)
        return loaded
    if split is None:
        raise UserError("the data set has several splits", where=folder, fix=f"Choose one with --split: {', '.join(loaded)}.")
    if split not in loaded:
        raise unknown_name("split", split, loaded, where=folder)
    return loaded[split]
