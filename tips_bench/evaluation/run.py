"""Score one model on one task under one protocol, and keep a record of it.

    tips-bench run --task ade20k --model tips-g14

A run leaves its unfinished work in a folder beside the record, named for everything that decides the outcome. The same command
after a kill takes it up; a finished run deletes it. The record is the last file to appear.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tips_bench.adapters.base import Adapter, Split
from tips_bench.cards import TaskCard, load_card
from tips_bench.catalog import PACKAGE, cache_root, data_root, generated_root
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.evaluation.report import build_record
from tips_bench.evaluation.spec import Spec, resolve
from tips_bench.features.cache import FeatureCache
from tips_bench.features.extract import Extractor
from tips_bench.features.inference import Inference
from tips_bench.files import cannot_write, digest, write_text
from tips_bench.probes.base import Choice, Fit, FitContext
from tips_bench.probes.training_free.released_head import released_head
from tips_bench.registry import ADAPTERS
from tips_bench.results.provenance import git_state, peak_memory_mb, reset_peak_memory
from tips_bench.results.record import Cost, Record, load_record, record_path

BATCH_SIZE = {"cpu": 4, "cuda": 32}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run, none of which is part of a card.

    weights: a file or "random" or "random:SEED" in place of the card's. device: None = the first GPU where there is one. dtype:
    "fp32" or "bf16", of the encoder. batch_size: images a batch. workers: threads or processes that decode images. out: folder
    of the records. data_root: folder of the data sets. overrides: "KEY=VALUE" on a card, recorded as deviations. pictures:
    samples to draw. cache: keep features for later runs. limit: at most so many samples of each split, a deviation. seed: of
    whatever the protocol draws. rerun: score again although this version has the record already.
    """

    weights: str | None = None
    device: str | None = None
    dtype: str = "fp32"
    batch_size: int | None = None
    workers: int = 2
    out: Path | str = "results"
    data_root: Path | str | None = None
    overrides: list[str] | None = None
    pictures: int = 0
    cache: bool = False
    limit: int | None = None
    seed: int = 0
    rerun: bool = False


def misfit(task: TaskCard, root: Path) -> str | None:
    """What keeps a task's card from its data, as class names of another length; None where the two fit. root: the data root."""
    try:
        ADAPTERS.get(task.family)(task, load_card("protocol", task.protocol)).open(root / task.data.root, None)
    except UserError as error:
        return str(error)
    return None


def evaluate(task: str, model: str, protocol: str | None = None, **options: Any) -> Record:
    """Score `model` on `task` and write the record. options: the fields of RunOptions. protocol: the task's default if None.

    Errors: every fault of cards, data, weights and disk as a UserError, and then there is no record.
    """
    chosen = RunOptions(**options)
    spec = resolve(task, model, protocol, chosen.overrides or [], chosen.weights, chosen.limit)
    adapter: Adapter = ADAPTERS.get(spec.task.family)(spec.task, spec.protocol)
    if adapter.needs_text and not spec.model.has_text:
        raise _no_text(spec)
    train, test = adapter.open(_data_folder(spec, chosen), chosen.limit)
    encoder = load_encoder(spec.model, chosen.weights, chosen.device, chosen.dtype)
    if adapter.needs_text and not encoder.spec.has_text:
        raise _no_text(spec)
    run = _Run(spec, adapter, train, test, encoder, chosen)
    done = None if chosen.rerun else run.finished()
    if done is not None:
        return done
    try:
        return run.finish()
    except torch.OutOfMemoryError as error:
        half = run.extractor.batch_size // 2
        ways = [*([f"--batch-size {half}"] if half else []), *(["--dtype bf16"] if chosen.dtype == "fp32" else []), "another --device"]
        fix = f"Try {' or '.join(ways)}; what is done so far is kept."
        raise UserError(f"{encoder.device} has not enough memory", where=f"model {spec.model_name}", fix=fix) from error
    finally:
        run.close()


def _no_text(spec: Spec) -> UserError:
    fix = "Choose one with text: `tips-bench list models`."
    return UserError(
        f"encoder {spec.model_name!r} has no text, and the task compares images with text", where=f"task {spec.task.name}", fix=fix
    )


def _data_folder(spec: Spec, options: RunOptions) -> Path:
    """Where the task's data lie; rooms are generated on first use, in the cache unless a data root is given."""
    data, root = spec.task.data, None if options.data_root is None else Path(options.data_root)
    if data.generator is None:
        return (root or data_root()) / data.root
    from tips_bench.rooms.writing.writers import write_rooms

    place = (root or generated_root()) / data.root
    write_rooms(root=place, **data.generator_options)
    return place


class _Run:
    """One evaluation in progress."""

    def __init__(self, spec: Spec, adapter: Adapter, train: Split | None, test: Split, encoder: Encoder, options: RunOptions) -> None:
        self.spec, self.adapter, self.train, self.test, self.encoder, self.options = spec, adapter, train, test, encoder, options
        batch_size = options.batch_size or BATCH_SIZE.get(encoder.device.type, BATCH_SIZE["cpu"])
        self.extractor = Extractor(encoder, spec.protocol.image, spec.protocol.features, batch_size, options.workers)
        features = self._features_identity()
        trained_on = train.fingerprint if train else ""
        head = [released_head(spec.model, spec.task.family).identity] if spec.takes_released_head else []
        decisive = digest(features, json.dumps(spec.cards(), sort_keys=True), test.fingerprint, trained_on, options.seed, *head)
        self.path = record_path(Path(options.out), spec.task.name, spec.model_name, spec.protocol.name, decisive[:8])
        self.work = self.path.with_name(f".{self.path.stem}.work")
        self.resumed = self.work.is_dir()
        self.scratch = FeatureCache(self.work)
        self.cache = FeatureCache(cache_root() / "features", features) if options.cache else self.scratch

    def _features_identity(self) -> str:
        """A text of everything that shapes the features of an image: the key of a cache."""
        spec, card = self.encoder.spec, self.spec.protocol
        parts = [json.dumps(asdict(spec)), json.dumps(self.spec.model.model_dump(mode="json"), sort_keys=True)]
        parts += [card.image.model_dump_json(), card.features.model_dump_json(), self.options.dtype, self.encoder.device.type]
        return digest(*parts, self.train.reader.fingerprint if self.train else "", self.test.reader.fingerprint)

    def finished(self) -> Record | None:
        """The record of an earlier run of the same thing by the same commit, if it has the pictures that are asked for."""
        if not self.path.is_file():
            return None
        try:
            record = load_record(self.path)
        except UserError:
            return None  # of an older schema or broken: it is written anew
        commit, dirty = git_state(PACKAGE)
        same = record.git_commit == commit and not dirty and not record.git_dirty
        return record if same and len(record.pictures) >= self.options.pictures else None

    def finish(self) -> Record:
        """Fit, score, draw, write the record, and clean up."""
        started = time.perf_counter()
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.work, error) from error
        reset_peak_memory(str(self.encoder.device))
        fit = self._fit()
        inference = Inference(self.extractor, self.spec.protocol.inference, self.cache)
        counts = self.adapter.score(inference, self.test, fit, self.scratch)
        cost = self._cost(time.perf_counter() - started)
        stem, weights = self.path.with_suffix(""), self.encoder.spec.weights_sha256
        samples = stem.with_name(f"{stem.name}.samples.npz")
        record = build_record(self.spec, self.train, self.test, fit, counts, cost, weights, self.options.seed, samples.name)
        if self.options.pictures:
            record.pictures = self.adapter.draw(inference, self.test, fit, self.options.pictures, stem)
        counts.save(samples)
        record.save(self.path)
        shutil.rmtree(self.work, ignore_errors=True)
        return record

    def close(self) -> None:
        """Let go of all files; a work folder for which the encoder has done nothing yet is removed."""
        self.cache.close()
        self.scratch.close()
        if not self.extractor.meter.image_forwards and not self.resumed:
            shutil.rmtree(self.work, ignore_errors=True)

    def _fit(self) -> Fit:
        if self.train is None:
            return self._released() if self.spec.takes_released_head else Fit(None, {})
        head, notes = self.work / "head.npz", self.work / "fit.json"
        if notes.is_file():
            data = json.loads(notes.read_text(encoding="utf-8"))
            choice = Choice(**data["choice"]) if data["choice"] else None
            return Fit(self.adapter.load_head(head), data["report"], choice, data["warnings"])
        fit = self.adapter.fit(self._context(self.train, self.train.indices))
        assert fit.head is not None, "a fit on a training split gives a head"
        fit.head.save(head)
        chosen = asdict(fit.choice) if fit.choice else None
        write_text(notes, json.dumps({"report": fit.report, "choice": chosen, "warnings": fit.warnings}))
        return fit

    def _released(self) -> Fit:
        fit, spec = self.adapter.fit(self._context(self.test, [])), self.spec
        if spec.model_name != spec.model.name:
            fit.warnings.append(f"the released head was trained on {spec.model.name}'s own weights")
        return fit

    def _context(self, split: Split, indices: list[int]) -> FitContext:
        card, seed = self.spec.protocol, self.options.seed
        return FitContext(
            self.extractor, split.reader, indices, card.inference, card.selection, self.work, self.cache, seed, self.spec.model
        )

    def _cost(self, wall_s: float) -> Cost:
        meter, device = self.extractor.meter, self.encoder.device
        return Cost(
            wall_s=wall_s,
            encoder_s=meter.encoder_s,
            image_forwards=meter.image_forwards,
            images_per_s=meter.image_forwards / wall_s,
            peak_memory_mb=peak_memory_mb(str(device)),
            device=_device_name(device),
            dtype=self.options.dtype,
            resumed=self.resumed,
        )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {torch.get_num_threads()} threads"
