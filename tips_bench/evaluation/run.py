"""Evaluate one model on one task under one protocol, and write a record.

    tips-bench run --task ade20k --model tips-g14

A run keeps its unfinished work in a folder beside the record. The name of the folder depends on everything that can change the
result. After an interruption, the same command continues from that folder; a finished run deletes it. The record is written last, and the
log of what was said, with settings and timings, is then put beside it.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from tips_bench.adapters.base import Adapter, Scores, save_pictures
from tips_bench.cards import ModelCard
from tips_bench.catalog import PACKAGE, cache_root
from tips_bench.data.split import Split, Splits
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.load import load_encoder
from tips_bench.encoders.user import card_of, wrap
from tips_bench.errors import UserError, unknown_name
from tips_bench.evaluation.beside import (
    check_head,
    check_predictions,
    lacking,
    metrics_beside,
    place_head,
    place_predictions,
    remove_pictures,
)
from tips_bench.evaluation.cost import cost_of
from tips_bench.evaluation.fitting import fitted
from tips_bench.evaluation.keeping import limit_bytes, rounding
from tips_bench.evaluation.passes import note_passes
from tips_bench.evaluation.report import build_record, to_draw
from tips_bench.evaluation.settings import note_settings
from tips_bench.evaluation.sharing import Shared, fit_key
from tips_bench.evaluation.spec import Spec, resolve
from tips_bench.evaluation.task_data import open_splits
from tips_bench.evaluation.work import WorkFolder
from tips_bench.features.cache import FeatureCache
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor
from tips_bench.features.trial import default_workers, settings_for
from tips_bench.files import digest, sha256
from tips_bench.journal import RunLog, note, run_log, warn
from tips_bench.memory import reset_peak_memory
from tips_bench.metrics.samples import SampleCounts, save_counts
from tips_bench.probes.base import Fit, Probe
from tips_bench.probes.training_free.released_head import released_head
from tips_bench.ranks import ALONE, World
from tips_bench.registry import FAMILIES
from tips_bench.results.cost import Cost, precision_of
from tips_bench.results.kept_head import head_file
from tips_bench.results.predictions import save_prediction
from tips_bench.results.provenance import git_state
from tips_bench.results.record import Record, file_name, load_record, record_path
from tips_bench.results.statistics import ALPHA, least_p
from tips_bench.wording import counted

BATCH_SIZE = {"cpu": 4, "cuda": 32}
LOG, PREDICTIONS = "run.log", "predictions"  # in the work folder


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The settings of a run that are not part of a card.

    weights: a file, "random" or "random:SEED"; None = as the card says. device: None = the first GPU, or the CPU if there is none. dtype:
    precision of the encoder, "fp32" or "bf16". compile: see `Encoder.compile`. batch_size: images per batch. workers: threads or processes
    that decode images; None = `default_workers`. Either may be "auto": a trial of a few seconds chooses it. out: folder for the records.
    data_root: folder of the data sets. overrides: "KEY=VALUE" changes a value of a card; the record lists it as a deviation. pictures:
    number of samples to draw, a quarter each of the hardest and the easiest. predictions: keep what is predicted of each sample in a folder
    beside the record (results/predictions.py). keep_head: keep the fitted head in a file beside the record (results/kept_head.py). cache:
    keep the features for later runs. cache_limit: of all that is kept, as "200GB"; None = as $TIPS_BENCH_CACHE_LIMIT says. cache_dtype:
    round the features to "fp16" or "bf16" before they are used and kept; a deviation.
    limit: use at most so many samples of each split; a deviation. seed: for everything random. rerun: evaluate again, even if this version
    of tips-bench already wrote the record. metrics: names of additional metrics, computed from the same predictions. world: the ranks that
    evaluate together, each with the same options; `out` and the caches are on a disk that all of them see.
    """

    weights: str | None = None
    device: str | None = None
    dtype: str = "fp32"
    compile: bool = False
    batch_size: int | Literal["auto"] | None = None
    workers: int | Literal["auto"] | None = None
    out: Path | str = "results"
    data_root: Path | str | None = None
    overrides: list[str] | None = None
    pictures: int = 0
    predictions: bool = False
    keep_head: bool = False
    cache: bool = False
    cache_limit: str | None = None
    cache_dtype: str | None = None
    limit: int | None = None
    seed: int = 0
    rerun: bool = False
    metrics: list[str] | None = None
    world: World = ALONE


def evaluate(task: str, model: Any, protocol: str | None = None, **options: Any) -> Record:
    """Evaluate `model` on `task`, write the record and return it; `record.path` is its file.

        record = tips_bench.run("rooms-seg", "tips-b14", limit=20)
        record = tips_bench.run("rooms-seg", my_backbone)

    model: a name, as for `load_encoder`, or an object: an Encoder, an nn.Module or a function of pixels [B,3,H,W] in [0, 1] (see
    tips_bench.encoders.user). A module is copied, so that a model in training is not changed. protocol: None = the default protocol
    of the task. options: the fields of RunOptions.
    Errors: UserError for every problem with cards, data, weights or the disk; no record is written then.
    """
    chosen = RunOptions(**options)
    encoder = None
    if not isinstance(model, str | Path | ModelCard):
        encoder = _own_encoder(model, chosen)
        model = card_of(encoder)
    rounded = rounding(chosen.cache, chosen.dtype, chosen.cache_dtype)
    own: dict[str, Any] = {"overrides": chosen.overrides or [], "weights": chosen.weights, "limit": chosen.limit, "rounded": rounded}
    spec = resolve(task, model, protocol, **own)
    return evaluate_spec(spec, chosen, encoder)


def _own_encoder(model: Any, options: RunOptions) -> Encoder:
    changed = [assignment for assignment in options.overrides or [] if assignment.startswith("model.")]
    if options.weights is not None or changed:
        said = changed[0] if changed else f"weights = {options.weights!r}"
        raise UserError(f"{said}: the model is a Python object, not a card", where="model", fix="Change the object itself.")
    if options.compile:
        raise UserError("the model is a Python object, not a card", where="compile", fix="Compile it before you give it.")
    return wrap(model, options.device, options.dtype)


def evaluate_spec(spec: Spec, chosen: RunOptions, encoder: Encoder | None = None, shared: Shared | None = None) -> Record:
    """As `evaluate`, for resolved cards; weights, limit, cache_dtype and overrides are those of `spec`.

    encoder: used instead of the card's. shared: what the features of its images are shared with; None = with later runs if they are kept.
    What is said is also written to a log, `<protocol>-<hash>.log` beside the record.
    """
    with run_log() as log:
        return _evaluated(spec, chosen, encoder, shared, log)


def _evaluated(spec: Spec, chosen: RunOptions, encoder: Encoder | None, shared: Shared | None, log: RunLog) -> Record:
    """As `evaluate_spec`."""
    adapter: Adapter = FAMILIES.get(spec.task.family).adapter_class()(spec.task, spec.applied)
    if adapter.needs_text and not spec.model.has_text:
        raise _no_text(spec)
    beside = metrics_beside(spec, adapter, chosen.metrics or [])
    check_predictions(spec, adapter, chosen.predictions)
    check_head(spec, adapter, chosen.keep_head)
    known = FAMILIES.get(spec.task.family).counts_class().specs
    if isinstance(known, dict) and spec.task.primary not in known:  # of some families the protocol says which there are
        raise unknown_name("metric", spec.task.primary, known, where=f"task {spec.task.name}: primary")
    world = chosen.world
    splits = world.first(lambda: open_splits(adapter, spec, chosen.data_root))
    if world.is_first:
        _warn(spec, splits)
    device = chosen.device if world.size == 1 else str(world.device)
    encoder = encoder or world.first(lambda: load_encoder(spec.model, spec.weights, device, chosen.dtype, compiled=chosen.compile))
    if adapter.needs_text and not encoder.spec.has_text:
        raise _no_text(spec)
    shared = shared or Shared(cache_root() / "features" if chosen.cache else None)
    run = _Run(spec, adapter, splits, encoder, beside, chosen, shared, log)
    try:
        return run.done() or run.finish()
    except torch.OutOfMemoryError as error:
        half = run.context.extractor.batch_size // 2
        ways = [*([f"--batch-size {half}"] if half else []), *(["--dtype bf16"] if chosen.dtype == "fp32" else []), "another --device"]
        fix = f"Try {' or '.join(ways)}. The run continues where it stopped."
        raise UserError(f"{encoder.device} does not have enough memory", where=f"model {spec.model_name}", fix=fix) from error
    finally:
        run.close()


def _warn(spec: Spec, splits: Splits) -> None:
    """Of data that are not the whole set, or too few to tell two models apart."""
    for split in (splits.train, splits.test):
        if split is not None and split.size is not None and not split.size.ok:
            warn(f"task {spec.task.name}: {split.size.sentence()}")
    groups = len(set(splits.test.groups))
    if least_p(groups) > ALPHA:
        few = f"{counted(len(splits.test), 'sample')} in {counted(groups, 'group')} are too few to tell two models apart"
        warn(f"task {spec.task.name}: {few}: no p below {least_p(groups):.2g} exists")


def _no_text(spec: Spec) -> UserError:
    problem = f"encoder {spec.model_name!r} has no text tower, and the task compares images with text"
    return UserError(problem, where=f"task {spec.task.name}", fix="Choose a model with a text tower: see `tips-bench list models`.")


class _Run:
    """One evaluation in progress."""

    def __init__(
        self,
        spec: Spec,
        adapter: Adapter,
        splits: Splits,
        encoder: Encoder,
        beside: dict[str, type[SampleCounts]],
        options: RunOptions,
        shared: Shared,
        log: RunLog,
    ) -> None:
        self.log = log
        self.spec, self.adapter, self.splits, self.beside, self.options = spec, adapter, splits, beside, options
        self.world = world = options.world
        wanted = None if options.batch_size == "auto" else options.batch_size
        batch_size = wanted or BATCH_SIZE.get(encoder.device.type, BATCH_SIZE["cpu"])
        workers = options.workers if isinstance(options.workers, int) else default_workers(encoder.device)
        proxy = spec.applied.features.proxy
        other = load_encoder(proxy.model, None, str(encoder.device), options.dtype, compiled=options.compile) if proxy else None
        device, model = encoder.device.type, json.dumps(spec.model.model_dump(mode="json"), sort_keys=True)
        precision = precision_of(options.dtype, options.compile)
        named = digest(encoder.spec.identity(), model, precision, device, *filter(None, [spec.cache_dtype]))[:32]
        memory = shared.memory(named, encoder, spec.cache_dtype, limit_bytes(options.cache, options.cache_limit))
        image, read = spec.applied.image, spec.applied.features
        extractor = Extractor(encoder, image, read, batch_size, workers, world, memory, shared.layers(read, encoder), proxy=other)
        self.reading = self._reading(extractor)
        samples = splits.train.identity if splits.train else "", splits.test.identity
        self.features_id = features = named + digest(*self.reading, *samples)[:32]
        trained_on = splits.train.fingerprint if splits.train else ""
        head = [released_head(spec.model, spec.task.family)[1]] if spec.takes_released_head else []
        decisive = digest(features, json.dumps(spec.cards(), sort_keys=True), splits.test.fingerprint, trained_on, options.seed, *head)
        self.path = record_path(Path(options.out), spec.task.name, spec.model_name, spec.protocol.name, decisive[:8])
        self.work = self.path.with_name(f".{self.path.stem}.work")
        self.heads = shared.heads
        self.begun = WorkFolder(self.work, self.path)
        scratch = FeatureCache(self.work, world=world)
        texts = FeatureCache(cache_root() / "texts", "texts", world) if options.cache else scratch
        keep = partial(save_prediction, self.work / PREDICTIONS) if options.predictions else None
        self.context = RunContext(extractor, spec.applied, spec.model, scratch, texts, options.seed, keep)

    def _reading(self, extractor: Extractor) -> list[str]:
        """Everything but the encoder that shapes the features of an image, as text."""
        card, others = self.spec.applied, (extractor.proxy and extractor.proxy.spec, extractor.upsampler)
        return [card.image.model_dump_json(), card.features.model_dump_json(), *(one.identity() for one in others if one)]

    def done(self) -> Record | None:
        """The record of an earlier run, if nothing is to be scored; None = this run is to make it, and has the claim.

        Errors: another run has the claim.
        """
        earlier = self.world.told(self.earlier)
        if earlier is None or earlier[1]:
            self.world.first(self._claim)
            earlier = self.world.told(self.earlier)  # a run that had the claim may have ended just now
        if earlier is None:
            return None
        record, reasons = earlier
        if self.world.is_first:
            anew = f"scored again, of {record.created} before: {', '.join(reasons)}"
            same = f"scored before, this is the record of {record.created} (to score again: --rerun, or rerun=True)"
            warn(f"{self.spec.task.name}, {self.spec.model_name}: {anew if reasons else same}")
        return None if reasons else record

    def earlier(self) -> tuple[Record, list[str]] | None:
        """The record of an earlier run of the same thing, and why it is scored again all the same; no reason: it is not."""
        if (record := self._before()) is None:
            return None
        commit, dirty = git_state(PACKAGE)
        code = ["it is of another commit"] if record.git_commit != commit else ["the code has changes"] if dirty or record.git_dirty else []
        asked = self.options
        kept = {"predictions": asked.predictions, "keep_head": asked.keep_head}
        missing = lacking(self.path, record, pictures=asked.pictures, **kept, metrics=self.beside)
        return record, [*(["--rerun"] if asked.rerun else []), *code, *missing]

    def _before(self) -> Record | None:
        try:
            return load_record(self.path)
        except UserError:
            return None  # there is none, or one of an older schema or broken: it is written anew

    def finish(self) -> Record:
        """Fit, score, draw, write the record, and clean up."""
        started = time.perf_counter()
        self._settle()
        note_settings(self.spec, self.options, self.context.extractor, resumed=self.begun.resumed)
        reset_peak_memory(str(self.context.encoder.device))
        fit = self._fit()
        note(f"fitting took {time.perf_counter() - started:.1f} s")
        head = fit.head if fit else None
        classes = self.splits.test.reader.classes
        beside = {name: counts.for_classes(classes) for name, counts in self.beside.items()}
        scores = self.adapter.score(self.context, self.splits, head, beside)
        note(f"fitting and scoring took {time.perf_counter() - started:.1f} s")
        wall_s, extractor, dtype = time.perf_counter() - started, self.context.extractor, self.options.dtype
        if extractor.upsampler:
            scores.notes["upsampler_sha256"] = extractor.upsampler.sha256
        countable = self.spec.model.source != "callable" and extractor.proxy is None
        cost = cost_of(extractor, self.world, dtype, wall_s=wall_s, resumed=self.begun.resumed, countable=countable)
        return self._keep(fit, scores, cost)

    def _settle(self) -> None:
        """Choose by a short trial what was asked to be "auto"; all ranks take the same."""
        if "auto" in (self.options.batch_size, self.options.workers):
            extractor, auto = self.context.extractor, self.options
            found = settings_for(extractor, self.splits.test.reader, None if auto.batch_size == "auto" else extractor.batch_size)
            batch_sizes, workers = zip(*self.world.gather(found), strict=True)
            extractor.batch_size = min(batch_sizes)
            if auto.workers == "auto":
                extractor.workers = max(workers)

    def _claim(self) -> None:
        """The work folder, for the ranks of this run alone. Errors: no such folder can be made, another run has it."""
        if self.world.is_first:
            self.begun.claim()
            self.log.open(self.work / LOG)

    def _keep(self, fit: Fit | None, scores: Scores, cost: Cost) -> Record:
        """Write the counts, the pictures and, last of all, the record; the first rank does, the others read it."""
        return self.world.first(lambda: self._write(fit, scores, cost) if self.world.is_first else load_record(self.path))

    def _write(self, fit: Fit | None, scores: Scores, cost: Cost) -> Record:
        stem, weights = self.path.with_suffix(""), self.context.encoder.spec.weights_sha256
        samples = stem.with_name(f"{stem.name}.samples.npz")
        record = build_record(self.spec, self.splits, fit, scores, cost, weights, self.options.seed, samples.name, self.features_id)
        if self.options.pictures:
            shown = to_draw(self.splits.test, scores.counts, record.primary, self.options.pictures)
            drawn = self.adapter.draw(self.context.alone(), self.splits, fit.head if fit else None, shown.indices)
            record.pictures, record.pictured = save_pictures(drawn, stem, [file_name(id) for id in shown.ids]), shown.ids
        if self.options.predictions:
            place_predictions(self.work / PREDICTIONS, self.path)
        if self.options.keep_head and fit:
            record.head_sha256 = place_head(fit.head, self.path)
        save_counts(samples, scores.counts, scores.beside)
        record.per_sample_sha256 = sha256(samples)
        for kept in (self.context.texts, self.context.extractor.memory):
            if kept is not None:
                kept.flush()
        if self.options.cache and (memory := self.context.extractor.memory) is not None:
            note_passes(self.spec, record.cost.precision, self.context.encoder.device.type, memory.folder)
        before = self._before()
        record.save(self.path)
        note(f"record written: {self.path}")
        remove_pictures(self.path, set(before.pictures) - set(record.pictures) if before else ())
        if record.head_sha256 is None:
            head_file(self.path).unlink(missing_ok=True)
        self.log.move(self.work / LOG, self.path.with_suffix(".log"))
        shutil.rmtree(self.work, ignore_errors=True)
        return record

    def close(self) -> None:
        """Let go of all files; a work folder for which the encoder has done nothing yet is removed."""
        for kept in (self.context.texts, self.context.scratch, self.context.extractor.memory):
            if kept is not None:
                kept.close()
        self.begun.close(worth_keeping=self.context.extractor.meter.image_forwards > 0)

    def _fit(self) -> Fit | None:
        """The probe's fit, taken up from an earlier try; None where nothing is fitted."""
        probe, train = self.adapter.probe, self.splits.train
        if probe is None:
            return None
        if train is None:
            return self._without_train(probe)
        folders = [self.work, *([self.heads / self._fit_id(train)] if self.heads else [])]
        return fitted(probe, folders, lambda: probe.fit(self.context, train), self.world)

    def _fit_id(self, train: Split) -> str:
        """Of everything that a fit depends on."""
        encoder, options = self.context.encoder, self.options
        identity = encoder.spec.identity(), *self.reading, options.dtype, encoder.device.type, options.seed, train.identity
        return digest(*identity, *fit_key(self.spec))[:32]

    def _without_train(self, probe: Probe) -> Fit:
        fit, spec = probe.fit(self.context, self.splits.test), self.spec
        if spec.takes_released_head and spec.model_name != spec.model.name:
            fit.warnings.append(f"the released head was trained on {spec.model.name}'s own weights")
        return fit
