"""In-context segmentation beside open-hummingbird-eval's own code, on the same features: seconds an image, and whether classes agree.

    git clone https://github.com/vpariza/open-hummingbird-eval && git -C open-hummingbird-eval checkout 5e79da2
    python benchmarks/bench_in_context.py --source open-hummingbird-eval --patches 102400 --dim 384

The source's evaluation (HbirdEvaluation.evaluate, without its final score) and our head find the neighbors of the patches of random test
images exactly, weigh their labels, and make class maps of the size of the input. Its exact search needs a GPU: in its place stands faiss's
IndexFlatIP, as its GPU index computes. Times are of the processor, of one thread unless --threads is given; rounds are interleaved, and
ratios are those within a round. float32_products_s is the time of an image's products with all keys alone, in float32.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import logging
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tips_bench.cards import WindowCard
from tips_bench.features.affinity import KEY_ROWS, unit
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.features.patch_search import PatchSearch
from tips_bench.probes.training_free.in_context import InContextHead

K, TEMPERATURE, CLASSES, GRID, PATCH = 30, 0.02, 21, 32, 16


def source_evaluation(source: Path) -> Any:
    """The source's class, with empty modules in place of its data sets and of its GPU search."""
    faiss = importlib.import_module("faiss")

    class Flat:
        def __init__(self, memory: torch.Tensor, n_neighbors: int, **_: Any) -> None:
            self.k, self.index = n_neighbors, faiss.IndexFlatIP(memory.shape[1])
            self.index.add(memory.numpy())

        def find_nearest_neighbors(self, queries: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
            return self.index.search(queries.numpy(), self.k)[::-1]

    sys.path.insert(0, str(source))
    importlib.import_module("hbird")
    for name, members in (("hbird.data", {"get_dataset": None}), ("hbird.nn.search_faiss", {"NearestNeighborSearchFaiss": Flat})):
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)
    logging.disable(logging.INFO)
    return importlib.import_module("hbird.hbird_eval").HbirdEvaluation


class Given(torch.nn.Module):
    """Features that are there already. bank: [images, patches, D]; an image's first pixel is its number."""

    eval_spatial_resolution = GRID

    def __init__(self, bank: torch.Tensor) -> None:
        super().__init__()
        self.bank, self.d_model = bank, bank.shape[-1]

    def forward_features(self, pixels_B3HW: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.bank[pixels_B3HW[:, 0, 0, 0].long()], None


def images(labels_BHW: np.ndarray) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """One image a batch, as the source's loader gives it."""
    side, batches = GRID * PATCH, []
    for number, labels_HW in enumerate(labels_BHW):
        pixels_13HW = torch.zeros(1, 3, side, side)
        pixels_13HW[0, 0, 0, 0] = number
        batches.append((pixels_13HW, torch.from_numpy(labels_HW.astype(np.float32) / 255)[None, None]))
    return batches


def labeled(number: int, dim: int, draw: np.random.Generator, center_CD: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """Features [images, patches, D] near the center of each patch's class, and label maps."""
    class_Bhw = draw.integers(CLASSES, size=(number, GRID, GRID))
    noise = draw.standard_normal((number, GRID * GRID, dim), dtype=np.float32)
    features = torch.from_numpy(center_CD[class_Bhw.reshape(number, -1)] + 2 * noise)
    return features, class_Bhw.astype(np.uint8).repeat(PATCH, 1).repeat(PATCH, 2)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--source", type=Path, required=True)
    options.add_argument("--patches", type=int, default=102_400)
    options.add_argument("--dim", type=int, default=384)
    options.add_argument("--images", type=int, default=3)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    importlib.import_module("faiss").omp_set_num_threads(chosen.threads)
    draw = np.random.default_rng(0)
    center_CD = draw.standard_normal((CLASSES, chosen.dim), dtype=np.float32)
    train, train_labels = labeled(chosen.patches // GRID**2, chosen.dim, draw, center_CD)
    test, test_labels = labeled(chosen.images, chosen.dim, draw, center_CD)
    source = Source(source_evaluation(chosen.source), train, train_labels, test, test_labels)
    ours, products = ours_of(train, train_labels, test), products_of(train, test)
    took_R3, agree = [], []
    for image in list(range(chosen.images)) * chosen.rounds:
        (source_s, their_map), (ours_s, our_map), (products_s, _) = timed(source, image), timed(ours, image), timed(products, image)
        took_R3.append((source_s, ours_s, products_s))
        agree.append(float((their_map == our_map).mean()))
    source_s, ours_s, products_s = np.median(took_R3, 0)
    ratio_R = [theirs / own for theirs, own, _ in took_R3]
    about = {"patches": chosen.patches, "dim": chosen.dim, "threads": chosen.threads, "rounds": len(ratio_R), "same_pixels": min(agree)}
    times = {"source_s": source_s, "ours_s": ours_s, "float32_products_s": products_s}
    ratios = {"ratio": np.median(ratio_R), "least_ratio": min(ratio_R), "greatest_ratio": max(ratio_R)}
    print(json.dumps(about | {name: round(float(value), 4) for name, value in (times | ratios).items()}))


def timed(work: Callable[[int], Any], image: int) -> tuple[float, Any]:
    """(seconds of the processor, what came out)."""
    start = time.process_time()
    found = work(image)
    return time.process_time() - start, found


class Source:
    """The source's code: number of a test image -> its class map. Its memory is filled once."""

    def __init__(self, kind: Any, train: torch.Tensor, labels: np.ndarray, test: torch.Tensor, test_labels: np.ndarray) -> None:
        maps: list[np.ndarray] = []

        class Maps:
            def __init__(self, *_: Any, **__: Any) -> None: ...

            def update(self, _: Any, predicted: torch.Tensor) -> None:
                maps.append(predicted[:, 0].numpy())

            def compute(self, **_: Any) -> tuple[float, ...]:
                return (0.0,) * 6

        vars(sys.modules[kind.__module__])["PredsmIoU"] = Maps
        with contextlib.redirect_stderr(io.StringIO()):
            self.evaluation = kind(Given(train), images(labels), CLASSES, n_neighbours=K, nn_method="faiss")
        self.evaluation.feature_extractor = Given(test)
        self.maps, self.images = maps, images(test_labels)

    def __call__(self, image: int) -> np.ndarray:
        with contextlib.redirect_stderr(io.StringIO()):
            self.evaluation.evaluate([self.images[image]], GRID)
        return self.maps.pop()[0]


def ours_of(train: torch.Tensor, labels: np.ndarray, test: torch.Tensor) -> Callable[[int], np.ndarray]:
    """Our code: number of a test image -> its class map."""
    class_N = labels[:, ::PATCH, ::PATCH].reshape(-1)
    votes_NC = np.zeros((len(class_N), CLASSES), np.uint32)
    votes_NC[np.arange(len(class_N)), class_N] = PATCH**2
    features_ND = train.flatten(0, 1).numpy()
    search = PatchSearch(features_ND, np.arange(len(features_ND)))
    head = InContextHead(search, votes_NC, shares=True, k=K, temperature=TEMPERATURE)
    upsampling = Upsampling.of((GRID, GRID), (0, 0, 0, 0), Windows.of((GRID * PATCH,) * 2, WindowCard()), (GRID * PATCH,) * 2)
    search.nearest(test[0, :1], K)  # the keys are read, as the source's memory is before its first image
    return lambda image: upsampling.argmax(head(test[image].view(1, GRID, GRID, -1))[0]).numpy()


def products_of(train: torch.Tensor, test: torch.Tensor) -> Callable[[int], None]:
    """An image's products with all keys in float32, in blocks, and nothing else."""
    blocks, queries = unit(train.flatten(0, 1)).split(KEY_ROWS), unit(test)

    def products(image: int) -> None:
        for keys_nD in blocks:
            torch.mm(queries[image], keys_nD.T)

    return products


if __name__ == "__main__":
    main()
