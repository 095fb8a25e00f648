"""A record: one cell of a table, with all that is needed to defend it.

One JSON file, `results/<task>/<model>/<protocol>-<hash>.json`, beside a `.samples.npz` with the per-sample counts from which
every metric and interval can be computed again. Values are stored at full precision; NaN (null in the file) = not scored, never 0.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from tips_bench.errors import UserError
from tips_bench.files import digest, write_text

SCHEMA = "tips-bench/record/1"
MOST_CHANNELS = 1e6  # no features have as many; what claims more was not written by us
# A score of a class or a grid point; NaN becomes null, as JSON has none.
Score = Annotated[float | None, AfterValidator(lambda value: None if value is None or math.isnan(value) else value)]


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

    @field_validator("value", "ci95")
    @classmethod
    def _finite(cls, value: Any, info: ValidationInfo) -> Any:
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        if any(math.isinf(number) or (math.isnan(number) and info.field_name == "ci95") for number in numbers):
            raise ValueError(f"{value} is not finite")
        return value

    @field_serializer("value")
    def _nan_is_null(self, value: float) -> float | None:
        return None if math.isnan(value) else value


class Selection(Part):
    """How hyper-parameters were chosen. scores: one a grid point, on the held-out part of the train split; choice: the index taken."""

    metric: str
    grid: list[dict[str, float]]
    scores: list[Score]
    choice: int
    held_out: int


class DatasetIdentity(Part):
    """What was scored. fingerprint: of the scored split; train_fingerprint: of the split the probe was fitted on.

    The train fields are "", 0 and "" where nothing was fitted.
    """

    name: str
    split: str
    n: int
    fingerprint: str
    train_split: str
    train_n: int
    train_fingerprint: str
    classes: list[str]


class Cost(Part):
    """What the number cost. image_forwards: images (or windows, or crops) through the backbone. encoder_s: seconds inside the encoder.

    resumed: an earlier, interrupted run did a part of the work, which is not counted here.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    wall_s: float
    encoder_s: float
    image_forwards: int
    images_per_s: float
    peak_memory_mb: float
    device: str
    dtype: str
    resumed: bool = False


class Spread(NamedTuple):
    """Of features: over how many directions they spread, and the part of their squared norm that all share (probes/spread.py)."""

    effective_rank: float
    common_share: float


class Record(Part):
    """One evaluation of one model on one task under one protocol.

    comparable: false once any card value was overridden, listed in deviations. per_class: metric name -> class name -> value.
    probe: what the fit says of itself (iterations, convergence, loss).
    beside: names of metrics whose counts stand beside the family's own in the file of counts.
    per_sample, pictures: files beside the record. cards: the task, protocol and model cards as used.
    """

    schema_: Literal["tips-bench/record/1"] = "tips-bench/record/1"
    task: str
    family: str
    protocol: str
    protocol_hash: str
    model: str
    weights_sha256: str
    metrics: dict[str, MetricValue]
    per_class: dict[str, dict[str, Score]] = {}
    beside: list[str] = []
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

    @field_validator("per_sample", "pictures")
    @classmethod
    def _beside(cls, names: Any) -> Any:
        for name in [names] if isinstance(names, str) else names:
            path = PurePosixPath(name)
            if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name:
                raise ValueError(f"{name!r} is not a file beside the record")
        return names

    @model_validator(mode="after")
    def _primary_is_there(self) -> Self:
        if self.primary not in self.metrics:
            raise ValueError(f"primary: there is no metric {self.primary!r} in {sorted(self.metrics)}")
        return self

    @property
    def spread(self) -> Spread | None:
        """How the features spread, where the probe's report says it."""
        rank, share = self.probe.get("effective_rank"), self.probe.get("common_share")
        if not isinstance(rank, int | float) or not isinstance(share, int | float):
            return None
        return Spread(rank, share) if 0 <= rank < MOST_CHANNELS and 0 <= share <= 1 else None

    def save(self, path: Path) -> None:
        """Write the record to `path` atomically, with the key `schema` first."""
        data = self.model_dump(mode="json")
        data = {"schema": data.pop("schema_"), **data}
        write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def record_path(out: Path, task: str, model: str, protocol: str, hash8: str) -> Path:
    """out/<task>/<model>/<protocol>-<hash8>.json, with names that every file system takes.

    A name that is not a file name as it stands ("timm:vit_base", a path to a card) is made one and ends in "~" and a hash of the
    original, so that two models never share a file.
    """
    return out / _file_name(task) / _file_name(model) / f"{_file_name(protocol)}-{hash8}.json"


def _file_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", name) and not name.endswith("."):
        return name
    readable = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip(".-")[-80:]
    return f"{readable or 'name'}~{digest(name)[:8]}"


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
        key = ".".join(map(str, first["loc"]))
        problem = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{key}: {problem}" if key else problem, where=path) from error
