"""Google Landmarks v2, retrieval: photos of landmarks, each searched in an index of 762k images, and any set in its layout.

    ROOT/ground_truth/retrieval_solution_v2.1.csv     id,images,Usage: ids of the index, and Public, Private or Ignored
    ROOT/metadata/index.csv                           id, a line each
    ROOT/index/A/B/C/ID.jpg, ROOT/test/A/B/C/ID.jpg   A, B, C: the first three letters of the id

Layout: Weyand et al., Google Landmarks Dataset v2 (CVPR 2020), as cvdfoundation/google-landmark 183f68a describes it (README.md, "Download
index set" to "Extracting the data"); the lists lie where its bucket has them. Ignored queries are left out, as tensorflow/models 3617973
has it (research/delf/delf/python/datasets/google_landmarks_dataset/dataset_file_io.py). Splits: index, and the queries public and private.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tips_bench.data.base import ImageSample
from tips_bench.data.image_files import ImageFiles
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

HOW = "Get the lists and the archives as github.com/cvdfoundation/google-landmark says, and unpack them into index/ and test/."
SOLUTION, INDEX = "ground_truth/retrieval_solution_v2.1.csv", "metadata/index.csv"
USAGES = {"public": "Public", "private": "Private"}  # split -> as the solution calls it
IGNORED = "Ignored"
ID = re.compile(r"[0-9A-Za-z]{16}")
DIRECTIONS = ("test to index",)


class LandmarkIndexReader(ImageFiles):
    """One split. Images are not turned: published loaders pass over EXIF. right: query -> ids of the index, empty for the index itself."""

    turned = False
    classes = DIRECTIONS

    def __init__(self, split: str, root: Path, images: dict[str, str], right: dict[str, tuple[str, ...]]) -> None:
        super().__init__("gldv2", split, root, images, how=HOW)
        self.part_N = np.zeros(len(self.ids), dtype=np.int64)
        self._right = right
        if right:
            found = _landmarks(right)
            self.groups = [found[id] for id in self.ids]
        told = [value for id in self.ids if id in right for value in (id, *right[id])]
        self.fingerprint = digest(split, *self.ids, *self.image_bytes, *told)

    def answers(self, index: int) -> dict[str, tuple[str, ...]]:
        """Ids of the images of the index that show the landmark of a query."""
        return {"right": self._right[self.ids[index]]} if self._right else {}

    def load(self, index: int) -> ImageSample:
        """Decode one image. Errors: a broken or missing file."""
        return ImageSample(self.ids[index], self.groups[index], self.image(index))


def gldv2(root: str | Path, split: str) -> LandmarkIndexReader:
    """The index, or the queries of one usage. Splits: index, public, private. Errors: lists that are missing, broken or contradict."""
    root = Path(root)
    if split != "index" and split not in USAGES:
        raise unknown_name("split", split, ["index", *USAGES], where="gldv2")
    known = [row[0] for row in _rows(root / INDEX, ["id"])]
    if split == "index":
        images = {id: _file(root, "index", id) for id in known}
        if len(images) != len(known):
            raise UserError(f"{len(known) - len(images)} images are listed twice", where=root / INDEX, fix=HOW)
        return LandmarkIndexReader(split, root, images, {})
    right = _solution(root / SOLUTION, set(known), USAGES[split])
    return LandmarkIndexReader(split, root, {id: _file(root, "test", id) for id in right}, right)


def _solution(path: Path, known: set[str], usage: str) -> dict[str, tuple[str, ...]]:
    """Query -> ids of its right images, of one usage. known: ids of the index."""
    right: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for id, images, own in _rows(path, ["id", "images", "Usage"]):
        if own not in (*USAGES.values(), IGNORED):
            raise UserError(f"the usage {own!r} of the query {id} is none of Public, Private and Ignored", where=path, fix=HOW)
        if id in seen:
            raise UserError(f"the query {id} is listed twice", where=path, fix=HOW)
        seen.add(id)
        if own != usage:
            continue
        right[id] = tuple(dict.fromkeys(images.split()))
        if not right[id] or (lost := [image for image in right[id] if image not in known]):
            problem = f"the image {lost[0]!r} of the query {id} is not in the index" if right[id] else f"the query {id} has no images"
            raise UserError(problem, where=path, fix=HOW)
    if not right:
        raise UserError(f"there is no query of the usage {usage}", where=path, fix=HOW)
    return right


def _rows(path: Path, columns: list[str]) -> Iterator[list[str]]:
    """The lines of a table behind its header, the first cell of each an id. Errors: a file that cannot be read, or is no such table."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            if (header := next(rows, [])) != columns:
                raise UserError(f"the columns are {','.join(header)!r}, not {','.join(columns)!r}", where=path, fix=HOW)
            for row in filter(None, rows):
                if len(row) != len(columns) or not ID.fullmatch(row[0]):
                    problem = f"line {rows.line_num} is not an id of 16 letters and digits with {len(columns) - 1} cells behind it"
                    raise UserError(problem, where=path, fix=HOW)
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read: {getattr(error, 'strerror', None) or error}", where=path, fix=HOW) from error


def _file(root: Path, folder: str, id: str) -> str:
    return f"{root}/{folder}/{id[0]}/{id[1]}/{id[2]}/{id}.jpg"


def _landmarks(right: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Query -> the first of all queries that share right images with it, directly or through others: they show one landmark."""
    queries_of: dict[str, list[str]] = {}
    for query, images in right.items():
        for image in images:
            queries_of.setdefault(image, []).append(query)
    first_of: dict[str, str] = {}
    for query in sorted(right):
        ahead = [query]
        while ahead:
            one = ahead.pop()
            if one not in first_of:
                first_of[one] = query
                ahead += [other for image in right[one] for other in queries_of[image]]
    return first_of
