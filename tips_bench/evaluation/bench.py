"""What an encoder and the decoding of images reach on this machine, and the settings that suit it.

Axes: B batch, H W pixels.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from tips_bench.adapters.base import Adapter
from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.data.images import read_image
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.flops import dense_peak, image_flops
from tips_bench.errors import UserError
from tips_bench.evaluation.cost import device_name
from tips_bench.evaluation.spec import Spec
from tips_bench.evaluation.task_data import data_folder
from tips_bench.features.extract import Extractor
from tips_bench.features.trial import Rate, best_of, decode_seconds, processors, rate_of, rates, workers_for
from tips_bench.registry import FAMILIES

PHOTOS, PHOTO_HW = 8, (480, 640)
SECONDS = 30.0  # that the trial of batch sizes takes at most
COPIES = 20


@dataclass(frozen=True)
class Bench:
    """encoder: one row for each batch size, its pixels on the device already. flops: of one image. peak: operations a second of the device,
    and how it is known.

    best: the row to choose. copied: the same batches from pinned memory, copied beside the computation as in a run; None on a CPU.
    decode_s: seconds of one thread for an image. copy_s: seconds that its pixels take to the device, 0 on a CPU. images: what was decoded.
    workers: enough for `best`.
    """

    model: str
    device: str
    dtype: str
    height: int
    width: int
    flops: int
    peak: float
    peak_source: str
    encoder: list[Rate]
    best: Rate
    copied: Rate | None
    images: str
    decode_s: float
    copy_s: float
    workers: int
    processors: int

    def share_of_peak(self, rate: Rate) -> float:
        """Operations a second of matrix products and convolutions over those of the device's peak."""
        return rate.images_per_s * self.flops / self.peak


def bench(encoder: Encoder, side: int | None, batch_sizes: list[int] | None, spec: Spec | None = None, root: Path | None = None) -> Bench:
    """Measure. side: of square images in pixels; None = as the protocol has it for such an image, or the encoder's own.

    batch_sizes: None = a trial finds the best. spec: images of its task are decoded, from the data root; None = photos that are made.
    Errors: data that are not there, a task of scans, an image that does not fit the memory.
    """
    extractor = _extractor(encoder, side, spec)
    height, width = extractor.inner_size(encoder.spec.resolution, encoder.spec.resolution)
    images, decode_s = _of_task(extractor, spec, root) if spec else _of_photos(extractor)
    found = [rate_of(encoder, size, height, width) for size in batch_sizes] if batch_sizes else list(rates(encoder, height, width, SECONDS))
    best, peak = best_of(found), dense_peak(encoder.device, encoder.dtype)
    return Bench(
        model=encoder.spec.name,
        device=device_name(encoder.device),
        dtype=str(encoder.dtype).removeprefix("torch."),
        height=height,
        width=width,
        flops=image_flops(encoder, height, width),
        peak=peak.flops_per_s,
        peak_source=peak.source,
        encoder=found,
        best=best,
        copied=rate_of(encoder, best.batch_size, height, width, copied=True) if encoder.device.type == "cuda" else None,
        images=images,
        decode_s=decode_s,
        copy_s=_copy_seconds(encoder.device, best.batch_size, height, width),
        workers=workers_for(best.images_per_s, decode_s),
        processors=processors(),
    )


def _extractor(encoder: Encoder, side: int | None, spec: Spec | None) -> Extractor:
    """Of images as the protocol has them, or, where a side is asked for, of squares of that side."""
    if spec is None or side is not None:
        return Extractor(encoder, ImageCard(short_side=side or encoder.spec.resolution, shape="square"), FeatureCard())
    return Extractor(encoder, spec.applied.image, FeatureCard())


def _of_task(extractor: Extractor, spec: Spec, root: Path | None) -> tuple[str, float]:
    """What was decoded, and the seconds of one thread for an image."""
    adapter: Adapter = FAMILIES.get(spec.task.family).adapter_class()(spec.task, spec.applied)
    reader = adapter.open(data_folder(spec, root), spec.limit).test.reader
    if not hasattr(reader, "size"):
        raise UserError(
            "its samples are scans or pairs, not images", where=f"task {spec.task.name}", fix="Name another task, or leave --task out."
        )
    return f"images of {spec.task.name}", decode_seconds(lambda index: extractor.pixels(reader.load(index).image_HW3), len(reader))


def _of_photos(extractor: Extractor) -> tuple[str, float]:
    """The same of photos that are made for it: noise of all scales, which compresses about as a photo does."""
    random, (height, width) = np.random.default_rng(0), PHOTO_HW
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.jpg" for number in range(PHOTOS)]
        for path in paths:
            scales = [random.normal(size=(2**power * 3 // 4, 2**power, 3)) / 2**power for power in range(2, 9)]
            picture = sum(cv2.resize(scale, (width, height), interpolation=cv2.INTER_CUBIC) for scale in scales)
            path.write_bytes(cv2.imencode(".jpg", np.clip(128 + 200 * np.asarray(picture), 0, 255).astype(np.uint8))[1].tobytes())
        decode_s = decode_seconds(lambda index: extractor.pixels(read_image(paths[index])), PHOTOS)
    return f"made photos of {height}x{width}", decode_s


def _copy_seconds(device: torch.device, batch_size: int, height: int, width: int) -> float:
    """Seconds that the pixels of one image take from pinned memory to the device; 0 on a CPU, where nothing is copied."""
    if device.type != "cuda":
        return 0.0
    pixels_B3HW = torch.zeros(batch_size, 3, height, width).pin_memory()
    pixels_B3HW.to(device)
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(COPIES):
        pixels_B3HW.to(device, non_blocking=True)
    torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / COPIES / batch_size
