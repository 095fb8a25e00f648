"""What a whole evaluation of each family costs beside the bare encoder, on generated rooms: processor time, clock, memory.

    python benchmarks/bench_evaluation.py [--task rooms-seg,...] [--protocol convex-224,...] [--model tips-s14] [--images 48]
                                          [--dtype fp32] [--workers 1]

Each task is run with about a sixth and with all of the images, from image files to the record. Of each run, the time inside the encoder
is taken off; what is left grows by `outside` with each image that goes through the encoder, and `fixed` is what does not grow.

    bare        milliseconds an image takes the encoder alone, at the sizes of a run and in full batches, before and after the larger run
    inside      the same within the run, over `bare`
    texts       milliseconds an image for texts and for facets of the last block, which is work of the encoder, too
    outside     milliseconds an image: reading, resizing, fitting, scoring, writing; of trained probes also making and training on crops
    fit         those of them that a probe is fitted for, without the encoder
    fixed       seconds a run
    efficiency  (bare + texts) / (bare * inside + texts + outside): the speed of a run on many images over that of the bare encoder
    clock       images a second of the larger run over those of the bare encoder, with everything

All but the last are in processor time, on one thread, which other jobs on the machine change less, on a CPU. On a GPU it means nothing:
there, `clock` and `wait` count. The encoder's weights are random: its cost is that of real ones.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from tips_bench.cards import ModelCard
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.load import load_encoder, resolve_model_card
from tips_bench.errors import UserError
from tips_bench.evaluation import cost, fitting
from tips_bench.evaluation.run import BATCH_SIZE, RunOptions, evaluate_spec
from tips_bench.evaluation.spec import resolve
from tips_bench.results.cost import Cost

SIX = 6  # the larger run has about so many times the images of the smaller
IMAGES = ("encode_image", "embed_image", "read_image")  # methods of an encoder that are given pixels
OTHERS = ("facet", "encode_text", "encode_patch_text")
USUAL = 3  # sizes at which the encoder is measured alone
HEADER = (
    f"{'task':<24}{'protocol':<25}{'forwards':>9}{'bare':>8}{'inside':>8}{'texts':>8}{'outside':>9}{'fit':>8}{'fixed s':>9}"
    f"{'efficiency':>12}{'clock':>7}{'wait s':>8}{'MB':>7}"
)
CROPPED = ("image.short_side=224", "probe.augment.short_side=224", "probe.augment.crop_size=224", "probe.warmup=1")
LARGE = ["image.short_side=224", "image.crop=224"]


@dataclass(frozen=True)
class Case:
    """A task under a protocol. changes: what makes its images as large as the others'. each: images that a sample is made of, about.

    steps: of a trained probe, for each sample of a split, so that its crops grow with the images.
    """

    task: str
    protocol: str
    changes: tuple[str, ...] = ()
    each: float = 1
    steps: float = 0

    def overrides(self, limit: int) -> tuple[str, ...]:
        """Of a run on so many samples of each split."""
        return *self.changes, *([f"probe.iterations={max(2, round(self.steps * limit))}"] if self.steps else [])


CASES = [
    Case("rooms-seg", "convex-224"),
    Case("rooms-seg", "hummingbird-224"),
    Case("rooms-seg", "kmeans-224"),
    Case("rooms-depth", "convex-depth-224"),
    Case("rooms-depth", "hummingbird-depth-224"),
    Case("rooms-normals", "convex-normals-224"),
    Case("rooms-zeroshot", "tips-values-224"),
    Case("rooms-scannet", "convex-points", each=8),
    Case("rooms-retrieval", "retrieval-224"),
    Case("rooms-knn", "knn-112", (*LARGE,)),
    Case("rooms-linear", "convex-classifier-112", (*LARGE,)),
    Case("rooms-zeroshot-classes", "zeroshot-112", (*LARGE,)),
    Case("rooms-linear", "classifier-112", (*LARGE, "probe.crops.size=224"), steps=1 / 12),
    Case("rooms-seg", "linear-tips", CROPPED, steps=1 / 4),
    Case("rooms-depth", "linear-dinov2-depth-224", ("probe.warmup=1", "probe.loss_warmup=1"), steps=1 / 4),
    Case("rooms-instances", "instances-112", ("image.short_side=224",)),
    Case("rooms-landmarks", "landmarks-112", ("image.thumbnail=224",)),
    Case("rooms-gldv2", "gldv2-112", ("image.thumbnail=224",)),
    Case("rooms-then-now", "then-now-112", ("image.short_side=224",)),
    Case("rooms-discovery", "lost-patches"),
    Case("rooms-discovery", "tokencut-dinov3"),
    Case("rooms-video", "video-224", each=20),
    Case("rooms-keypoints", "keypoints-224", each=1.9),
    Case("rooms-views", "views-224", each=1.7),
]


class Spent:
    """Processor seconds of the main thread inside some functions, the outermost of them only."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._open = False

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def inner(*args: Any, **kwargs: Any) -> Any:
            if self._open:
                return function(*args, **kwargs)
            self._open, start = True, time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._open = False
                self.seconds += time.thread_time() - start

        return inner


class Encoding:
    """Inside an encoder. sizes: (height, width) in pixels -> images of it since it was last cleared."""

    def __init__(self, encoder: Encoder) -> None:
        self.images, self.texts = Spent(), Spent()
        self.sizes: Counter[tuple[int, int]] = Counter()
        for name in IMAGES:
            setattr(encoder, name, self.images.timed(self._counted(getattr(encoder, name))))
        for name in OTHERS:
            setattr(encoder, name, self.texts.timed(getattr(encoder, name)))

    @property
    def seconds(self) -> float:
        """Of images and texts."""
        return self.images.seconds + self.texts.seconds

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(pixels_B3HW: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self.sizes[pixels_B3HW.shape[2], pixels_B3HW.shape[3]] += len(pixels_B3HW)
            return method(pixels_B3HW, *args, **kwargs)

        return counted


class Fitting(Spent):
    """In the fit of a probe, without the encoder."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self.encoding = encoding

    def fitted(self, *args: Any, **kwargs: Any) -> Any:
        """In place of the function that a run calls."""
        before = self.encoding.seconds
        found = self.timed(fitting.fitted)(*args, **kwargs)
        self.seconds -= self.encoding.seconds - before
        return found


@dataclass(frozen=True)
class Row:
    """One case; see the top of the file."""

    task: str
    protocol: str
    forwards: int
    bare_ms: float
    inside: float
    texts_ms: float
    outside_ms: float
    fit_ms: float
    fixed_s: float
    efficiency: float
    clock: float
    wait_s: float
    memory_mb: float

    def line(self) -> str:
        """As printed, below HEADER."""
        encoder = f"{self.forwards:>9}{self.bare_ms:>8.1f}{self.inside:>8.3f}{self.texts_ms:>8.1f}"
        outside = f"{self.outside_ms:>9.2f}{self.fit_ms:>8.2f}{self.fixed_s:>9.2f}"
        rest = f"{self.efficiency:>12.3f}{self.clock:>7.2f}{self.wait_s:>8.2f}{self.memory_mb:>7.0f}"
        return f"{self.task:<24}{self.protocol:<25}{encoder}{outside}{rest}"


@dataclass(frozen=True)
class Seconds:
    """Of one image: on the clock, and of the processor."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Run:
    """images_s, texts_s: processor time in the encoder. outside_s: the rest, of which fit_s fits a probe. sizes: of the images."""

    cost: Cost
    images_s: float
    texts_s: float
    outside_s: float
    fit_s: float
    sizes: Counter[tuple[int, int]]


def processor_s() -> float:
    """Of this process and of those it started that have ended, as processes that make crops."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def efficiency(bare_s: float, images_s: float, texts_s: float, outside_s: float) -> float:
    """See the top of the file. All of an image: alone; within a run on images, on texts, and outside the encoder."""
    return (bare_s + texts_s) / (images_s + texts_s + outside_s)


def bare(encoder: Encoder, sizes: Counter[tuple[int, int]], images: int) -> Seconds:
    """Of an image of these sizes, by the pixel, in full batches."""
    batch, usual = BATCH_SIZE[encoder.device.type], sizes.most_common(USUAL)
    wall_s, processor_s, pixels = 0.0, 0.0, 0
    for size, number in usual:
        pixels_B3HW = torch.rand(batch, 3, *size)
        encoder.encode_image(pixels_B3HW)
        wall, processor = time.perf_counter(), time.thread_time()
        rounds = math.ceil(images * number / sum(number for _, number in usual) / batch)
        for _ in range(rounds):
            encoder.encode_image(pixels_B3HW)
        if encoder.device.type == "cuda":
            torch.cuda.synchronize(encoder.device)
        wall_s, processor_s = wall_s + time.perf_counter() - wall, processor_s + time.thread_time() - processor
        pixels += rounds * batch * math.prod(size)
    mean = sum(math.prod(size) * number for size, number in sizes.items()) / sizes.total()
    return Seconds(wall_s / pixels * mean, processor_s / pixels * mean)


def run(case: Case, limit: int, encoder: Encoder, encoding: Encoding, model: ModelCard, options: dict[str, Any]) -> Run:
    """One evaluation. limit: samples of each split."""
    fit, before = Fitting(encoding), (encoding.images.seconds, encoding.texts.seconds)
    encoding.sizes.clear()
    spec = resolve(case.task, model, case.protocol, overrides=case.overrides(limit), weights="random", limit=limit)
    with tempfile.TemporaryDirectory() as folder, mock.patch("tips_bench.evaluation.run.fitted", fit.fitted):
        start = processor_s()
        found = evaluate_spec(spec, RunOptions(**options, out=folder), encoder).cost
        spent_s, images_s, texts_s = processor_s() - start, encoding.images.seconds - before[0], encoding.texts.seconds - before[1]
    return Run(found, images_s, texts_s, spent_s - images_s - texts_s, fit.seconds, encoding.sizes.copy())


def measure(case: Case, images: int, encoder: Encoder, encoding: Encoding, model: ModelCard, options: dict[str, Any]) -> Row:
    """Figures of one case."""
    least = max(2, round(images / SIX / case.each))
    most = max(3 * least, round(images / case.each))
    run(case, least, encoder, encoding, model, options)  # the rooms are there, the code is loaded
    few = run(case, least, encoder, encoding, model, options)
    before = bare(encoder, few.sizes, images // 4)
    many = run(case, most, encoder, encoding, model, options)
    after = bare(encoder, many.sizes, images // 4)
    wall_s, bare_s = ((getattr(before, kind) + getattr(after, kind)) / 2 for kind in ("wall", "processor"))
    more = many.cost.image_forwards - few.cost.image_forwards
    kinds = "images_s", "texts_s", "outside_s", "fit_s"
    images_s, texts_s, outside_s, fit_s = ((getattr(many, kind) - getattr(few, kind)) / more for kind in kinds)
    return Row(
        task=case.task,
        protocol=case.protocol,
        forwards=many.cost.image_forwards,
        bare_ms=bare_s * 1e3,
        inside=images_s / bare_s,
        texts_ms=texts_s * 1e3,
        outside_ms=outside_s * 1e3,
        fit_ms=fit_s * 1e3,
        fixed_s=few.outside_s - outside_s * few.cost.image_forwards,
        efficiency=efficiency(bare_s, images_s, texts_s, outside_s),
        clock=many.cost.images_per_s * wall_s,
        wait_s=many.cost.data_wait_s or 0.0,
        memory_mb=many.cost.peak_memory_mb,
    )


def card(name: str) -> ModelCard:
    """The model's card; a TIPS model has tips-nano's tokenizer, which need not be downloaded and costs about the same."""
    found = resolve_model_card(name)
    shared = resolve_model_card("tips-nano").tokenizer
    return found.model_copy(update={"tokenizer": shared}) if found.source == "tips" and found.tokenizer else found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", help="one or more of the rooms, with commas; all of them by default")
    parser.add_argument("--protocol", help="one or more, with commas; all of these tasks by default")
    parser.add_argument("--model", default="tips-s14")
    parser.add_argument("--images", type=int, default=48, help="of each split, about")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # only the main thread's time inside the encoder is counted
    options = {"dtype": args.dtype, "workers": args.workers, "compile": args.compile}
    model = card(args.model)
    encoder = load_encoder(model, "random", dtype=args.dtype, compiled=args.compile)
    encoding, rows = Encoding(encoder), []
    if not args.json:
        print(f"{args.model}, {args.dtype}, {args.images} images a split, {torch.get_num_threads()} threads, {args.workers} workers")
        print(HEADER, flush=True)
    named = [(case, (("task", args.task), ("protocol", args.protocol))) for case in CASES]
    chosen = [case for case, given in named if all(names is None or getattr(case, kind) in names.split(",") for kind, names in given)]
    with mock.patch.object(cost, "WORTH_S", math.inf):  # the peak of the device is not measured
        for case in chosen:
            try:
                row = measure(case, args.images, encoder, encoding, model, options)
            except UserError as error:  # as where texts need a tokenizer that is not here
                print(f"{case.task}, {case.protocol}: {error}", file=sys.stderr)
                continue
            rows.append(vars(row))
            if not args.json:
                print(row.line(), flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
