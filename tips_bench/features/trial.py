"""A short trial of an encoder and of decoding, which finds a batch size and a number of workers for this machine.

Neither changes what a run finds, beyond the last bits in which kernels differ from one batch size to another: see docs/hardware.md.
Axes: B batch, H W pixels.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tips_bench.encoders.base import Encoder
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.memory import peak_memory_mb, reset_peak_memory

GAIN = 1.03  # a batch twice as large is taken if it is this much faster
LARGEST = {"cpu": 16, "cuda": 256}  # images; a CPU gains nothing from more, and its memory is not its own
MEMORY = 0.4  # of a GPU: the next batch, twice as large, still fits
SECONDS = {"cpu": 8.0, "cuda": 5.0}  # that a trial takes at most, its last batch included
ROUND_S = 0.3  # shorter rounds are repeated until so much has passed
BATCHES = {"cpu": 1, "cuda": 8}  # of a round: a GPU takes up one batch before it has ended the last
SPARE = 1.25  # decoding is to be this much faster than the encoder
WORKERS = {"cpu": 2, "cuda": 8}  # a thread decodes and resizes some 150 images of 640 x 480 a second, a GPU encodes hundreds


@dataclass(frozen=True)
class Rate:
    """What an encoder reaches with one batch size. memory_mb: the peak, in MB of 10^6 bytes."""

    batch_size: int
    images_per_s: float
    memory_mb: float


def rate_of(encoder: Encoder, batch_size: int, height: int, width: int, least_s: float = ROUND_S, *, copied: bool = False) -> Rate:
    """Measured on black images, which do not count as pixels seen, after one batch that is not timed.

    The fastest round of `least_s` seconds, at least one, counts. copied: each batch goes from pinned memory to a GPU, beside the
    computation, as in a run; otherwise the pixels are on the device already.
    Errors: torch.OutOfMemoryError where the batch does not fit a GPU.
    """
    kind = encoder.device.type
    pixels_B3HW = torch.zeros(batch_size, 3, height, width, pin_memory=copied and kind == "cuda")
    pixels_B3HW = pixels_B3HW if copied else pixels_B3HW.to(encoder.device)
    batches = BATCHES.get(kind, BATCHES["cpu"])
    reset_peak_memory(str(encoder.device))
    with encoder.pixels_known(), encoder.checks.late():
        encoder.encode_image(pixels_B3HW)
        best, began = math.inf, _now(encoder)
        while best == math.inf or _now(encoder) - began < least_s:
            start = _now(encoder)
            for _ in range(batches):
                encoder.encode_image(pixels_B3HW)
            best = min(best, _now(encoder) - start)
    return Rate(batch_size, batches * batch_size / best, peak_memory_mb(str(encoder.device)))


def rates(encoder: Encoder, height: int, width: int, seconds: float | None = None) -> Iterator[Rate]:
    """Batches of 1, 2, 4 and so on, until one is no faster, nears the memory, does not fit, or would take more than the seconds left."""
    kind = encoder.device.type
    left = SECONDS.get(kind, SECONDS["cpu"]) if seconds is None else seconds
    best = 0.0
    for batch_size in (2**power for power in itertools.count()):
        start = time.perf_counter()
        try:
            found = rate_of(encoder, batch_size, height, width)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if batch_size == 1:
                problem = f"{encoder.device} does not have enough memory for one image of {height}x{width} pixels"
                raise UserError(problem, where=encoder.spec.name, fix="Try --dtype bf16 or another --device.") from error
            return
        yield found
        left -= time.perf_counter() - start
        full = kind == "cuda" and found.memory_mb * 1e6 > MEMORY * torch.cuda.get_device_properties(encoder.device).total_memory
        slower = found.images_per_s < best * GAIN
        if full or slower or 2 * batch_size > LARGEST.get(kind, LARGEST["cpu"]) or 4 * batch_size / found.images_per_s > left:
            return
        best = max(best, found.images_per_s)


def best_of(found: list[Rate]) -> Rate:
    """The smallest batch that no other beats by more than GAIN."""
    fastest = max(rate.images_per_s for rate in found)
    return next(rate for rate in found if rate.images_per_s * GAIN >= fastest)


def decode_seconds(load: Callable[[int], object], images: int, seconds: float = 1.0) -> float:
    """Seconds that one image takes one thread: read, decoded and resized. load: does so with an image by its index; the first is not timed.

    images: how many there are. seconds: that are spent at most.
    """
    load(0)
    start = time.perf_counter()
    done = 0
    while not done or (done < images and time.perf_counter() - start < seconds):
        load(done)
        done += 1
    return (time.perf_counter() - start) / done


def workers_for(images_per_s: float, decode_s: float) -> int:
    """Threads that decode at least as fast as an encoder of so many images a second asks, at most one for each processor."""
    return min(processors(), max(1, math.ceil(SPARE * images_per_s * decode_s)))


def default_workers(device: torch.device) -> int:
    """Threads that decode where nothing is asked for: for a GPU as many as suit one, if this rank's share of the processors allows it."""
    ranks_here = os.environ.get("LOCAL_WORLD_SIZE", "1")
    share = processors() // max(1, int(ranks_here) if ranks_here.isdecimal() else 1)
    return max(WORKERS["cpu"], min(WORKERS.get(device.type, WORKERS["cpu"]), share))


def processors() -> int:
    """Of this machine, those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _now(encoder: Encoder) -> float:
    """Seconds, after all that the device was asked to do is done."""
    if encoder.device.type == "cuda":
        torch.cuda.synchronize(encoder.device)
    return time.perf_counter()


def settings_for(extractor: Extractor, reader: Any, batch_size: int | None) -> tuple[int, int]:
    """(batch size, workers) for a run of this extractor over images of the reader. batch_size: None = the best of a trial.

    A reader of scans has no images of its own: two workers then.
    """
    side = extractor.encoder.spec.resolution
    height, width = extractor.inner_size(side, side)
    encoder = extractor.encoder
    found = [rate_of(encoder, batch_size, height, width)] if batch_size else list(rates(encoder, height, width))
    best = best_of(found)
    if not hasattr(reader, "size"):
        return best.batch_size, min(2, processors())
    decode_s = decode_seconds(lambda index: extractor.pixels(reader.load(index).image_HW3), len(reader))
    return best.batch_size, workers_for(best.images_per_s, decode_s)
