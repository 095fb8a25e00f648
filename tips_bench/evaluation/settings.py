"""What an evaluation writes into its log before it starts: versions, settings, machine. Nothing of the environment: it may hold secrets."""

from __future__ import annotations

import dataclasses
import platform
from typing import TYPE_CHECKING

import torch

from tips_bench import __version__
from tips_bench.features.extract import Extractor
from tips_bench.journal import note
from tips_bench.wording import counted

if TYPE_CHECKING:
    from tips_bench.evaluation.run import RunOptions
    from tips_bench.evaluation.spec import Spec


def note_settings(spec: Spec, options: RunOptions, extractor: Extractor, *, resumed: bool) -> None:
    """options: as they were asked for. extractor: with what was chosen where they leave it open."""
    note(f"{'continues' if resumed else 'starts'}: task {spec.task.name}, model {spec.model_name}, protocol {spec.protocol.name}")
    note(f"tips-bench {__version__}, torch {torch.__version__}, Python {platform.python_version()}, {platform.platform()}")
    asked = {field.name: getattr(options, field.name) for field in dataclasses.fields(options) if field.name != "world"}
    note(f"settings: {', '.join(f'{name}={value}' for name, value in asked.items())}, ranks={options.world.size}")
    note(f"device {extractor.encoder.device}, batches of {counted(extractor.batch_size, 'image')}, {counted(extractor.workers, 'worker')}")
