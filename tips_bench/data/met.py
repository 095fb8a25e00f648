"""The Met dataset: exhibits of a museum, photos of visitors, and photos that show no exhibit.

    ROOT/ground_truth/MET_database.json, mini_MET_database.json     [{"path": "MET/1/0.jpg", "id": 1}, ...]
    ROOT/ground_truth/testset.json, valset.json                     [{"path": "test_met/0.jpg", "MET_id": 1}, {"path": ...}, ...]
    ROOT/images/PATH

Layout: Ypsilantis et al., The Met Dataset (NeurIPS Datasets and Benchmarks 2021), as nikosips/met dea402c reads it
(code/utils/datasets.py:32-67 and 101-131). A query without MET_id is a distractor. Splits: database, mini, test, val.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from tips_bench.data.base import ImageSample
from tips_bench.data.dataset_files import inside
from tips_bench.data.image_files import ImageFiles
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

HOW = "Get images and ground truth from cmp.felk.cvut.cz/met, and unpack them into images/ and ground_truth/."
LISTS = {"database": "MET_database", "mini": "mini_MET_database", "test": "testset", "val": "valset"}
DISTRACTOR = -1


class Entry(BaseModel):
    """One image of a list; other keys are passed over. id: of the exhibit, in the database. MET_id: the same of a query."""

    path: Annotated[str, Field(min_length=1)]
    id: Annotated[int, Field(ge=0)] | None = None
    MET_id: Annotated[int, Field(ge=0)] | None = None


ENTRIES = TypeAdapter(Annotated[list[Entry], Field(min_length=1)])


class MetReader(ImageFiles):
    """One split. Ids are paths under images/. labels_N: the exhibit of each image, DISTRACTOR where there is none."""

    turned = False
    classes: tuple[str, ...] = ()

    def __init__(self, split: str, root: Path, labels: dict[str, int]) -> None:
        super().__init__("met", split, root, {path: f"{root}/images/{path}" for path in labels}, how=HOW)
        self.labels_N = np.array([labels[id] for id in self.ids], dtype=np.int64)
        self.fingerprint = digest(split, *self.ids, *self.image_bytes, *self.labels_N)

    def load(self, index: int) -> ImageSample:
        """Decode one image. Errors: a broken or missing file."""
        return ImageSample(self.ids[index], self.groups[index], self.image(index))


def met(root: str | Path, split: str) -> MetReader:
    """One list. Splits: database, mini, test, val. Errors: a list that is missing or broken, an image listed twice."""
    root = Path(root)
    if split not in LISTS:
        raise unknown_name("split", split, list(LISTS), where="met")
    path, labels = root / "ground_truth" / f"{LISTS[split]}.json", dict[str, int]()
    try:
        entries = ENTRIES.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path, fix=HOW) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"not a list of the Met dataset: {place}: {first['msg']}", where=path, fix=HOW) from error
    for entry in entries:
        label = entry.id if split in ("database", "mini") else entry.MET_id
        if label is None and split in ("database", "mini"):
            raise UserError(f"the image {entry.path!r} has no id", where=path, fix=HOW)
        labels[inside(entry.path, path)] = DISTRACTOR if label is None else label
    if len(labels) != len(entries):
        raise UserError(f"{len(entries) - len(labels)} images are listed twice", where=path, fix=HOW)
    return MetReader(split, root, labels)
