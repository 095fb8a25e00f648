"""How much memory torch's allocator gives out during a training step, to the byte and the same in every run.

The resident memory of a process is no measure of it: it contains libraries and pages that were freed, and depends on what else runs on the
machine. torch's profiler reports every allocation of the CPU allocator with the sum of those that are alive, as
`torch.cuda.max_memory_allocated` does on a GPU.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, record_function

from tests.helpers.pretraining import ALONE, full_batch
from tips_bench.training.recipe import Recipe
from tips_bench.training.step import Learner


def step_peaks(recipe: Recipe, trace: Path) -> list[int]:
    """Bytes at the fullest moment of the second step of each stage, on one rank. The first step also makes the optimizer's state.

    trace: a file that the profiler may write.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        learner, first = Learner(recipe, ALONE), 0
        for stage in recipe.stages:
            batch = full_batch(recipe, stage)
            learner.step(batch, first)
            with record_function(f"measured: {stage.name}"):
                learner.step(batch, first + 1)
            first += stage.steps
            del batch
    profiler.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    found = [event for event in events if event["name"] == "[memory]"]
    changes = sorted((event["ts"], event["args"]["Total Allocated"], event["args"]["Bytes"]) for event in found)
    before = changes[0][1] - changes[0][2]  # what an earlier profile saw, and was freed after it
    alive = [(time, total - before) for time, total, _ in changes]
    peaks = []
    for stage in recipe.stages:
        (span,) = (event for event in events if event["name"] == f"measured: {stage.name}")
        peaks.append(max(total for time, total in alive if span["ts"] <= time <= span["ts"] + span["dur"]))
    return peaks
