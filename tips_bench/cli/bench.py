"""tips-bench bench: what a model reaches on this machine, and the settings that suit it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tips_bench.cli.names import number_or_auto, split
from tips_bench.cli.options import DataRoot, Device, Dtype
from tips_bench.cli.output import print_json, print_table, print_text

if TYPE_CHECKING:
    from tips_bench.evaluation.bench import Bench


def bench(
    model: Annotated[str, typer.Option(help="Model, named as for `tips-bench run`.")],
    resolution: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the square images that are encoded, in pixels. Default: the protocol's, or the model's own."),
    ] = None,
    batch_size: Annotated[
        str, typer.Option(help="Images per batch, separated by commas, or `auto`: 1, 2, 4 and so on, until more is no faster.")
    ] = "auto",
    dtype: Dtype = "fp32",
    compile: Annotated[bool, typer.Option("--compile", help="Have torch.compile make code of the encoder for this machine.")] = False,
    device: Device = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights to load, as for `tips-bench run`. `random` needs no download and is as fast.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Decode the images of this task. Default: photos that are made for it.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Protocol of the task. Default: its default protocol.")] = None,
    data_root: DataRoot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure how fast a model encodes images on this machine, and print the best settings.

    Measured are images per second, the share of the device's peak, memory, and
    the decoding of images. No data is needed: without a task, photos are made.

    \b
    Examples:
      tips-bench bench --model tips-nano
      tips-bench bench --model tipsv2-l14 --resolution 448 --dtype bf16
      tips-bench bench --model tipsv2-b14 --weights random --task ade20k
    """
    from tips_bench.encoders.load import load_encoder
    from tips_bench.errors import UserError
    from tips_bench.evaluation.bench import bench as measure
    from tips_bench.evaluation.spec import resolve

    if protocol is not None and task is None:
        raise UserError("a protocol is for a task", where="--protocol", fix="Give --task, or leave --protocol out.")
    sizes = [number_or_auto(size, "--batch-size", least=1) for size in split(batch_size, "--batch-size", lambda: ["auto"])]
    numbers = [size for size in sizes if size != "auto"]
    if numbers and len(numbers) < len(sizes):
        raise UserError("numbers and `auto` exclude each other", where="--batch-size", fix="Give numbers, or `auto`.")
    spec = None if task is None else resolve(task, model, protocol, weights=weights)
    encoder = load_encoder(model if spec is None else spec.model, weights, device, dtype, compiled=compile)
    found = measure(encoder, resolution, numbers or None, spec, data_root)
    if as_json:
        shares = [found.share_of_peak(rate) for rate in found.encoder]
        print_json(
            asdict(found) | {"encoder": [asdict(rate) | {"share_of_peak": one} for rate, one in zip(found.encoder, shares, strict=True)]}
        )
        return
    print_bench(found, dtype + " --compile" * compile)


def print_bench(found: Bench, dtype: str) -> None:
    """A table of batch sizes, what decoding and copying take beside them, and the settings to choose. dtype: as a command line has it."""
    print_text(f"{found.model}, {found.dtype}, {found.height}x{found.width} pixels, {found.flops / 1e9:.1f} GFLOP an image")
    print_text(f"{found.device}: {found.peak / 1e12:.2f} TFLOP/s ({found.peak_source})")
    print()
    rows = [
        [str(rate.batch_size), f"{rate.images_per_s:.2f}", f"{found.share_of_peak(rate):.0%}", f"{rate.memory_mb:,.0f}"]
        for rate in found.encoder
    ]
    print_table(["batch", "images/s", "share of peak", "memory MB"], rows)
    rate, best = found.best.images_per_s, found.best.batch_size
    print(f"\ndecode    {1 / found.decode_s:.1f} images/s a thread, {rate * found.decode_s:.0%} of one busy")
    print(f"          ({found.images})")
    if found.copied is not None:
        print(f"copied    {found.copied.images_per_s:.2f} images/s from pinned memory, {found.share_of_peak(found.copied):.0%} of the peak")
        print(f"          ({1 / found.copy_s:.0f} images/s are copied, {rate * found.copy_s:.0%} of the encoder's time)")
    if rate * found.decode_s > found.processors:
        print_text(f"{found.processors} processors decode too few for this encoder: it will wait for images")
    print(f"best      --batch-size {best} --workers {found.workers} --dtype {dtype}")
