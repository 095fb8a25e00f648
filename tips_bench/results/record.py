"""A record: one cell of a table, with all that is needed to defend it.

One JSON file, `results/<task>/<model>/<protocol>-<hash>.json`, beside a `.samples.npz` with the per-sample counts from which
every metric and interval can be computed again. Values are stored at full precision; NaN (null in the file) = not scored, never 0.
"""

from __future__ import annotations

import json
import math
import re
from html import escape
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from tips_bench.errors import UserError
from tips_bench.files import digest, write_text
from tips_bench.metrics.spec import MetricSpec
from tips_bench.plain_data import deepest
from tips_bench.results.cost import Cost
from tips_bench.results.upgrade import OLDER_SCHEMAS, upgraded, with_current_device, with_current_hash
from tips_bench.wording import counted

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "tips-bench/record/2"
MOST_NESTED, MOST_DIGITS = 50, 20  # in a file that is read; what claims more was not written by us either
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

    @property
    def spec(self) -> MetricSpec:
        """The metric's unit and direction: what is better than what."""
        return MetricSpec(self.unit, self.higher_is_better)


class Deviation(Part):
    """One reason why a record is not comparable with others of its task and protocol.

    card: whose value was changed ("task", "protocol", "model"), or what the reason is about: the "run" (a limit), the "data" (a remark of
    their reader), the "probe" (a warning of its fit). key: the dotted key that was changed, to `value` from `card_value`; None for a
    remark. text: the reason as a sentence, where the key and its values do not say it.
    """

    card: Literal["task", "protocol", "model", "run", "data", "probe"]
    key: str | None = None
    value: Any = None
    card_value: Any = None
    text: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.key is None and self.text is None:
            raise ValueError("a deviation has a key or a text")
        return self

    def __str__(self) -> str:
        if self.text is not None:
            return self.text
        return f"{self.card}.{self.key} = {json.dumps(self.value)} (card: {json.dumps(self.card_value)})"


class Selection(Part):
    """How hyper-parameters were chosen. scores: one a grid point, on the held-out part of the train split; choice: the index taken."""

    metric: str
    grid: list[dict[str, float]]
    scores: list[Score]
    choice: int
    held_out: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _choice_is_of_the_grid(self) -> Self:
        if not 0 <= self.choice < len(self.grid) or len(self.scores) != len(self.grid):
            raise ValueError(f"choice {self.choice} of {len(self.grid)} points with {len(self.scores)} scores")
        return self


class DatasetIdentity(Part):
    """What was scored. fingerprint: of the scored split; train_fingerprint: of the split the probe was fitted on.

    content_fingerprint, train_content_fingerprint: of what the files hold, too; None in records from before it was kept, and of readers
    that do not name their files. The train fields are "", 0 and "" where nothing was fitted.
    """

    name: str
    split: str
    n: int
    fingerprint: str
    train_split: str
    train_n: int
    train_fingerprint: str
    content_fingerprint: str | None = None
    train_content_fingerprint: str | None = None
    classes: list[str]


class Spread(NamedTuple):
    """Of features: over how many directions they spread, and the part of their squared norm that all share (probes/spread.py)."""

    effective_rank: float
    common_share: float


class Record(Part):
    """One evaluation of one model on one task under one protocol.

    model: the card's name. weights: what stood in place of the card's own weights, the name of a file or "random:SEED"; None = nothing.
    extension: the protocol's source has no number for this task. comparable: false once there is a deviation. per_class: metric name ->
    class name -> value. probe: what the fit says of itself (iterations, convergence, loss). beside: metrics that were scored beside the
    family's own, whose counts are in the same file, under their names. features_id: hex, equal in two records of the same samples whose
    features are equal; the cache files them under it. per_sample, pictures: files beside the record. per_sample_sha256: hex, of the file of
    counts; None in records from before it was kept. head_sha256: hex, of the file with the fitted head; None = it was not kept. pictured:
    ids of the samples that the pictures show, in their order, of which the first is a sheet of all; [] in records from before they were
    kept. cards: the task, protocol and model cards as used.

    Two records are equal where all of this is, wherever they lie.
    """

    schema_: Literal["tips-bench/record/2"] = "tips-bench/record/2"
    task: str
    family: str
    protocol: str
    protocol_hash: str
    extension: bool = False
    model: str
    weights: str | None = None
    weights_sha256: str
    metrics: dict[str, MetricValue]
    per_class: dict[str, dict[str, Score]] = {}
    beside: list[str] = []
    primary: str
    comparable: bool
    deviations: list[Deviation]
    probe: dict[str, Any] = {}
    selection: Selection | None = None
    dataset: DatasetIdentity
    features_id: str | None = None
    cost: Cost
    versions: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    command: str
    created: str
    per_sample: str
    per_sample_sha256: str | None = None
    head_sha256: str | None = None
    pictures: list[str] = []
    pictured: list[str] = []
    seed: int
    cards: dict[str, dict[str, Any]]
    _path: Path | None = PrivateAttr(None)

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

    @model_validator(mode="after")
    def _pictures_have_samples(self) -> Self:
        if self.pictured and len(self.pictured) != len(self.pictures) - 1:
            raise ValueError(f"pictured: {len(self.pictured)} samples for {len(self.pictures)} pictures, of which the first is a sheet")
        return self

    @property
    def spread(self) -> Spread | None:
        """How the features spread, where the probe's report says it."""
        rank, share = self.probe.get("effective_rank"), self.probe.get("common_share")
        if not isinstance(rank, int | float) or not isinstance(share, int | float):
            return None
        return Spread(rank, share) if 0 <= rank < MOST_CHANNELS and 0 <= share <= 1 else None

    @property
    def path(self) -> Path | None:
        """The file that it was read from or saved to; None before."""
        return self._path

    @property
    def model_name(self) -> str:
        """The model, with the weights behind it where they are not the card's: "tips-b14@checkpoint"."""
        return shown_name(self.model, self.weights)

    @property
    def primary_metric(self) -> MetricValue:
        """The number that stands for the record."""
        return self.metrics[self.primary]

    @property
    def changed_values(self) -> dict[str, Any]:
        """ "protocol.image.short_side" -> its value, of every value of a card that was changed."""
        return {f"{one.card}.{one.key}": one.value for one in self.deviations if one.key and one.card in ("task", "protocol", "model")}

    @property
    def limit(self) -> int | None:
        """To how many samples of each split the run was limited."""
        said = (one.value for one in self.deviations if (one.card, one.key) == ("run", "limit"))
        return next((value for value in said if isinstance(value, int)), None)

    def counts(self, metric: str = "") -> pd.DataFrame:
        """What every number is computed from: a row a sample with its id, its group and its counts (results/per_sample.py).

        metric: one of `beside`, whose counts are wanted; the family's own where none is named.
        Errors: a record that was never saved, counts that are missing or broken, another metric.
        """
        from tips_bench.results.per_sample import counts_frame

        return counts_frame(self, metric)

    def samples(self) -> pd.DataFrame:
        """A row a sample with its id, its group and the metrics of this sample alone: sort it to find the hardest. Errors: as `counts`."""
        from tips_bench.results.per_sample import samples_frame

        return samples_frame(self)

    def has_pictures(self, wanted: int) -> bool:
        """Whether so many samples are drawn, or all of them."""
        return len(self.pictured) >= min(wanted, self.dataset.n)

    @property
    def picture_of(self) -> dict[str, str]:
        """Sample id -> its picture, a file beside the record; empty where the record does not say what its pictures show."""
        return dict(zip(self.pictured, self.pictures[1:], strict=False)) if self.pictured else {}

    @property
    def file(self) -> Path:
        """The file of a record that was saved or loaded. Errors: one that was neither."""
        if self._path is None:
            raise UserError("the record is in no file yet", where=f"{self.task}, {self.model_name}", fix="Save it first.")
        return self._path

    def save(self, path: Path) -> None:
        """Write the record to `path` atomically, with the key `schema` first."""
        data = self.model_dump(mode="json")
        data = {"schema": data.pop("schema_"), **data}
        write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n", durable=True)
        self._path = path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.model_dump(mode="json") == other.model_dump(mode="json")

    def __repr__(self) -> str:
        metric, deviations = self.primary_metric, f", {counted(len(self.deviations), 'deviation')}" if self.deviations else ""
        interval = f" [{metric.ci95[0]:.4g}, {metric.ci95[1]:.4g}]" if metric.ci95 else ""
        score = f"{self.primary} {metric.value:.4g} {metric.unit}".rstrip() + interval
        return f"<Record {self.task}, {self.model_name}, {self.protocol}: {score}, n = {metric.n}{deviations}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """For notebooks: what was scored, a row a metric, and the deviations."""
        head = escape(f"{self.model_name} on {self.task}, {self.protocol}")
        rows = [
            f"<tr><td>{escape(name)} {escape(one.unit)} {one.spec.arrow}</td><td>{one.value:.4g}</td>"
            f"<td>{f'{one.ci95[0]:.4g} to {one.ci95[1]:.4g}' if one.ci95 else ''}</td><td>{one.n}</td></tr>"
            for name, one in sorted(self.metrics.items(), key=lambda item: item[0] != self.primary)
        ]
        notes = "".join(f"<li>{escape(str(one))}</li>" for one in self.deviations)
        notes = f"<p>Not comparable:</p><ul>{notes}</ul>" if notes else ""
        titles = "<tr><th>metric</th><th>value</th><th>95 % interval</th><th>samples</th></tr>"
        return f"<table><caption>{head}</caption>{titles}{''.join(rows)}</table>{notes}"


def shown_name(model: str, weights: str | None) -> str:
    """A model's name with that of the weights behind it: "tips-b14@checkpoint" for a file, "tips-b14@random:1", or the model's alone."""
    if weights is None:
        return model
    return f"{model}@{weights if weights.startswith('random') else PurePath(weights).stem}"


def record_path(out: Path, task: str, model: str, protocol: str, hash8: str) -> Path:
    """out/<task>/<model>/<protocol>-<hash8>.json, with names that every file system takes.

    A name that is not a file name as it stands ("timm:vit_base", a path to a card) is made one and ends in "~" and a hash of the
    original, so that two models never share a file.
    """
    return out / file_name(task) / file_name(model) / f"{file_name(protocol)}-{hash8}.json"


def file_name(name: str) -> str:
    """A name that every file system takes, another one for each name."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", name) and not name.endswith("."):
        return name
    readable = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip(".-")[-80:]
    return f"{readable or 'name'}~{digest(name)[:8]}"


def load_record(path: str | Path) -> Record:
    """Read a record of this schema or an older one; needs no registry and no torch.

    Errors: no file, not JSON, not a record, of a schema that is not known.
    """
    path = Path(path)
    data = _read_json(path)
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if schema in OLDER_SCHEMAS:
        data = upgraded(data)
    elif schema != SCHEMA:
        raise UserError(f"not a record of schema {SCHEMA!r} or an older one", where=path)
    data = with_current_device(with_current_hash(data))
    data["schema_"] = SCHEMA
    try:
        record = Record.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        problem = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{key}: {problem}" if key else problem, where=path) from error
    record._path = path
    return record


def _read_json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, parse_float=_finite, parse_constant=_finite, parse_int=_whole)
        if deepest(data) > MOST_NESTED:
            raise ValueError(f"nested more than {MOST_NESTED} deep")
        if "\\u" in text:
            json.dumps(data, ensure_ascii=False).encode("utf-8")  # an escape may stand for half a character
        return data
    except IsADirectoryError as error:
        first = min(path.rglob("*-*.json"), default=None)
        raise UserError("a folder, not a record", where=path, fix=f"Give one record{f', such as {first}' if first else ''}.") from error
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON: {error}", where=path, fix="Delete it and run the task again.") from error


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{text[:20]}... has {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not finite")
    return number
