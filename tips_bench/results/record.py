"""A record: one cell of a table, with all that is needed to defend it.

One JSON file, `results/<task>/<model>/<protocol>-<hash>.json`, beside a `.samples.npz` with the per-sample counts from which
every metric and interval can be computed again. Values are stored at full precision; NaN (null in the file) = not scored, never 0.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_serializer, field_validator

from tips_bench.errors import UserError
from tips_bench.files import write_text

SCHEMA = "tips-bench/record/1"


class Part(BaseModel):
    """A piece of a record; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class MetricValue(Part):
    """One number. ci95: 95 % bootstrap interval over n samples, null where it was not computed."""

    value: float
    unit: str
    higher_is_better: bool
    ci95: tuple[float, float] | None = None
    n: int

    @field_validator("value", mode="before")
    @classmethod
    def _null_is_nan(cls, value: Any) -> Any:
        return math.nan if value is None else value

    @field_serializer("value")
    def _nan_is_null(self, value: float) -> float | None:
        return None if math.isnan(value) else value


class Selection(Part):
    """How hyper-parameters were chosen. scores: one a grid point, on the held-out part of the train split; choice: the index taken."""

    metric: str
    grid: list[dict[str, float]]
    scores: list[float | None]
    choice: int
    held_out: int


class DatasetIdentity(Part):
    """What was scored. fingerprint: of the scored split; train_fingerprint: of the split the probe was fitted on."""

    name: str
    split: str
    n: int
    fingerprint: str
    train_split: str
    train_n: int
    train_fingerprint: str
    classes: list[str]


class Cost(Part):
    """What the number cost. image_forwards: images (or windows, or crops) through the backbone. encoder_s: seconds inside the encoder."""

    wall_s: float
    encoder_s: float
    image_forwards: int
    images_per_s: float
    peak_memory_mb: float
    device: str
    dtype: str


class Record(Part):
    """One evaluation of one model on one task under one protocol.

    comparable: false once any card value was overridden, listed in deviations. per_class: metric name -> class name -> value.
    probe: what the fit says of itself (iterations, convergence, loss).
    per_sample: file name of the counts beside the record. cards: the task, protocol and model cards as used.
    """

    schema_: Literal["tips-bench/record/1"] = SCHEMA
    task: str
    family: str
    protocol: str
    protocol_hash: str
    model: str
    weights_sha256: str
    metrics: dict[str, MetricValue]
    per_class: dict[str, dict[str, float | None]] = {}
    primary: str
    comparable: bool
    deviations: list[str]
    probe: dict[str, Any] = {}
    selection: Selection | None = None
    dataset: DatasetIdentity
    cost: Cost
    versions: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    command: str
    created: str
    per_sample: str
    pictures: list[str] = []
    seed: int
    cards: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the record to `path` atomically, with the key `schema` first."""
        data = self.model_dump(mode="json")
        data = {"schema": data.pop("schema_"), **data}
        write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def load_record(path: str | Path) -> Record:
    """Read a record; needs no registry and no torch. Errors: no file, not JSON, not a record, of another schema."""
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON: {error}", where=path, fix="Delete it and run the task again.") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise UserError(f"not a record of schema {SCHEMA!r}", where=path)
    data["schema_"] = data.pop("schema")
    try:
        return Record.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", where=path) from error
