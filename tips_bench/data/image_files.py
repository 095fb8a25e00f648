"""What readers share whose samples are an image file each: ids, groups, sizes, decoding."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tips_bench.data.dataset_files import file_sizes, group_of
from tips_bench.data.images import image_size, read_image
from tips_bench.data.integrity import MAX_BYTES
from tips_bench.errors import UserError


class ImageFiles:
    """One split of a set of image files, sorted by id. A reader is a sub-class with `fingerprint` and `load`.

    images: id -> image file. group: a regular expression whose first group, found in an id, names what belongs together (frames of one
    scene); without it each sample is its own group. missing: what an error calls a file that is not there; how: how to get it.
    turned: whether images are turned as their EXIF data say; False where the set's published loaders do not. layout: where the files were
    found, for people.
    Errors: a file that is missing, with the number of all that are; an id in which `group` finds nothing.
    """

    turned = True
    layout = ""

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        images: Mapping[str, str],
        *,
        how: str,
        group: re.Pattern[str] | None = None,
        missing: str = "an image that the split names is missing",
    ) -> None:
        self.name, self.split, self.root = name, split, str(root)
        self.ids = sorted(images)
        self.groups = list(self.ids) if group is None else [group_of(group, id) for id in self.ids]
        self._images = [images[id] for id in self.ids]
        self.image_bytes = file_sizes(self._images, missing, how, MAX_BYTES)

    def __len__(self) -> int:
        return len(self.ids)

    def file(self, index: int) -> Path:
        """The image file of a sample."""
        return Path(self._images[index])

    def sources(self, index: int) -> list[Path]:
        """The files that a sample is read from."""
        return [self.file(index)]

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image in pixels, from its header."""
        return image_size(self.file(index), self.turned)

    def image(self, index: int) -> np.ndarray:
        """image_HW3, uint8 RGB. Errors: a broken or missing file, named."""
        return read_image(self.file(index), self.turned)


class ImagePairs(ImageFiles):
    """Samples that are an image file and a file of targets each. pairs: id -> (image file, file of its targets).

    no_target: what an error calls an image without its targets.
    """

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        pairs: Mapping[str, tuple[str, str]],
        *,
        how: str,
        group: re.Pattern[str] | None = None,
        no_target: str,
    ) -> None:
        super().__init__(name, split, root, {id: image for id, (image, _) in pairs.items()}, how=how, group=group)
        self._targets = [pairs[id][1] for id in self.ids]
        self.target_bytes = file_sizes(self._targets, no_target, how, MAX_BYTES)

    def files(self, index: int) -> tuple[Path, Path]:
        """(image file, file of the targets) of a sample."""
        return self.file(index), Path(self._targets[index])

    def sources(self, index: int) -> list[Path]:
        """The files that a sample is read from."""
        return list(self.files(index))

    def check_sizes(self, index: int, image_HW3: np.ndarray, target: np.ndarray, kind: str) -> None:
        """Errors: an image of another size than its target. kind: what an error calls the target."""
        image_path, target_path = self.files(index)
        if image_HW3.shape[:2] != target.shape[:2]:
            sizes = ["x".join(map(str, array.shape[:2])) for array in (target, image_HW3)]
            problem = f"{sizes[0]} {kind}, but the image {image_path.name} is {sizes[1]} (height x width)"
            raise UserError(problem, where=target_path, fix="Image and label must have the same size: download both again.")
