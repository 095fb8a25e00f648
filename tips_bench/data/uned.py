"""UnED, the Universal Embedding Dataset: eight domains of instance and fine-grained retrieval, and any set in its layout.

    ROOT/info_files/DOMAIN/{test,index}.json      [{"path": "met/MET/0/0.jpg", "class_id": 3}, ...]; class_id may be a list
    ROOT/images/PATH

Layout, lists and which list is whose index: Ypsilantis et al., Towards Universal Image Embeddings (ICCV 2023), as published at
https://cmp.felk.cvut.cz/univ_emb/ with github.com/nikosips/Universal-Image-Embeddings (README.md, universal_embedding/datasets.py). The
queries of every domain are its test list; where the test list is its own index, a query does not find itself. Two splits: "query" and
"index", each of all domains together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from tips_bench.cards import Strict, parse
from tips_bench.data.base import InstanceImage
from tips_bench.data.dataset_files import group_pattern, inside
from tips_bench.data.image_files import ImageFiles
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

HOW = "Unpack info_files.zip of https://cmp.felk.cvut.cz/univ_emb/ into info_files/, and each domain's images into images/."
QUERIES = "test"
NONE = -1  # fills the labels of an image that has fewer than others


class UnedOptions(Strict):
    """domains: name -> the list that is its index: "test", so that each query is left out of its own search, or "index".

    group: a regular expression whose first group, found in an id, names what is resampled together; without it an image is by itself.
    """

    domains: dict[str, Literal["test", "index"]] = Field(
        {
            "cars": "test",
            "sop": "test",
            "inshop": "index",
            "inat": "test",
            "met": "index",
            "gldv2": "index",
            "food2k": "test",
            "rp2k": "test",
        },
        min_length=1,
    )
    group: str | None = None


class Entry(Strict):
    """One image of a list."""

    path: Annotated[str, Field(min_length=1)]
    class_id: int | list[int]


ENTRIES = TypeAdapter(list[Entry])


@dataclass(frozen=True)
class _Found:
    file: str
    domain: int
    labels: tuple[int, ...]


class UnedReader(ImageFiles):
    """One split of all domains. classes: the domains. domain_N: index of each image's. labels_NL: its labels, filled up with -1.

    Ids are paths under images/: an image that is query and index has one id in both splits. Images are not turned: UnED's own reader
    decodes them with TensorFlow, which passes over EXIF data.
    """

    turned = False

    def __init__(
        self, name: str, split: str, root: Path, domains: list[str], found: dict[str, _Found], group: re.Pattern[str] | None = None
    ) -> None:
        files = {id: image.file for id, image in found.items()}
        super().__init__(name, split, root, files, how=HOW, group=group, missing="an image that a list names is missing")
        self.classes, images = domains, [found[id] for id in self.ids]
        self.domain_N = np.array([image.domain for image in images], dtype=np.int64)
        self.labels_NL = np.full((len(images), max(len(image.labels) for image in images)), NONE, dtype=np.int64)
        for row, image in enumerate(images):
            self.labels_NL[row, : len(image.labels)] = image.labels
        self.fingerprint = digest(*self.ids, *self.image_bytes, *self.domain_N, *self.labels_NL.ravel(), *domains)

    def load(self, index: int) -> InstanceImage:
        """Decode one sample. Errors: a broken or missing file."""
        labels = tuple(int(label) for label in self.labels_NL[index] if label != NONE)
        domain = self.classes[self.domain_N[index]]
        return InstanceImage(self.ids[index], self.groups[index], self.image(index), domain, labels)


def uned(root: str | Path, split: str, **options: Any) -> UnedReader:
    """The queries or the index images of all domains. Splits: query, index. Errors: a list that is missing or broken."""
    root = Path(root)
    chosen = parse(UnedOptions, options, where="data.options")
    if split not in ("query", "index"):
        raise unknown_name("split", split, ["query", "index"], where="uned")
    found: dict[str, _Found] = {}
    for number, (domain, index) in enumerate(chosen.domains.items()):
        path = root / "info_files" / domain / f"{QUERIES if split == 'query' else index}.json"
        for entry in _entries(path):
            if entry.path in found:
                raise UserError(f"two entries of the image {entry.path!r}", where=path, fix="Get the list again.")
            labels = tuple(sorted(set(entry.class_id))) if isinstance(entry.class_id, list) else (entry.class_id,)
            if not labels or min(labels) < 0:
                raise UserError(f"class_id = {entry.class_id} of {entry.path!r}", where=path, fix="Ids are 0 or more, one or several.")
            found[entry.path] = _Found(_image(root, inside(entry.path, path)), number, labels)
    return UnedReader("uned", split, root, list(chosen.domains), found, group_pattern(chosen.group))


def _entries(path: Path) -> list[Entry]:
    try:
        entries = ENTRIES.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path, fix=HOW) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"not a list of images with path and class_id: {place or 'the file'}: {first['msg']}", where=path, fix=HOW
        ) from error
    if not entries:
        raise UserError("the list is empty", where=path, fix=HOW)
    return entries


def _image(root: Path, name: str) -> str:
    """The file of an entry. Some systems unpack the Chinese names of rp2k as #Uxxxx, which UnED's own reader looks for, too."""
    path = f"{root}/images/{name}"
    if not name.isascii() and not Path(path).exists():
        escaped = "".join(letter if letter.isascii() else f"#U{ord(letter):04x}" for letter in name)
        return f"{root}/images/{escaped}"
    return path
