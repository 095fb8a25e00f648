"""What a model predicted of each sample, kept by `run --predictions` in a folder beside the record.

results/rooms-seg/tips-nano/convex-224-01234567.predictions/ID.png    a map of class indices, one byte a pixel
results/rooms-depth/tips-nano/convex-224-01234567.predictions/ID.npz  other arrays, under the name `prediction`

predictions = tips_bench.load_predictions(record)
predictions["scene-0001-0"]                             # class indices [H, W]; depth or normals [T, H, W]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tips_bench.errors import UserError
from tips_bench.files import atomic
from tips_bench.npz import BROKEN
from tips_bench.results.per_sample import read_counts
from tips_bench.results.record import Record, file_name
from tips_bench.results.reproduce import command


def predictions_folder(record: Path) -> Path:
    """Where the predictions of the record in a file lie."""
    return record.with_suffix(".predictions")


def save_prediction(folder: Path, id: str, prediction: np.ndarray) -> None:
    """Write the prediction of one sample; the same prediction gives the same bytes. Errors: the folder takes no file."""
    prediction = np.asarray(prediction)
    is_map = prediction.ndim == 2 and prediction.dtype == np.uint8
    with atomic(folder / f"{file_name(id)}{'.png' if is_map else '.npz'}") as temporary:
        if is_map:
            from PIL import Image

            Image.fromarray(prediction).save(temporary, format="PNG")
        else:
            with temporary.open("wb") as file:
                np.savez_compressed(file, prediction=prediction)


class Predictions(Mapping[str, np.ndarray]):
    """Sample id -> its prediction, read when it is asked for."""

    def __init__(self, folder: Path, ids: list[str]) -> None:
        self.folder, self._ids = folder, dict.fromkeys(ids)

    def __getitem__(self, id: str) -> np.ndarray:
        """Errors: KeyError for an id that is not there; a file that is missing or broken."""
        if id not in self._ids:
            raise KeyError(id)
        path = self.folder / f"{file_name(id)}.png"
        try:
            if path.is_file():
                from PIL import Image

                return np.asarray(Image.open(path))
            path = path.with_suffix(".npz")
            with np.load(path, allow_pickle=False) as data:
                return np.asarray(data["prediction"])
        except FileNotFoundError as error:
            raise UserError("the prediction of this sample is missing", where=path, fix="Run the task again.") from error
        except (*BROKEN, OSError) as error:
            raise UserError("not a prediction, or a broken one", where=path, fix="Run the task again.") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def load_predictions(record: Record) -> Predictions:
    """Sample id -> what was predicted of it: class indices [H, W], depth or normals [T, H, W], classes of points [N], keypoints found.

    Errors: a record that was never saved, or that has no predictions, with the command that makes them.
    """
    folder = predictions_folder(record.file)
    if not folder.is_dir():
        raise UserError("no predictions were kept of this record", where=record.file, fix=f"Make them: {command(record)} --predictions")
    return Predictions(folder, read_counts(record)[""].ids)
