"""Revisited Oxford and Revisited Paris, with or without a million other images.

    ROOT/DATASET/gnd_DATASET.pkl      {imlist, qimlist, gnd: [{bbx, easy, hard, junk}, ...]}; DATASET: roxford5k, rparis6k
    ROOT/DATASET/jpg/NAME.jpg
    ROOT/revisitop1m/revisitop1m.txt  names of the other images, a line each, with their suffix
    ROOT/revisitop1m/jpg/NAME

Layout and lists: Radenovic et al., Revisiting Oxford and Paris (CVPR 2018), as filipradenovic/revisitop be39832 reads them
(python/dataset.py:13-50). bbx is the box (left, top, right, bottom) in pixels that a query is cut to; easy, hard and junk are places in
imlist. The pickle is read without running what it names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from tips_bench.cards import Strict, parse
from tips_bench.data.base import ImageSample
from tips_bench.data.dataset_files import inside, read_lines
from tips_bench.data.image_files import ImageFiles
from tips_bench.data.plain_pickle import read_plain_pickle
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

HOW = "Get the images and gnd_*.pkl as github.com/filipradenovic/revisitop says (python/download.py)."
KINDS = ("easy", "hard", "junk")
OTHERS = "revisitop1m"
Place = Annotated[int, Field(ge=0)]


class RevisitedOptions(Strict):
    """dataset: which of the two. distractors: whether the million other images are searched, too.

    group: "query", each by itself, or "landmark": queries whose names are the same but for the number at their end are resampled together.
    """

    dataset: Literal["roxford5k", "rparis6k"]
    distractors: bool = False
    group: Literal["query", "landmark"] = "landmark"


class Answers(BaseModel):
    """Of one query. bbx: left, top, right, bottom in pixels. The lists: places in imlist."""

    bbx: Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=4, max_length=4)]
    easy: list[Place]
    hard: list[Place]
    junk: list[Place]


class Truth(BaseModel):
    """What gnd_DATASET.pkl holds; keys that are not named here are passed over."""

    imlist: Annotated[list[str], Field(min_length=1)]
    qimlist: Annotated[list[str], Field(min_length=1)]
    gnd: list[Answers]


class RevisitedReader(ImageFiles):
    """One split. answers of a query: ids of the database's images by kind. Images are not turned: revisitop's loader passes over EXIF."""

    turned = False
    classes: tuple[str, ...] = ()

    def __init__(self, split: str, root: Path, images: dict[str, str], groups: dict[str, str], truth: Truth | None) -> None:
        super().__init__("revisited", split, root, images, how=HOW)
        self.groups = [groups.get(id, id) for id in self.ids]
        self.part_N = np.zeros(len(self.ids), dtype=np.int64)
        self.crops = False
        self._names = truth.imlist if truth else []
        found = dict(zip(truth.qimlist, truth.gnd, strict=True)) if truth else {}
        self._gnd = [found[id] for id in self.ids] if truth else []
        told = [value for one in self._gnd for value in (*one.bbx, "easy", *one.easy, "hard", *one.hard, "junk", *one.junk)]
        self.fingerprint = digest(*self.ids, *self.image_bytes, *told, *self._names)

    def answers(self, index: int) -> dict[str, tuple[str, ...]]:
        """Ids of the images of the database that are easy, hard and junk for a query."""
        if not self._gnd:
            return {}
        return {kind: tuple(self._names[place] for place in getattr(self._gnd[index], kind)) for kind in KINDS}

    def cropped(self) -> RevisitedReader:
        """The same queries, each cut to its box; images of the database stay whole."""
        if not self._gnd:
            return self
        other = RevisitedReader.__new__(RevisitedReader)
        other.__dict__ |= self.__dict__ | {"crops": True, "fingerprint": digest(self.fingerprint, "cropped")}
        return other

    def box(self, index: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of a query in pixels, rounded as Pillow's crop rounds it."""
        left, top, right, bottom = (round(value) for value in self._gnd[index].bbx)
        return left, top, right, bottom

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image in pixels, as `load` gives it."""
        if not self.crops:
            return super().size(index)
        left, top, right, bottom = self.box(index)
        return bottom - top, right - left

    def load(self, index: int) -> ImageSample:
        """Decode one image; what of a box lies outside the image is black. Errors: a broken or missing file, a box outside the image."""
        image_HW3 = self.image(index)
        if self.crops:
            (left, top, right, bottom), (height, width) = self.box(index), image_HW3.shape[:2]
            if not (left < right <= 2 * width and top < bottom <= 2 * height and -width <= left < width and -height <= top < height):
                problem = f"the box {self.box(index)} of an image of {height}x{width} pixels"
                raise UserError(problem, where=self.file(index), fix=HOW)
            image_HW3 = np.asarray(Image.fromarray(image_HW3).crop((left, top, right, bottom)))
        return ImageSample(self.ids[index], self.groups[index], image_HW3)


def revisited(root: str | Path, split: str, **options: Any) -> RevisitedReader:
    """Queries or the database. Splits: query, database. Errors: lists that are missing, broken or contradict each other."""
    root, chosen = Path(root), parse(RevisitedOptions, options, where="data.options")
    if split not in ("query", "database"):
        raise unknown_name("split", split, ["query", "database"], where="revisited")
    path = root / chosen.dataset / f"gnd_{chosen.dataset}.pkl"
    truth = _truth(path)
    names = truth.qimlist if split == "query" else truth.imlist
    images = {name: f"{root}/{chosen.dataset}/jpg/{inside(name, path)}.jpg" for name in names}
    if split == "database" and chosen.distractors:
        lines = root / OTHERS / f"{OTHERS}.txt"
        images |= {f"{OTHERS}/{name}": f"{root}/{OTHERS}/jpg/{inside(name, lines)}" for name in read_lines(lines)}
    groups = {name: name.rstrip("0123456789") for name in names} if chosen.group == "landmark" and split == "query" else {}
    return RevisitedReader(split, root, images, groups, truth if split == "query" else None)


def _truth(path: Path) -> Truth:
    data = read_plain_pickle(path)
    try:
        truth = Truth.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"not the lists of a revisited set: {place}: {first['msg']}", where=path, fix=HOW) from error
    if len(truth.gnd) != len(truth.qimlist):
        raise UserError(f"{len(truth.qimlist)} queries and the answers of {len(truth.gnd)}", where=path, fix=HOW)
    for names in (truth.imlist, truth.qimlist, [*truth.imlist, *truth.qimlist]):
        if len(set(names)) != len(names):
            raise UserError(f"the image {_twice(names)!r} is listed twice", where=path, fix=HOW)
    for name, one in zip(truth.qimlist, truth.gnd, strict=True):
        places = [*one.easy, *one.hard, *one.junk]
        if places and max(places) >= len(truth.imlist):
            raise UserError(f"the query {name!r} names image {max(places)} of {len(truth.imlist)}", where=path, fix=HOW)
        if len(set(places)) != len(places):
            raise UserError(f"an image is of two kinds for the query {name!r}", where=path, fix=HOW)
    return truth


def _twice(names: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
