"""How long evaluations will take: what `estimate` counts, at the speed that each encoder has in a short trial on this machine.

It is the encoder's time alone. What a probe costs comes on top: the heads that are trained on random crops, the fit of a solved one.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from tips_bench.encoders.base import Encoder
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.evaluation.counting import Size
from tips_bench.evaluation.estimate import Estimate
from tips_bench.evaluation.run import BATCH_SIZE, RunOptions
from tips_bench.evaluation.sharing import job_key
from tips_bench.features.trial import best_of, rate_of, rates

TRIAL_BATCH = {**BATCH_SIZE, "cpu": 1}  # a CPU is about as fast with one image as with several


def encoder_hours(found: Sequence[Estimate], options: RunOptions, failed: Callable[[UserError], None]) -> list[float | None]:
    """Of each evaluation; None where `sizes` are not known. Random weights stand for an encoder's own, and are as fast.

    failed: called with why a model cannot be tried; its hours are None. It may lack a package, or not fit the memory.
    """
    needed: dict[str, set[Size]] = {}
    for one in found:
        needed.setdefault(_model(one), set()).update(one.sizes)
    seconds: dict[tuple[str, Size], float] = {}
    for one in found:
        wanted = needed.pop(_model(one), None)
        try:
            seconds |= _trial(one, wanted, options) if wanted else {}
        except UserError as error:
            failed(error)
    return [_hours(one, seconds) for one in found]


def _trial(found: Estimate, sizes: Iterable[Size], options: RunOptions) -> dict[tuple[str, Size], float]:
    weights = "random" if found.spec.model.weights or found.spec.weights else None  # pixels and a user's callable have none
    encoder = load_encoder(found.spec.model, weights, options.device, options.dtype)
    return {(_model(found), size): _seconds_an_image(encoder, size, options) for size in sizes}


def _hours(found: Estimate, seconds: Mapping[tuple[str, Size], float]) -> float | None:
    if not found.sizes or any((_model(found), size) not in seconds for size in found.sizes):
        return 0.0 if found.alone and not found.shared else None
    return sum(number * seconds[_model(found), size] for size, number in found.sizes.items()) / 3600


def _model(found: Estimate) -> str:
    return found.spec.model.model_dump_json()


def _seconds_an_image(encoder: Encoder, size: Size, options: RunOptions) -> float:
    height, width = (math.ceil(side / encoder.spec.patch_size) * encoder.spec.patch_size for side in size)
    try:
        if options.batch_size == "auto":
            rate = best_of(list(rates(encoder, height, width)))
        else:
            rate = rate_of(encoder, options.batch_size or TRIAL_BATCH.get(encoder.device.type, 1), height, width)
    except torch.OutOfMemoryError as error:
        problem = f"{encoder.device} does not have enough memory for a batch of images of {height}x{width} pixels"
        raise UserError(problem, where=f"model {encoder.spec.name}", fix="Try --batch-size auto or --dtype bf16.") from error
    return 1 / rate.images_per_s


def hours_of_jobs(found: Sequence[Estimate], hours: Sequence[float | None], at_once: int | None) -> tuple[int, float, float]:
    """(number of jobs, hours of the longest, hours from start to end) where so many jobs run at a time, None = all of them.

    Hours that are not known count as 0.
    """
    jobs: dict[tuple[str, ...], float] = {}
    for one, own in zip(found, hours, strict=True):
        jobs[job_key(one.spec)] = jobs.get(job_key(one.spec), 0.0) + (own or 0.0)
    free = [0.0] * min(at_once or len(jobs), len(jobs))
    for job in jobs.values():
        heapq.heappush(free, heapq.heappop(free) + job)
    return len(jobs), max(jobs.values(), default=0.0), max(free, default=0.0)
