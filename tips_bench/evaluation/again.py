"""The number of a record, made again, and whether the two agree.

The record holds its cards, so a card that has changed since does not matter. A different processor or other versions of packages may
change the last digits: then the two are compared as `tips-bench check` compares, sample by sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tips_bench.cards import ModelCard, ProtocolCard, TaskCard, parse
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.user import is_object, wrap
from tips_bench.errors import UserError
from tips_bench.evaluation.run import RunOptions, evaluate_spec
from tips_bench.evaluation.spec import Spec
from tips_bench.results.record import Record, load_record
from tips_bench.results.regression import check

Verdict = Literal["equal", "agrees", "cannot tell", "differs", "other data", "other weights"]
AGREE: tuple[Verdict, ...] = ("equal", "agrees")


class Difference(NamedTuple):
    """What is not as it was. then, now: of the record, of the evaluation that was made again."""

    what: str
    then: str
    now: str


@dataclass(frozen=True)
class Again:
    """old, new: the record and its second. sentence: the verdict in words. differences: of machine, packages, data and weights."""

    old: Record
    new: Record
    verdict: Verdict
    sentence: str
    differences: list[Difference]

    @property
    def agrees(self) -> bool:
        """Whether the number was made again."""
        return self.verdict in AGREE


def again(record: Record | Path | str, weights: str | None = None, encoder: Any = None, **options: Any) -> Again:
    """Evaluate once more what a record says, and compare.

        found = tips_bench.reproduce("results/rooms-seg/tips-nano/convex-0123abcd.json", out="reproduced")
        found.agrees, found.sentence

    record: itself or its file. weights: the file that the record names, where it names one. encoder: the object, where the record's
    model was given from Python (see `tips_bench.run`). options: fields of RunOptions that change no number: device, batch_size, workers,
    data_root, out, which is not to be the record's own folder.
    Errors: those of an evaluation; a record of random weights that gets a file, one of a file that gets none; a model that was an object,
    and none is given, or the other way round.
    """
    record = record if isinstance(record, Record) else load_record(record)
    spec, cost = spec_of(record, weights), record.cost
    own = _own(record, spec, encoder, options.get("device"))
    rounded = spec.cache_dtype is not None
    said: dict[str, Any] = {"dtype": cost.dtype, "compile": cost.compiled, "seed": record.seed, "metrics": record.beside}
    said |= {"limit": spec.limit, "cache": rounded, "cache_dtype": spec.cache_dtype, "weights": spec.weights, "rerun": True}
    new = evaluate_spec(spec, RunOptions(**said, **options), own)
    verdict, sentence = judge(record, new)
    return Again(record, new, verdict, sentence, differences(record, new))


def _own(record: Record, spec: Spec, encoder: Any, device: str | None) -> Encoder | None:
    target = spec.model.architecture.get("target", "") if spec.model.source == "callable" else ""
    if encoder is not None:
        if not target:
            raise UserError(f"the record's model is {record.model!r}", where="encoder", fix="Leave it out: the record holds its card.")
        return wrap(encoder, device, record.cost.dtype)
    if is_object(spec.model):
        raise not_held(record, "Reproduce it in Python, too: tips_bench.reproduce(record, encoder=model).")
    return None


def not_held(record: Record, fix: str) -> UserError:
    """What is said where a record's model was an object and none is given. fix: what to do."""
    return UserError(f"the model was an object in Python, {record.model!r}, which the record does not hold", where=record.file, fix=fix)


def spec_of(record: Record, weights: str | None, *, needs_weights: bool = True) -> Spec:
    """The evaluation of a record, from the cards that it holds.

    weights: the file that the record names, where it names one. needs_weights: whether it is an error that it is not given.
    Errors: cards that this version does not know, weights that do not fit.
    """
    named = record.weights
    if named is None or named.startswith("random"):
        if weights is not None:
            problem = f"the record was made with {named or 'the weights of the card'}"
            raise UserError(problem, where="--weights", fix="Leave the option out.")
        weights = named
    elif weights is None and needs_weights:
        raise UserError(f"the record was made with the weight file {named!r}", where=record.file, fix="Give it: --weights FILE.")
    kinds: dict[str, type[Any]] = {"task": TaskCard, "model": ModelCard, "protocol": ProtocolCard}
    cards = {name: parse(kind, record.cards[name], where=f"{record.file}: cards.{name}") for name, kind in kinds.items()}
    own = [one for one in record.deviations if one.key]  # the others are found again
    return Spec(cards["task"], cards["model"], cards["protocol"], weights, record.limit, own)


def judge(old: Record, new: Record) -> tuple[Verdict, str]:
    """Whether two records of the same evaluation agree, and a sentence about it."""
    for split in ("fingerprint", "train_fingerprint"):
        if getattr(old.dataset, split) != getattr(new.dataset, split):
            return "other data", "The data are not those of the record, so the numbers cannot be compared."
    if old.weights_sha256 != new.weights_sha256:
        return "other weights", "The weights are not those of the record, so the numbers cannot be compared."
    if _values(old) == _values(new):
        return "equal", "Every metric is the same to the last digit."
    if not old.file.with_name(old.per_sample).is_file():
        return _by_interval(old, new)
    (outcome,) = check(new.file, old.file).outcomes
    if outcome.status == "within tolerance":
        return "agrees", f"The number agrees. {outcome.message}"
    if outcome.status == "cannot tell":
        return "cannot tell", f"The samples are too few to tell. {outcome.message}"
    return "differs", outcome.message


def _values(record: Record) -> dict[str, float | None]:
    return {name: one.model_dump()["value"] for name, one in record.metrics.items()}


def _by_interval(old: Record, new: Record) -> tuple[Verdict, str]:
    interval, value = old.primary_metric.ci95, new.primary_metric.value
    said = f"{old.primary} {old.primary_metric.value:.4g} -> {value:.4g} {old.primary_metric.unit}".rstrip()
    if interval is None:
        return "cannot tell", f"{said}; the record has neither an interval nor its counts per sample."
    held = interval[0] <= value <= interval[1]
    where = f"{'inside' if held else 'outside'} the record's 95 % interval {interval[0]:.4g} to {interval[1]:.4g}"
    return ("agrees" if held else "differs"), f"{said}, {where}; its counts per sample are not here, so samples are not paired."


def differences(old: Record, new: Record) -> list[Difference]:
    """What of the machine, the packages, the data and the weights is not as it was."""
    pairs = {name: (old.versions.get(name, "-"), new.versions.get(name, "-")) for name in sorted({*old.versions, *new.versions})}
    pairs |= {
        "commit": (_commit(old), _commit(new)),
        "device": (old.cost.device, new.cost.device),
        "batch size": (str(old.cost.batch_size), str(new.cost.batch_size)),
        "weights": (old.weights_sha256[:12], new.weights_sha256[:12]),
        "data": (old.dataset.fingerprint[:12], new.dataset.fingerprint[:12]),
        "training data": (old.dataset.train_fingerprint[:12], new.dataset.train_fingerprint[:12]),
    }
    return [Difference(what, then, now) for what, (then, now) in pairs.items() if then != now]


def _commit(record: Record) -> str:
    return f"{(record.git_commit or 'not known')[:12]}{', with changes' if record.git_dirty else ''}"
