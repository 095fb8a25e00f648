"""A task family in one module: one number for each image, predicted by ridge regression on frozen features.

On disk: images/SPLIT/*.png, and values.csv with a line `SPLIT/NAME,VALUE` for each image.

Axes: N images, F features of an image; the axis of 3 is images, absolute error, squared error.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from tips_bench.adapters.base import Picture, Scores
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.data.checks.base import Report
from tips_bench.data.split import Split, Splits
from tips_bench.errors import UserError
from tips_bench.features.cache import from_disk
from tips_bench.features.context import RunContext
from tips_bench.features.image_embeddings import ImageEmbedding, encode_images
from tips_bench.files import digest, sha256
from tips_bench.metrics.samples import SampleCounts
from tips_bench.metrics.spec import MetricSpec
from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.base import Fit


@dataclass(frozen=True)
class ValueImage:
    """One image and its number. image_HW3: uint8 RGB."""

    id: str
    group: str
    image_HW3: np.ndarray
    value: float


class ValueReader:
    """One split, sorted by id. Errors: no values.csv, an image without a value."""

    name, classes = "value-folder", list[str]()

    def __init__(self, root: Path, split: str) -> None:
        self.root, self.split, table = str(root), split, root / "values.csv"
        if not table.is_file():
            raise UserError("there is no values.csv", where=root, fix="Write a line SPLIT/NAME,VALUE for each image.")
        with table.open(newline="", encoding="utf-8") as file:
            values = {name: float(value) for name, value in csv.reader(file)}
        self.paths = sorted((root / "images" / split).glob("*.png"))
        self.ids = [f"{split}/{path.stem}" for path in self.paths]
        self.groups = self.ids
        lacking = [id for id in self.ids if id not in values]
        if lacking or not self.ids:
            raise UserError(f"{lacking[0] if lacking else split!r} has no value", where=table, fix="Give every image of the split one.")
        self.values_N = np.array([values[id] for id in self.ids])
        self.fingerprint = digest(sha256(table), *(sha256(path) for path in self.paths))

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels."""
        with Image.open(self.paths[index]) as image:
            return image.height, image.width

    def load(self, index: int) -> ValueImage:
        """One sample."""
        with Image.open(self.paths[index]) as image:
            return ValueImage(self.ids[index], self.groups[index], np.array(image.convert("RGB")), float(self.values_N[index]))


def value_folder(root: Path, split: str) -> ValueReader:
    """The reader `value-folder`, which has no options."""
    return ValueReader(root, split)


def check(reader: ValueReader, expected: int | None = None, workers: int = 2) -> Report:
    """`tips-bench data check`: every image is decoded, every value is finite."""
    report = Report(reader.name, reader.split, reader.root, samples=len(reader), expected=expected, fingerprint=reader.fingerprint)
    for index, id in enumerate(reader.ids):
        try:
            sample = reader.load(index)
        except OSError as error:
            report.faults.append(f"{id}: {error}")
            continue
        if not np.isfinite(sample.value):
            report.faults.append(f"{id}: the value is {sample.value}")
    return report


class ValueCounts(SampleCounts):
    """Each image's absolute and squared error; MAE and RMSE follow from their sums."""

    dtype = np.float64
    specs: ClassVar[dict[str, MetricSpec]] = {
        "MAE": MetricSpec(unit="", higher_is_better=False),
        "RMSE": MetricSpec(unit="", higher_is_better=False),
    }

    def __init__(self) -> None:
        super().__init__((3,))

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> ValueCounts:
        return cls()

    @staticmethod
    def summary(sums_x3: np.ndarray, /) -> dict[str, np.ndarray]:
        images_x, absolute_x, squared_x = np.moveaxis(np.asarray(sums_x3, np.float64), -1, 0)
        return {"MAE": absolute_x / images_x, "RMSE": np.sqrt(squared_x / images_x)}


class RidgeOptions(Strict):
    """penalty: of the squared weights, as a share of the features' mean variance."""

    type: str
    penalty: float = Field(gt=0)


@dataclass(frozen=True)
class ValueHead:
    """A linear map from features to a number."""

    weight_F: np.ndarray
    bias: float

    def __call__(self, features_NF: np.ndarray) -> np.ndarray:
        return features_NF @ self.weight_F + self.bias

    def save(self, path: Path) -> None:
        save_npz(path, weight=self.weight_F, bias=self.bias)

    @classmethod
    def load(cls, path: Path) -> ValueHead:
        return read_npz(path, "probe", lambda data: cls(data["weight"], float(data["bias"])))


class ValueProbe:
    """Ridge regression from image features to values."""

    reads_train = True
    load = staticmethod(ValueHead.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(RidgeOptions, options, where=where, prefix="probe.")

    def fit(self, context: RunContext, train: Split) -> Fit:
        features_NF, values_N = features_of(context, train), train.reader.values_N[train.indices]
        centered_NF = features_NF - features_NF.mean(0)
        gram_FF = centered_NF.T @ centered_NF
        penalty = self.options.penalty * max(float(np.trace(gram_FF)) / len(gram_FF), 1e-12)
        weight_F = np.linalg.solve(gram_FF + penalty * np.eye(len(gram_FF)), centered_NF.T @ (values_N - values_N.mean()))
        bias = float(values_N.mean() - features_NF.mean(0) @ weight_F)
        return Fit(ValueHead(weight_F, bias), {"penalty": self.options.penalty, "images": len(train)})


def features_of(context: RunContext, split: Split) -> np.ndarray:
    """features_NF in float64, each image through the encoder once; what an earlier try encoded is taken up."""
    store = encode_images(context.extractor, split, ImageEmbedding.tokens(context.extractor), context.scratch, f"values-{split.name}")
    features_NF = from_disk(np.array(store.arrays["features"])).double().numpy()
    store.close()
    return features_NF


class ValueAdapter:
    """Joins reader, probe and counts for one protocol."""

    needs_text = False
    observed = False

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task, self.probe = task, ValueProbe(protocol.probe, f"protocol {protocol.name}")

    def open(self, root: Path, limit: int | None) -> Splits:
        return Splits.open(self.task.data, root, limit, train=True)

    def score(self, context: RunContext, splits: Splits, head: ValueHead, beside: dict[str, SampleCounts]) -> Scores:
        test, counts = splits.test, ValueCounts()
        for index, predicted in self._predicted(context, test, head):
            error = predicted - test.reader.values_N[index]
            counts.update(test.reader.ids[index], test.reader.groups[index], np.array([1.0, abs(error), error**2]))
        return Scores(counts)

    def draw(self, context: RunContext, splits: Splits, head: ValueHead, indices: list[int]) -> list[Picture]:
        return [Picture(splits.test.reader.load(index).image_HW3) for index in indices]

    def _predicted(self, context: RunContext, test: Split, head: ValueHead) -> Iterator[tuple[int, float]]:
        yield from zip(test.indices, head(features_of(context, test)).tolist(), strict=True)
