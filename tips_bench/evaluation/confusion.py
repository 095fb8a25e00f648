"""What is taken for what: a confusion matrix, from the predictions that a run with --predictions kept and the labels of the data.

    record = tips_bench.run("rooms-seg", "tips-nano", predictions=True)
    frame = tips_bench.confusion(record)                # rows: labeled, columns: predicted, pixels
    frame.div(frame.sum(axis=1), axis=0)                # shares of each labeled class

Axes: C classes, H W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tips_bench.cards import TaskCard, parse
from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.evaluation.cached_features import folder_of
from tips_bench.metrics.matched_iou import count
from tips_bench.progress import bar
from tips_bench.results.predictions import load_predictions
from tips_bench.results.record import Record

if TYPE_CHECKING:
    import pandas as pd

FAMILIES = ("segmentation", "zeroshot-segmentation")


def confusion(record: Record, *, data_root: Path | str | None = None) -> pd.DataFrame:
    """Pixels [C, C] of each labeled class (rows) that were predicted as each class (columns), over all samples of the record.

    data_root: as for a run. Ignored pixels count nowhere.
    Errors: another family, no predictions, no data, or other data than the record's.
    """
    import pandas as pd

    if record.family not in FAMILIES:
        problem = f"{record.family} has no map of classes"
        raise UserError(problem, where=record.file, fix=f"Give a record of {' or '.join(FAMILIES)}.")
    predictions = load_predictions(record)
    task: TaskCard = parse(TaskCard, record.cards.get("task") or {}, where=f"{record.path}, cards.task")
    test = Split.open(task.data, folder_of(task, data_root), "test", record.limit)
    if test.fingerprint != record.dataset.fingerprint:
        fix = "Give their folder with --data-root."
        raise UserError("these are not the data that the record was made of", where=folder_of(task, data_root), fix=fix)
    classes = list(test.reader.classes)
    pixels_CC = np.zeros((len(classes), len(classes)), np.int64)
    with bar("confusion", len(test)) as advance:
        for index in test.indices:
            predicted_HW = predictions[test.reader.ids[index]]
            pixels_CC += of_sample(predicted_HW, test.reader.load(index).labels_HW, len(classes), where=test.reader.ids[index])
            advance()
    return pd.DataFrame(pixels_CC, index=pd.Index(classes, name="labeled"), columns=pd.Index(classes, name="predicted"))


def of_sample(predicted_HW: np.ndarray, labels_HW: np.ndarray, classes: int, *, where: object) -> np.ndarray:
    """pixels_CC, int64. Errors: maps of two sizes."""
    if predicted_HW.shape != labels_HW.shape:
        problem = f"the prediction has {predicted_HW.shape} pixels, the labels {labels_HW.shape}"
        raise UserError(problem, where=where, fix="Run the task again.")
    return count(predicted_HW, labels_HW, classes)
