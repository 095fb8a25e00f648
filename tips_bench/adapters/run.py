"""Score one model on one task under one protocol, and keep a record of it.

    tips-bench run --task ade20k --model tips-g14

A run leaves its unfinished work in a folder beside the record, named for everything that decides the outcome. The same command
after a kill takes it up; a finished run deletes it. The record is the last file to appear.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from tips_bench.adapters.cell import Cell, resolve
from tips_bench.catalog import PACKAGE, cache_root, data_root
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.load import load_encoder
from tips_bench.features.extract import Extractor
from tips_bench.features.store import Shelf
from tips_bench.files import cannot_write, digest, write_text
from tips_bench.metrics.segmentation import summary
from tips_bench.probes.base import Choice, Fit, FitContext
from tips_bench.probes.head import LinearHead
from tips_bench.probes.inference import Inference
from tips_bench.registry import ADAPTERS
from tips_bench.results.provenance import git_state, peak_memory_mb, reset_peak_memory, versions
from tips_bench.results.record import Cost, DatasetIdentity, MetricValue, Record, Selection, record_path
from tips_bench.results.statistics import intervals

BATCH_SIZE = {"cpu": 4, "cuda": 32}
WORKERS = 2


def evaluate(
    task: str,
    model: str,
    *,
    protocol: str | None = None,
    weights: str | None = None,
    device: str | None = None,
    dtype: str = "fp32",
    batch_size: int | None = None,
    workers: int | None = None,
    out: Path | str = Path("results"),
    data_root: Path | str | None = None,
    overrides: list[str] | None = None,
    pictures: int = 0,
    cache: bool = False,
    limit: int | None = None,
    seed: int = 0,
) -> Record:
    """Score `model` on `task` and write the record under `out`.

    protocol: a name that the task allows, its default otherwise. weights: a file or "random" in place of the card's. overrides:
    "KEY=VALUE" on a card, recorded as deviations. cache: keep features for later runs. limit: at most so many samples a split.
    pictures: samples to draw. Errors: every fault of cards, data, weights and disk as a UserError, before or without a record.
    """
    cell = resolve(task, model, protocol, list(overrides or []), weights, limit)
    adapter = ADAPTERS.get(cell.task.family)(cell.protocol)
    root = _data(cell, None if data_root is None else Path(data_root))
    train, test = adapter.open(cell.task.data, root, limit)
    encoder = load_encoder(cell.model, weights, device, dtype)
    run = _Run(cell, adapter, train, test, encoder, batch_size, workers, Path(out), cache, seed, dtype)
    try:
        return run.finish(pictures)
    finally:
        run.close()


def _data(cell: Cell, root: Path | None) -> Path:
    """Where the task's data lie; rooms are generated on first use, in the cache unless a data root is given."""
    data = cell.task.data
    if data.generator is None:
        return (root or data_root()) / data.root
    from tips_bench.rooms.writers import write_rooms

    place = (root or cache_root() / "generated") / data.root
    write_rooms(root=place, **data.generator_options)
    return place


class _Run:
    """One evaluation in progress."""

    def __init__(
        self,
        cell: Cell,
        adapter: Any,
        train: Any,
        test: Any,
        encoder: Encoder,
        batch_size: int | None,
        workers: int | None,
        out: Path,
        cache: bool,
        seed: int,
        dtype: str,
    ) -> None:
        self.cell, self.adapter, self.train, self.test, self.encoder, self.seed, self.dtype = cell, adapter, train, test, encoder, seed, dtype
        self.extractor = Extractor(
            encoder,
            cell.protocol.image,
            cell.protocol.features,
            batch_size or BATCH_SIZE.get(encoder.device.type, BATCH_SIZE["cpu"]),
            WORKERS if workers is None else workers,
        )
        features = self._features_identity()
        self.hash = digest(features, json.dumps(cell.cards(), sort_keys=True), test.fingerprint, seed)[:8]
        self.path = record_path(out, cell.task.name, cell.model_name, cell.protocol.name, self.hash)
        self.work = self.path.with_name(f".{self.path.stem}.work")
        self.scratch = Shelf(self.work)
        self.shelf = Shelf(cache_root() / "features", features) if cache else self.scratch
        self.started = time.perf_counter()
        try:
            self.resumed = self.work.is_dir()
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.work, error) from error
        reset_peak_memory(str(encoder.device))

    def _features_identity(self) -> str:
        """A text of everything that shapes the features of a training image: the key of a cache."""
        spec, card = self.encoder.spec, self.cell.protocol
        parts = [json.dumps(asdict(spec)), json.dumps(self.cell.model.model_dump(mode="json"), sort_keys=True)]
        parts += [card.image.model_dump_json(), card.features.model_dump_json(), self.dtype, self.encoder.device.type]
        return digest(*parts, self.train.reader.fingerprint, self.test.reader.fingerprint)

    def finish(self, pictures: int) -> Record:
        """Fit, score, draw, write the record, and clean up."""
        fit = self._fit()
        inference = Inference(self.extractor, self.cell.protocol.inference, self.shelf)
        counts = self.adapter.score(inference, self.test, fit, self.scratch)
        cost = self._cost()
        stem = self.path.with_suffix("")
        drawn = self.adapter.draw(inference, self.test, fit, pictures, stem) if pictures else []
        samples = stem.with_name(f"{stem.name}.samples.npz")
        counts.save(samples)
        record = self._record(fit, counts, cost, samples.name, drawn)
        record.save(self.path)
        shutil.rmtree(self.work, ignore_errors=True)
        return record

    def close(self) -> None:
        """Let go of all files."""
        self.shelf.close()
        self.scratch.close()

    def _fit(self) -> Fit:
        head, notes = self.work / "head.npz", self.work / "fit.json"
        if notes.is_file():
            data = json.loads(notes.read_text(encoding="utf-8"))
            choice = Choice(**data["choice"]) if data["choice"] else None
            return Fit(LinearHead.load(head), data["report"], choice, data["warnings"])
        context = FitContext(
            self.extractor,
            self.train.reader,
            self.train.indices,
            self.cell.protocol.inference,
            self.cell.protocol.selection,
            self.work,
            self.shelf,
            self.seed,
        )
        fit = self.adapter.fit(context)
        fit.head.save(head)
        choice = asdict(fit.choice) if fit.choice else None
        write_text(notes, json.dumps({"report": fit.report, "choice": choice, "warnings": fit.warnings}))
        return fit

    def _cost(self) -> Cost:
        wall, meter = time.perf_counter() - self.started, self.extractor.meter
        return Cost(
            wall_s=wall,
            encoder_s=meter.encoder_s,
            image_forwards=meter.image_forwards,
            images_per_s=meter.image_forwards / wall,
            peak_memory_mb=peak_memory_mb(str(self.encoder.device)),
            device=_device_name(self.encoder.device),
            dtype=self.dtype,
            resumed=self.resumed,
        )

    def _record(self, fit: Fit, counts: Any, cost: Cost, samples: str, drawn: list[str]) -> Record:
        cell, reader = self.cell, self.test.reader
        values = counts.compute()
        sure = intervals(counts.counts_N, counts.groups, summary)
        metrics = {
            name: MetricValue(
                value=float(values[name]), unit=spec.unit, higher_is_better=spec.higher_is_better, ci95=sure[name], n=len(counts)
            )
            for name, spec in counts.specs.items()
        }
        per_class = {
            name: {label: None if value != value else float(value) for label, value in zip(reader.classes, values[name], strict=True)}
            for name in counts.per_class_specs
        }
        commit, dirty = git_state(PACKAGE)
        deviations = [*cell.deviations, *fit.warnings]
        choice = fit.choice
        selection = choice and Selection(
            metric=cell.task.primary, grid=choice.grid, scores=choice.scores, choice=choice.index, held_out=choice.held_out
        )
        return Record(
            task=cell.task.name,
            family=cell.task.family,
            protocol=cell.protocol.name,
            protocol_hash=cell.protocol_hash,
            model=cell.model_name,
            weights_sha256=self.encoder.spec.weights_sha256,
            metrics=metrics,
            per_class=per_class,
            primary=cell.task.primary,
            comparable=not deviations,
            deviations=deviations,
            probe=fit.report,
            selection=selection,
            dataset=DatasetIdentity(
                name=reader.name,
                split=self.test.name,
                n=len(self.test.indices),
                fingerprint=self.test.fingerprint,
                train_split=self.train.name,
                train_n=len(self.train.indices),
                train_fingerprint=self.train.fingerprint,
                classes=list(reader.classes),
            ),
            cost=cost,
            versions=versions(),
            git_commit=commit,
            git_dirty=dirty,
            command=" ".join(sys.argv),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            per_sample=samples,
            pictures=drawn,
            seed=self.seed,
            cards=cell.cards(),
        )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {torch.get_num_threads()} threads"
