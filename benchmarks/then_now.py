"""What makes places then and now hard on generated rooms: one image changed in one way at a time, and looked for among all others.

    python -m benchmarks.then_now tips-nano tips-nano-random

mAP of both directions over 100 rooms, as of the task rooms-then-now, whose pair is the last line. Beside the encoders: an image as 8 x 8
gray pixels less their mean, which finds whatever lies in the same place. Axes: N rooms, F features.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import cv2
import numpy as np
import torch

from tips_bench import load_encoder
from tips_bench.cards import load_card
from tips_bench.features.extract import Extractor
from tips_bench.features.image_embeddings import ImageEmbedding
from tips_bench.files import digest
from tips_bench.rooms.drawing.render import Renderer
from tips_bench.rooms.drawing.tracer import Tracer
from tips_bench.rooms.generate import room
from tips_bench.rooms.writing.retrieval_sets import elsewhere, old_photo, relit

ROOMS, SIZE, BATCH, SIDE = 100, 224, 20, 8
Describe = Callable[[list[np.ndarray]], np.ndarray]


def gray(image_HW3: np.ndarray) -> np.ndarray:
    """Without color, three channels."""
    return np.repeat(cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)


def drawn() -> dict[str, list[np.ndarray]]:
    """Each room once in each way."""
    images: dict[str, list[np.ndarray]] = {}
    for number in range(ROOMS):
        one = room(0, "val", number, frames=1, size=SIZE)
        (frame,), dark, light = one.frames, Renderer(Tracer(relit(one.scene))), Renderer(one.tracer)
        rng = np.random.default_rng(int(digest("another photographer", one.name)[:16], 16))
        camera = elsewhere(frame, dark, rng)
        then_HW3 = dark.frame(camera).image_HW3
        found = {
            "now": frame.image_HW3,
            "gray": gray(frame.image_HW3),
            "other light": dark.frame(frame.camera).image_HW3,
            "other photographer": light.frame(camera).image_HW3,
            "both": then_HW3,
            "both, gray": gray(then_HW3),
            "both, gray and soft": old_photo(then_HW3),
        }
        for name, image_HW3 in found.items():
            images.setdefault(name, []).append(image_HW3)
    return images


def pixels(images: list[np.ndarray]) -> np.ndarray:
    """Small gray images less their mean, [N,F]."""
    small = [cv2.resize(gray(image_HW3)[..., 0], (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel() for image_HW3 in images]
    features_NF = np.stack(small).astype(np.float64)
    return features_NF - features_NF.mean(1, keepdims=True)


def tokens(model: str) -> Describe:
    """Global tokens of an encoder, as the protocol then-now-112 reads them."""
    card = load_card("protocol", "then-now-112")
    extractor = Extractor(load_encoder(model, device="cpu"), card.image, card.features)
    encode = ImageEmbedding.tokens(extractor).encode

    @torch.inference_mode()
    def describe(images: list[np.ndarray]) -> np.ndarray:
        batches = [torch.stack([extractor.pixels(one) for one in images[start : start + BATCH]]) for start in range(0, len(images), BATCH)]
        return torch.cat([encode(pixels_B3HW) for pixels_B3HW in batches]).double().numpy()

    return describe


def mean_precision(first_NF: np.ndarray, second_NF: np.ndarray) -> float:
    """mAP in percent of both directions: the i-th of one is looked for among all of the other."""
    first_NF, second_NF = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (first_NF, second_NF))
    near_NN = first_NF @ second_NF.T
    ranks = [1 + (near > np.diag(near_NN)[:, None]).sum(1) for near in (near_NN, near_NN.T)]
    return float(100 * np.mean([1 / rank for rank in ranks]))


def main() -> None:
    """Print the table."""
    images = drawn()
    names = [f"{SIDE} x {SIDE} gray pixels", *sys.argv[1:]]
    features = [{name: describe(one) for name, one in images.items()} for describe in (pixels, *map(tokens, sys.argv[1:]))]
    print("| looked for | among | " + " | ".join(names) + " |\n" + "|---|---|" + "---|" * len(names))
    pairs = [("now", name) for name in images if name != "now"]
    for first, second in [("gray", "both, gray"), *pairs]:
        print(
            f"| {first} | {second} | " + " | ".join(f"{mean_precision(one[first], one[second]):.1f} %" for one in features) + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
