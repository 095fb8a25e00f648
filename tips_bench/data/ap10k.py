"""AP-10K (Yu et al., arXiv:2108.12617): photos of animals with 17 keypoints, in the pairs of Zhang et al. (arXiv:2311.17034).

    annotations/ap10k-{train,test,val}-split1.json      images, annotations and categories, as COCO has them
    data/IMAGE.jpg
    ap-10k_is_crowd.txt                                 numbers of the images with several animals, from data/ of Junyi42/GeoAware-SC

The rules are those of Junyi42/GeoAware-SC 99fd6b6, prepare_ap10k.ipynb, cells 0 to 4: of all three files together, the first annotation of
each image; no image with several animals, none with fewer than 3 keypoints. Of each species the last 30 images are for testing and the 20
before them for validation. A pair has at least 3 points that both show: "intra-species", all pairs of a species; "cross-species", of each
family 900 pairs of different species (400 for validation); "cross-family", of each two families 30 pairs (20 for validation).

There the order of images is the file system's, and pairs are drawn with Python's random numbers. Here images are in the order of their
numbers, and pairs and their directions are drawn by a hash, so that they are the same on every machine. Pairs of one species, of one family
or of two families share images, so they are resampled together.

Axes: K points of a pair, P = 17 points of an animal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.dataset_files import inside, read_lines
from tips_bench.data.pairs import KeypointFiles, KeypointPair, PairImages
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

FILES = ("train", "test", "val")  # in the source's order, which tells which annotation of an image is the first
TEST, VAL, FEWEST = 30, 20, 3  # images of a species; points of an image and of a pair
DRAWN = {"cross-species": {"test": 900, "val": 400}, "cross-family": {"test": 30, "val": 20}}
CROWDS = "ap-10k_is_crowd.txt"


class Ap10kOptions(Strict):
    """pairs: whose images are matched with each other."""

    pairs: Literal["intra-species", "cross-species", "cross-family"] = "intra-species"


@dataclass(frozen=True)
class Animal:
    """One photo. points_P2: x, y in pixels, float64. seen: bit p is 1 where point p is seen. box: x1, y1, x2, y2. size: (height, width)."""

    image: int
    file: str
    species: str
    family: str
    points_P2: np.ndarray
    seen: int
    box: tuple[float, float, float, float]
    size: tuple[int, int]


def ap10k(root: str | Path, split: str, **options: Any) -> KeypointFiles:
    """The pairs of a split. Splits: test, val. Errors: a file that is missing or is not AP-10K's."""
    root, how = Path(root), load_card("task", "ap10k").how_to_get
    kind = parse(Ap10kOptions, options, where="data.options").pairs
    if split not in ("test", "val"):
        raise unknown_name("split", split, ["test", "val"], where="ap10k")
    species = _of_split(_animals(root, how), split)
    drawn = list(_pairs(species, kind, split))
    if not drawn:
        raise UserError("no two images show three points of an animal", where=root, fix=how)
    used = {animal.image: animal for _, _, *both in drawn for animal in both}
    images = PairImages("ap10k", split, root, {a.file: f"{root}/data/{a.file}" for a in used.values()}, how=how, turned=False)
    place, classes = {id: number for number, id in enumerate(images.ids)}, sorted({name for name, *_ in drawn})
    pairs = []
    for name, group, *both in drawn:
        first, second = _directed(*both)
        seen_K = [p for p in range(len(first.points_P2)) if first.seen & second.seen & 1 << p]
        points_2K2 = np.stack([animal.points_P2[seen_K] for animal in (first, second)])
        id = f"{first.image:012d}-{second.image:012d}:{name}"
        known = id, group, classes.index(name), place[first.file], place[second.file]
        pairs.append(KeypointPair(*known, points_2K2, second.box, second.size))
    return KeypointFiles("ap10k", split, root, classes, pairs, images)


def _pairs(species: Mapping[str, list[Animal]], kind: str, split: str) -> Iterator[tuple[str, str, Animal, Animal]]:
    """(category that is averaged over, what is resampled together, both photos) of every pair."""
    families: dict[str, list[list[Animal]]] = {}
    for animals in species.values():
        if animals:
            families.setdefault(animals[0].family, []).append(animals)
    if kind == "intra-species":
        for name, animals in species.items():
            yield from ((name, name, *pair) for pair in _fitting(combinations(animals, 2)))
    elif kind == "cross-species":
        for name, members in families.items():
            both = (pair for a, b in combinations(members, 2) for pair in product(a, b))
            yield from ((name, name, *pair) for pair in _chosen(both, DRAWN[kind][split]))
    else:
        whole = {name: [animal for animals in members for animal in animals] for name, members in families.items()}
        for a, b in combinations(sorted(whole), 2):
            yield from (("all", f"{a}, {b}", *pair) for pair in _chosen(product(whole[a], whole[b]), DRAWN[kind][split]))


def _fitting(pairs: Iterator[tuple[Animal, Animal]]) -> Iterator[tuple[Animal, Animal]]:
    """Those with enough points that both show."""
    return (pair for pair in pairs if (pair[0].seen & pair[1].seen).bit_count() >= FEWEST)


def _directed(first: Animal, second: Animal) -> tuple[Animal, Animal]:
    """Both photos, the one first that a hash chooses."""
    turned = int(digest("direction", first.image, second.image)[0], 16) % 2
    return (second, first) if turned else (first, second)


def _chosen(pairs: Iterator[tuple[Animal, Animal]], number: int) -> list[tuple[Animal, Animal]]:
    """So many of those with enough points, drawn by a hash of both images."""
    return sorted(_fitting(pairs), key=lambda pair: digest("pair", *sorted(animal.image for animal in pair)))[:number]


def _of_split(animals: list[Animal], split: str) -> dict[str, list[Animal]]:
    """Species -> its photos of a split, by number; species in the order of the alphabet."""
    species: dict[str, list[Animal]] = {name: [] for name in sorted({animal.species for animal in animals})}
    for animal in sorted(animals, key=lambda animal: animal.image):
        species[animal.species].append(animal)
    first = {name: max(0, len(photos) - TEST) for name, photos in species.items()}  # of those for testing
    if split == "test":
        return {name: photos[first[name] :] for name, photos in species.items()}
    return {name: photos[max(0, first[name] - VAL) : first[name]] for name, photos in species.items()}


def _animals(root: Path, how: str) -> list[Animal]:
    """The photos that may be in a pair. Errors: a file that is missing, broken or contradicts itself."""
    if not (root / CROWDS).is_file():
        raise UserError("the list of images with several animals is missing", where=root / CROWDS, fix=how)
    crowds, found = {line.strip() for line in read_lines(root / CROWDS)}, {}
    for name in FILES:
        path = root / "annotations" / f"ap10k-{name}-split1.json"
        try:
            data = json.loads(path.read_bytes())
            images, kinds = ({entry["id"]: entry for entry in data[key]} for key in ("images", "categories"))
            for annotation in data["annotations"]:
                number = int(annotation["image_id"])
                if number not in found:
                    found[number] = _animal(annotation, images[number], kinds[annotation["category_id"]], path)
        except OSError as error:
            raise UserError(f"cannot read the annotations: {error.strerror}", where=path, fix=how) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"no annotations of AP-10K: {error!r}", where=path, fix=how) from error
    kept = (animal for number, animal in found.items() if f"{number:012d}" not in crowds)
    return [animal for animal in kept if animal.seen.bit_count() >= FEWEST]


def _animal(annotation: dict[str, Any], image: dict[str, Any], kind: dict[str, Any], path: Path) -> Animal:
    """One photo. Errors (UserError, ValueError, KeyError, TypeError): an entry of another kind."""
    points_P3 = np.array(annotation["keypoints"], dtype=np.float64).reshape(-1, 3)
    seen = sum(1 << p for p, visible in enumerate(points_P3[:, 2] > 0) if visible)
    left, top, width, height = (float(value) for value in annotation["bbox"])
    if not (np.isfinite(points_P3).all() and max(width, height) > 0):
        raise ValueError(f"image {image['id']} has points that are no numbers, or a box of no extent")
    file, size = inside(str(image["file_name"]), path), (int(image["height"]), int(image["width"]))
    box = (left, top, left + width, top + height)
    return Animal(int(image["id"]), file, str(kind["name"]), str(kind["supercategory"]), points_P3[:, :2], seen, box, size)
