"""PF-PASCAL (Ham et al., TPAMI 2018) with the lists of pairs that the field uses.

    PF-dataset-PASCAL/JPEGImages/IMAGE.jpg
    PF-dataset-PASCAL/{test,val}_pairs_pf_pascal.csv       also beside that folder

A list has a line for each pair: source image, target image, class from 1 to 20, and the columns XA, YA, XB, YB, each a list of numbers
joined by ";", as Junyi42/GeoAware-SC 99fd6b6 reads them (utils/utils_dataset.py:309-358). Paths of images are relative to the folder around
PF-dataset-PASCAL. No box is told: a threshold is a fraction of the image's longer side.

Axes: K points of a pair.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.dataset_files import group_of, group_pattern, inside
from tips_bench.data.pairs import KeypointFiles, KeypointPair, PairImages
from tips_bench.errors import UserError, unknown_name

FOLDER = "PF-dataset-PASCAL"
# Of PASCAL VOC, whose numbers from 1 on the lists hold (juhongm999/hpf 5a72968, data/pfpascal.py:21-25).
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
# Test pairs of each class: Junyi42/sd-dino b85df18, pck_spair_pascal.py:532.
TEST_PAIRS = (15, 30, 10, 6, 8, 32, 19, 27, 13, 3, 8, 24, 9, 27, 12, 7, 1, 13, 20, 15)


class PfPascalOptions(Strict):
    """group: a regular expression whose first group, found in a pair's name, names what is resampled together; null = the class.

    classes: the names of the numbers from 1 on.
    """

    group: str | None = None
    classes: tuple[str, ...] = CLASSES


def pf_pascal(root: str | Path, split: str, **options: Any) -> KeypointFiles:
    """The pairs of a split. Splits: test, val. Errors: a file that is missing or is not PF-PASCAL's."""
    root, how = Path(root), load_card("task", "pf-pascal").how_to_get
    chosen = parse(PfPascalOptions, options, where="data.options")
    pattern = group_pattern(chosen.group)
    if split not in ("test", "val"):
        raise unknown_name("split", split, ["test", "val"], where="pf-pascal")
    name = f"{split}_pairs_pf_pascal.csv"
    listing = next((path for path in (root / FOLDER / name, root / name) if path.is_file()), None)
    if listing is None:
        raise UserError("the list of pairs is missing", where=root / FOLDER / name, fix=how)
    rows = [_row(number, row, chosen.classes, listing) for number, row in enumerate(_lines(listing), 1)]
    if not rows:
        raise UserError("the list of pairs is empty", where=listing, fix=how)
    files = {id: f"{root}/{id}" for row in rows for id in row[:2]}
    images = PairImages("pf-pascal", split, root, files, how=how, turned=False)
    place = {id: number for number, id in enumerate(images.ids)}
    pairs = []
    for number, (first, second, kind, points_2K2) in enumerate(rows, 1):
        id = f"{number:04d}-{Path(first).stem}-{Path(second).stem}:{chosen.classes[kind]}"
        group = chosen.classes[kind] if pattern is None else group_of(pattern, id)
        size = images.size(place[second])
        pairs.append(KeypointPair(id, group, kind, place[first], place[second], points_2K2, None, size))
    counts = tuple(sum(pair.kind == kind for pair in pairs) for kind in range(len(chosen.classes)))
    other = split == "test" and chosen.classes == CLASSES and counts != TEST_PAIRS
    remarks = ("The numbers of test pairs of the 20 classes are not the published ones.",) if other else ()
    return KeypointFiles("pf-pascal", split, root, chosen.classes, pairs, images, remarks)


def _lines(path: Path) -> list[list[str]]:
    """The rows of a list below its head. Errors: a file that cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [row for row in list(csv.reader(file))[1:] if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read the list of pairs: {error}", where=path) from error


def _row(number: int, row: list[str], classes: tuple[str, ...], path: Path) -> tuple[str, str, int, np.ndarray]:
    """(first image, second image, class from 0, points_2K2) of a row. Errors: a row of another kind."""
    try:
        first, second, kind = inside(row[0], path), inside(row[1], path), int(row[2]) - 1
        xs_a, ys_a, xs_b, ys_b = ([float(value) for value in cell.split(";") if value.strip()] for cell in row[3:7])
        points_2K2 = np.array([list(zip(xs_a, ys_a, strict=True)), list(zip(xs_b, ys_b, strict=True))], dtype=np.float64)
    except (ValueError, IndexError) as error:
        raise UserError(f"row {number} is not two images, a class and four lists of as many numbers: {error}", where=path) from error
    if not 0 <= kind < len(classes) or not points_2K2.size or not np.isfinite(points_2K2).all():
        raise UserError(f"row {number} has class {kind + 1} and {points_2K2.shape[1]} points", where=path, fix="Get the list again.")
    return first, second, kind, points_2K2
