"""What a run says of itself: one JSON object a line, and the same numbers for the loggers that the recipe names."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tips_bench.files import cannot_write, write_text
from tips_bench.loggers.base import Loggers, open_loggers
from tips_bench.memory import peak_memory_mb
from tips_bench.plain_data import leaves
from tips_bench.training.recipe import Recipe

LOG_FILE = "log.jsonl"
PROJECT = "tips-bench"
"""What loggers keep runs under."""


class Log:
    """The log of one run, continued behind `step` where there is one. On ranks but the first it is silent: run = None.

    Errors: a logger that the recipe names and that cannot be had when the run begins.
    """

    def __init__(self, run: Path | None, step: int, recipe: Recipe) -> None:
        self.path = None if run is None else run / LOG_FILE
        self.loggers = Loggers({})
        self._started, self._images = time.perf_counter(), 0
        if self.path is None or run is None:
            return
        if self.path.is_file():
            write_text(self.path, "".join(_lines_until(self.path, step)))
        settings = dict(leaves(recipe.model_dump(mode="json", exclude={"sources"})))
        names = recipe.running.loggers
        self.loggers = open_loggers(names, run, project=PROJECT, name=recipe.name, settings=settings, step=step)

    def count(self, images: int) -> None:
        """Adds to the images since the last numbers."""
        self._images += images

    def numbers(self, step: int, report: Mapping[str, float], device: torch.device) -> dict[str, float]:
        """Writes a step's numbers with images/s since the last ones and the peak of memory in MB (10^6 bytes); gives them all."""
        seconds, images = time.perf_counter() - self._started, self._images
        self._started, self._images = time.perf_counter(), 0
        found = {**report, "images_per_s": images / seconds, "memory_mb": peak_memory_mb(str(device))}
        self._write({"step": step, **found})
        self.loggers.numbers(step, found)
        return found

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        """Shows what the model of a step, which may be long past, was given by an evaluation. `event` writes it into the log."""
        self.loggers.numbers(step, values)

    def event(self, step: int, event: str, **details: Any) -> None:
        """Writes that something happened."""
        self._write({"step": step, "event": event, **details})

    def close(self) -> None:
        """Lets go of the loggers."""
        self.loggers.close()

    def _write(self, line: dict[str, Any]) -> None:
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(_without_nan(line), allow_nan=False) + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from error


def _without_nan(line: dict[str, Any]) -> dict[str, Any]:
    """JSON has no number that is not finite; null stands for it."""
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in line.items()}


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; one that a kill cut short is left out."""
    return [json.loads(line) for line in whole_lines(run / LOG_FILE)]


def _lines_until(path: Path, step: int) -> list[str]:
    """What was written before a checkpoint of `step`: what came after is about to happen again."""
    return [line for line in whole_lines(path) if json.loads(line)["step"] <= step]


def whole_lines(path: Path) -> list[str]:
    """The lines of a file of JSON objects that were written to their ends."""
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("}\n")]
