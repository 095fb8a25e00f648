"""SPair-71k (Min et al., arXiv:1908.10543): pairs of photos of 18 categories of things, with the points that both show.

    JPEGImages/CATEGORY/IMAGE.jpg
    PairAnnotation/{trn,val,test}/NUMBER-IMAGE-IMAGE:CATEGORY.json      category, src_imname, trg_imname, src_kps, trg_kps, trg_bndbox, ...,
                                                                        viewpoint_variation, scale_variation, truncation, occlusion
    Layout/large/{trn,val,test}.txt                                     the names of these files without .json

Layout and names as juhongm999/hpf 5a72968 reads them (data/dataset.py:34-55, data/spair.py:18-38). Pairs of one category share images, so
whole categories are resampled for intervals.

Axes: K points of a pair.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.dataset_files import group_of, group_pattern, inside, read_lines
from tips_bench.data.pairs import KeypointFiles, KeypointPair, PairImages
from tips_bench.errors import UserError, unknown_name

SPLITS = ("trn", "val", "test")
# Test pairs of each category, in the order of the alphabet: Junyi42/sd-dino b85df18, pck_spair_pascal.py:533.
TEST_PAIRS = (690, 650, 702, 702, 870, 644, 564, 600, 646, 640, 600, 600, 702, 650, 862, 664, 756, 692)

# How a pair's file names its difficulty, and the number of the hardest level.
DIFFICULTY = {"viewpoint_variation": 2, "scale_variation": 2, "truncation": 3, "occlusion": 3}


class SpairOptions(Strict):
    """group: a regular expression whose first group, found in a pair's name, names what is resampled together; null = the category."""

    group: str | None = None


def spair(root: str | Path, split: str, **options: Any) -> KeypointFiles:
    """The pairs of a split. Splits: trn, val, test. Errors: a file that is missing or is not SPair's."""
    root, how = Path(root), load_card("task", "spair").how_to_get
    pattern = group_pattern(parse(SpairOptions, options, where="data.options").group)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, where="spair")
    listing = root / "Layout" / "large" / f"{split}.txt"
    if not listing.is_file():
        raise UserError("the list of pairs is missing", where=listing, fix=how)
    names = [inside(line, listing) for line in read_lines(listing)]
    if not names:
        raise UserError("the list of pairs is empty", where=listing, fix=how)
    read = [_read(root / "PairAnnotation" / split / f"{name}.json", how) for name in names]
    files = {id: f"{root}/JPEGImages/{id}" for found in read for id in (found["first"], found["second"])}
    images = PairImages("spair", split, root, files, how=how, turned=False)
    place = {id: number for number, id in enumerate(images.ids)}
    classes = sorted({found["category"] for found in read})
    pairs = []
    for name, found in zip(names, read, strict=True):
        group = found["category"] if pattern is None else group_of(pattern, name)
        kind, first, second = classes.index(found["category"]), place[found["first"]], place[found["second"]]
        pairs.append(KeypointPair(name, group, kind, first, second, found["points"], found["box"], found["size"], found["difficulty"]))
    counts = tuple(sum(pair.kind == kind for pair in pairs) for kind in range(len(classes)))
    other = split == "test" and len(classes) == len(TEST_PAIRS) and counts != TEST_PAIRS
    return KeypointFiles("spair", split, root, classes, pairs, images, (REMARK,) if other else ())


REMARK = "The numbers of test pairs of the 18 categories are not the published ones."


def _read(path: Path, how: str) -> dict[str, Any]:
    """What is used of a pair's file. Errors: a file that is missing, broken or contradicts itself."""
    try:
        data = json.loads(path.read_bytes())
        category = str(data["category"])
        points_2K2 = np.array([data["src_kps"], data["trg_kps"]], dtype=np.float64)
        box = tuple(float(value) for value in data["trg_bndbox"])
        width, height = (int(value) for value in data["trg_imsize"][:2])
        names = [inside(f"{category}/{data[key]}", path) for key in ("src_imname", "trg_imname")]
        difficulty = tuple(int(data[key]) for key in DIFFICULTY) if all(key in data for key in DIFFICULTY) else None
    except OSError as error:
        raise UserError(f"cannot read the annotation of a pair: {error.strerror}", where=path, fix=how) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"not an annotation of a pair: {error!r}", where=path, fix=how) from error
    if points_2K2.ndim != 3 or points_2K2.shape[2] != 2 or not points_2K2.size or not np.isfinite(points_2K2).all():
        raise UserError("src_kps and trg_kps are not two lists of as many points", where=path, fix=how)
    if len(box) != 4 or not max(box[2] - box[0], box[3] - box[1]) > 0:
        raise UserError(f"trg_bndbox = {list(box)} has no extent", where=path, fix=how)
    if difficulty is not None and not all(0 <= level <= most for level, most in zip(difficulty, DIFFICULTY.values(), strict=True)):
        raise UserError(f"{', '.join(DIFFICULTY)} = {difficulty} are no levels of difficulty", where=path, fix=how)
    found = {"category": category, "first": names[0], "second": names[1], "points": points_2K2, "box": box, "size": (height, width)}
    return found | {"difficulty": difficulty}
