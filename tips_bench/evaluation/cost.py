"""What an evaluation cost: the part of a record that no score depends on."""

from __future__ import annotations

import math

import torch

from tips_bench.encoders.base import Encoder
from tips_bench.encoders.flops import dense_peak, image_flops, listed_peak
from tips_bench.features.extract import Extractor
from tips_bench.features.meter import Meter
from tips_bench.memory import peak_memory_mb
from tips_bench.ranks import World
from tips_bench.results.cost import Cost
from tips_bench.wording import counted

WORTH_S = 60.0  # of the encoder on one rank: from here on, measuring the peak of a device (about 2 s on a CPU) is worth it


def cost_of(extractor: Extractor, world: World, dtype: str, *, wall_s: float, resumed: bool, countable: bool) -> Cost:
    """The cost of an evaluation on all ranks; each calls it. wall_s: seconds that it took. dtype: "fp32" or "bf16".

    countable: whether operations can be counted: not where there is a second encoder, nor in a user's callable, which may not let torch's
    counter through.
    """
    meter, device = extractor.meter, extractor.encoder.device
    spent = world.gather((meter.image_forwards, meter.encoder_s, meter.data_wait_s, peak_memory_mb(str(device))))
    forwards, encoder_s, waits, memory_mb = zip(*spent, strict=True)
    return Cost(
        wall_s=wall_s,
        encoder_s=sum(encoder_s),
        image_forwards=sum(forwards),
        images_per_s=sum(forwards) / wall_s,
        peak_memory_mb=max(memory_mb),
        ranks=world.size,
        device=device_name(device),
        dtype=dtype,
        resumed=resumed,
        batch_size=extractor.batch_size,
        workers=extractor.workers,
        data_wait_s=sum(waits),
        compiled=extractor.encoder.compiled,
        share_of_peak=share_of_peak(extractor.encoder, meter) if countable and world.is_first else None,
    )


def share_of_peak(encoder: Encoder, meter: Meter) -> float | None:
    """Operations a second of the encoder over those of its device's peak, while it computes, on this rank.

    Counted is one image of the size that most images had; others count by their pixels, and texts count for nothing.
    None = the encoder computed for less than WORTH_S and the peak of its device is not listed, or it takes no operations that are counted.
    """
    if not meter.image_forwards:
        return None
    peak = listed_peak(encoder.device, encoder.dtype)
    if peak is None and meter.encoder_s < WORTH_S:
        return None
    usual = max(meter.sizes, key=lambda size: meter.sizes[size])
    pixels = sum(images * math.prod(size) for size, images in meter.sizes.items())
    flops = image_flops(encoder, *usual) * pixels / math.prod(usual)
    peak = peak or dense_peak(encoder.device, encoder.dtype)
    return flops / meter.encoder_s / peak.flops_per_s or None


def device_name(device: torch.device) -> str:
    """The device as records name it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {counted(torch.get_num_threads(), 'thread')}"
