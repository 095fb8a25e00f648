"""AmsterTime: views of Amsterdam, each as a street view image and as an archival photo, and any set in its layout.

    ROOT/new/0000.png, ROOT/old/0000.jpg      images of one name show one place

Layout: Yildiz et al., AmsterTime (ICPR 2022), as seyrankhademi/AmsterTime ec9af09 describes it (README.md:24-40). Every image is a query,
and is searched among the images of the other folder; the two directions of search are the classes. Two splits: "query" and "gallery", of
the same images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tips_bench.data.base import ImageSample
from tips_bench.data.dataset_files import IMAGE_SUFFIXES, files_below
from tips_bench.data.image_files import ImageFiles
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

HOW = "Unpack the data set of doi.org/10.4121/19580806, so that it holds new/ and old/."
FOLDERS = ("new", "old")
DIRECTIONS = ("old to new", "new to old")  # by the folder that is searched


class AmsterTimeReader(ImageFiles):
    """One split. Ids are new/NAME and old/NAME; the two images of a place are resampled together."""

    classes = DIRECTIONS

    def __init__(self, split: str, root: Path, images: dict[str, str]) -> None:
        super().__init__("amstertime", split, root, images, how=HOW)
        self.groups = [id.partition("/")[2] for id in self.ids]
        own_N = np.array([FOLDERS.index(id.partition("/")[0]) for id in self.ids], dtype=np.int64)
        self.part_N = 1 - own_N if split == "query" else own_N
        self.fingerprint = digest(split, *self.ids, *self.image_bytes)

    def answers(self, index: int) -> dict[str, tuple[str, ...]]:
        """The id of the one image that shows the place of a query."""
        if self.split != "query":
            return {}
        folder, _, name = self.ids[index].partition("/")
        return {"right": (f"{FOLDERS[1 - FOLDERS.index(folder)]}/{name}",)}

    def load(self, index: int) -> ImageSample:
        """Decode one image. Errors: a broken or missing file."""
        return ImageSample(self.ids[index], self.groups[index], self.image(index))


def amstertime(root: str | Path, split: str) -> AmsterTimeReader:
    """Queries or the gallery. Splits: query, gallery. Errors: a folder that is missing or empty, an image without its counterpart."""
    root = Path(root)
    if split not in ("query", "gallery"):
        raise unknown_name("split", split, ["query", "gallery"], where="amstertime")
    found = {folder: files_below(root / folder, IMAGE_SUFFIXES) for folder in FOLDERS}
    if not found["new"] and not found["old"]:
        raise UserError("there is no image in new/ and old/", where=root, fix=HOW)
    if alone := sorted(found["new"].keys() ^ found["old"].keys()):
        raise UserError(f"{len(alone)} images have no counterpart in the other folder, for example {alone[0]!r}", where=root, fix=HOW)
    return AmsterTimeReader(split, root, {f"{folder}/{name}": path for folder in FOLDERS for name, path in found[folder].items()})
