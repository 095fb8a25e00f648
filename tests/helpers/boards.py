"""Boards of entries that have what a rank needs and no files."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from tips_bench.leaderboard.ranking import Board
from tips_bench.results.record import MetricValue

RESAMPLES = 2000


def entry(task: str, model: str, value: float, *, spread: float = 0.0, higher: bool = True, ms: float = 1.0) -> SimpleNamespace:
    drawn_R = value + spread * np.random.default_rng([ord(letter) for letter in task + model]).normal(size=RESAMPLES)
    metric = MetricValue(value=value, unit="%", higher_is_better=higher, ci95=None if math.isnan(value) else (value - 1, value + 1), n=10)
    record = SimpleNamespace(model_name=model, cards={"model": {"parameters": 86_000_000, "patch_size": 14}})
    return SimpleNamespace(
        id=f"{task}-{model}", label=model, model=model, record=record, metric=metric, drawn_R=drawn_R, machine="cpu", encoder_ms=ms
    )


def board(task: str, scores: dict[str, float], protocol: str = "convex", **options: float) -> Board:
    entries = [entry(task, model, value, **options) for model, value in scores.items()]  # type: ignore[arg-type]
    entries.sort(key=lambda one: one.metric.spec.order(one.metric.value))
    return Board(task, "segmentation", protocol, f"{task} {protocol}", entries)  # type: ignore[arg-type]
