"""Zero-shot segmentation in windows: images a second with windows in batches beside one window at a time.

    python benchmarks/bench_zeroshot.py [--model tips-s14] [--images 8] [--classes 150] [--batch 8] [--dtype fp32] [--rounds 3]

Three ways over the same images in one process, interleaved, the best round of each: windows in batches; the same code with one window
at a time; and the loop of google-deepmind/tips (pytorch/TIPS_zeroshot_segmentation.ipynb) written out: a window at a time, its class maps
whole at every step. Images are noise of ADE20K's usual size, weights and class embeddings are random: the cost is that of the real ones.
The maps of the three are compared, too. Seconds of the processor are those of all threads; on a machine that does other work they tell
more than the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import ProtocolCard, load_card
from tips_bench.data.base import SegmentationSample
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.load import load_encoder
from tips_bench.evaluation.run import BATCH_SIZE
from tips_bench.features.extract import Extractor
from tips_bench.features.geometry import Windows
from tips_bench.features.inference import Inference
from tips_bench.probes.training_free.class_names import TextHead, TextOptions, best_class, score_rows

SIZE = (512, 683)


class Noise:
    """A reader of images that are noise."""

    def __init__(self, number: int) -> None:
        self.ids = [str(index) for index in range(number)]
        self.images = np.random.default_rng(0).integers(0, 256, (number, *SIZE, 3), dtype=np.uint8)

    def size(self, index: int) -> tuple[int, int]:
        return SIZE

    def load(self, index: int) -> SegmentationSample:
        return SegmentationSample(self.ids[index], self.ids[index], self.images[index], np.zeros(SIZE, np.uint8))


def ours(encoder: Encoder, card: ProtocolCard, reader: Noise, head: TextHead, batch: int) -> np.ndarray:
    """[images,H,W] classes by this package, `batch` windows at a time."""
    extractor, options = Extractor(encoder, card.image, card.features, batch, 2), TextOptions.model_validate(card.probe)
    maps = np.zeros((len(reader.ids), *SIZE), np.uint8)
    for index, _, (view,) in Inference(extractor, card.inference).features(reader, list(range(len(reader.ids)))):
        windows = Windows.of(view.inner, card.inference)
        chunks = score_rows(head(view.features_NhwD), options, windows, extractor.padding(*windows.size), SIZE)
        maps[index] = best_class(chunks, head.id_C)[1]
    return maps


def loop(encoder: Encoder, card: ProtocolCard, reader: Noise, text_CD: Tensor) -> np.ndarray:
    """[images,H,W] classes, a window and a whole array of class maps at a time."""
    extractor, text_CD = Extractor(encoder, card.image, card.features, 1, 2), text_CD.to(encoder.device)
    maps = np.zeros((len(reader.ids), *SIZE), np.uint8)
    for (index,), _, pixels_13HW in extractor.batches(reader, list(range(len(reader.ids)))):
        windows = Windows.of(tuple(pixels_13HW.shape[-2:]), card.inference)
        height, width = windows.size
        total = torch.zeros(len(text_CD), *windows.inner, device=encoder.device)
        cover = torch.zeros(windows.inner, device=encoder.device)
        for top in windows.tops:
            for left in windows.lefts:
                part = np.s_[top : top + height, left : left + width]
                features_hwD = encoder.encode_image(pixels_13HW[:, :, *part], values=True).patches[0][0].float()
                cosines = torch.einsum("cd,hwd->chw", text_CD, F.normalize(features_hwD, dim=-1))
                total[:, *part] += F.interpolate(cosines[None], size=(height, width), mode="bilinear")[0].softmax(0)
                cover[part] += 1
        total /= cover
        maps[index] = F.interpolate(total[None], size=SIZE, mode="bilinear")[0].argmax(0).cpu().numpy()
    return maps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tips-s14")
    for name, default in (("images", 8), ("classes", 150), ("batch", 0), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.model, "random", dtype=arguments.dtype)
    batch = arguments.batch or BATCH_SIZE[encoder.device.type]
    card, reader = load_card("protocol", "tips-slide"), Noise(arguments.images)
    generator = torch.Generator().manual_seed(0)
    text_CD = F.normalize(torch.randn(arguments.classes, encoder.values_dim, generator=generator), dim=1)
    head = TextHead(text_CD.to(encoder.device), torch.arange(arguments.classes), torch.arange(arguments.classes))
    ways: dict[str, Callable[[], np.ndarray]] = {
        f"windows in batches of {batch}": lambda: ours(encoder, card, reader, head, batch),
        "one window at a time": lambda: ours(encoder, card, reader, head, 1),
        "the notebook's loop": lambda: loop(encoder, card, reader, text_CD),
    }
    clocks = {"clock": time.perf_counter, "processor": time.process_time}
    best, maps = {(name, clock): np.inf for name in ways for clock in clocks}, {}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            start = {clock: now() for clock, now in clocks.items()}
            maps[name] = way()
            for clock, now in clocks.items():
                best[name, clock] = min(best[name, clock], (now() - start[clock]) / arguments.images)
    first = next(iter(ways))
    for name in ways:
        wall, processor = (best[name, clock] for clock in clocks)
        ratios = [best[name, clock] / best[first, clock] for clock in clocks]
        same = 100 * np.mean(maps[first] == maps[name])
        print(f"{name}: {1 / wall:.3f} images/s, {processor:.2f} s of processor an image, {same:.2f} % of the pixels as in batches")
        print(f"    times the seconds of batches: {ratios[0]:.2f} by the clock, {ratios[1]:.2f} by the processor")


if __name__ == "__main__":
    main()
