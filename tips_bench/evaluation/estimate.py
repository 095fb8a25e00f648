"""What evaluations will ask of the backbone and of the disk, from their cards alone: no data are opened, no weights are read.

Sizes are those of an image of 4:3, and numbers of samples those that the tasks' cards expect, so all of it is an estimate. Of clips and
scans it is known only where a card says how many images they have; a pair has two at most.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tips_bench.cards import FeatureCard
from tips_bench.catalog import cache_root
from tips_bench.claims import used
from tips_bench.errors import UserError
from tips_bench.evaluation.run import RunOptions
from tips_bench.evaluation.sharing import Shared, fit_key, images_key, share, share_heads
from tips_bench.evaluation.spec import Spec
from tips_bench.features.geometry import Windows
from tips_bench.files import free_bytes
from tips_bench.registry import FAMILIES

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
VECTORS = {
    "classification": 2,
    "retrieval": 2,
    "instance-retrieval": 2,
    "landmark-retrieval": 2,
    "instance-recognition": 2,
    "ranked-retrieval": 2,
}  # kept of a layer in place of its patches
SEVERAL = {"clips", "scans"}  # samples of more images than one
ASPECT = 4 / 3
Role = Literal["train", "test"]
Size = tuple[int, int]
"""(height, width) of what the network gets, in pixels."""


@dataclass(frozen=True)
class Estimate:
    """Of one evaluation. alone: images, crops or windows through the backbone. shared: how many are left where others share them.

    disk: bytes of the features that are kept for it, beside those that an earlier evaluation of the list keeps. sizes: of `shared`, how
    many of each size. Where cards do not say how many images there are, all are 0 or empty.
    """

    spec: Spec
    alone: int
    shared: int
    disk: int
    sizes: dict[Size, int] = field(default_factory=dict)


def estimate(specs: Sequence[Spec], dtype: str, *, keep: bool = False) -> list[Estimate]:
    """For each evaluation, in the order in which they are done; nothing for one whose cards do not fit together.

    dtype: in which features are kept. keep: also those that no other evaluation of the list reads.
    """
    found: list[Estimate] = []
    passed: Counter[tuple[Any, ...]] = Counter()
    fits = set()
    sharing = share(specs, None, keep=keep)
    for spec, shared in zip(specs, sharing, strict=True):
        try:
            probe = FAMILIES.get(spec.task.family).adapter_class()(spec.task, spec.applied).probe
        except UserError:  # told when it is its turn
            found.append(Estimate(spec, 0, 0, 0))
            continue
        test, train, crops = _test(spec), _train(spec, probe), _crops(spec)
        known = fit_key(spec) in fits
        fits.add(fit_key(spec))
        left, disk = Counter(crops=0 if known else crops), 0
        roles: list[tuple[Role, int]] = [("train", 0 if known else train), ("test", test)]
        for role, images in roles:
            if shared is None:
                left[role] += images
                continue
            for part, number in _parts(spec, role, images).items():
                key = images_key(spec), role, part
                new = max(0, number - passed[key])
                passed[key] += new
                left[role] += new
                disk += new * _bytes(spec, shared, role, dtype)
        found.append(Estimate(spec, test + train + crops, left.total(), disk, _sizes(spec, left)))
    return found


def _images(spec: Spec, role: Role) -> int:
    """What the samples of a split are made of, at most; 0 where the card does not say."""
    samples, item = _samples(spec, role), FAMILIES.get(spec.task.family).counts_class().item
    stated = spec.task.data.images.get(spec.task.data.splits.get(role, ""), 0)
    if item == "pairs":
        return min(2 * samples, stated or 2 * samples)
    if item not in SEVERAL:
        return samples
    return math.ceil(stated * samples / _expected(spec, role)) if samples else 0


def _parts(spec: Spec, role: Role, images: int) -> dict[str, int]:
    """Images of a role by what they are a part of: those of one part are the same images for all tasks in the folder.

    Where a card names no parts, splits of one name, number and options are taken for the same.
    """
    data, split = spec.task.data, spec.task.data.splits.get(role, "")
    numbers = data.parts.get(split) or {json.dumps([split, _expected(spec, role), data.options], sort_keys=True): 1}
    return {part: math.ceil(images * number / sum(numbers.values())) for part, number in numbers.items()}


def _expected(spec: Spec, role: Role) -> int:
    data, split = spec.task.data, spec.task.data.splits.get(role, "")
    expected = data.expected.get(split, sum(data.parts.get(split, {}).values()))
    return max(expected) if isinstance(expected, list) else expected


def _samples(spec: Spec, role: Role) -> int:
    """As the card expects them, no more than the limit; 0 where the card does not say."""
    number = _expected(spec, role)
    changes = spec.task.data.changes
    if role == "train" and changes and changes.few and number:
        number = max(1, number // changes.few)
    return min(number, spec.limit) if spec.limit else number


def inner_size(spec: Spec) -> tuple[int, int]:
    """(height, width) of the network input in pixels, of an image of 4:3 where the protocol keeps its shape."""
    image = spec.applied.image
    if image.thumbnail is not None:
        return round(image.thumbnail / ASPECT), image.thumbnail
    if image.framed is not None:
        return image.framed, image.framed
    short = image.crop or image.short_side or spec.model.resolution
    return (short, short) if image.shape != "aspect" else (short, round(short * ASPECT))


def _test(spec: Spec) -> int:
    return _images(spec, "test") * sum(_windows(spec).values())


def _windows(spec: Spec) -> Counter[Size]:
    """Of each size, what an image of the test split becomes."""
    card, found = spec.applied.inference, Counter[Size]()
    for scale in card.scales:
        windows = Windows.of((round(scale * inner_size(spec)[0]), round(scale * inner_size(spec)[1])), card)
        found[windows.size] += len(windows.tops) * len(windows.lefts) * (2 if card.flip else 1)
    return found


def _sizes(spec: Spec, left: Counter[str]) -> dict[Size, int]:
    """How many of what is left have each size. left: images by "train", "test" and "crops"."""
    windows, found = _windows(spec), Counter[Size]()
    for size, number in windows.items():
        found[size] += left["test"] * number // windows.total()
    found[inner_size(spec)] += left["train"]
    found[_crop_size(spec)] += left["crops"]
    return dict(+found)


def _crop_size(spec: Spec) -> Size:
    """Of the random crops of a trained probe, as the probes of this project say it; of a plugin's own, as of whole images."""
    probe = spec.applied.probe
    card = probe.get("augment") or probe.get("crops") or {}
    side = card.get("crop") or card.get("crop_size") or card.get("size")
    if side is None:
        return inner_size(spec)
    return (int(side), int(side)) if isinstance(side, int) else (int(side[0]), int(side[1]))


def _train(spec: Spec, probe: Any) -> int:
    """One pass over the training split, for what is solved on its features, or over the scored one, for what is fitted on that."""
    if getattr(probe, "reads_test", False):
        return _images(spec, "test")
    return 0 if probe is None or not probe.reads_train or _takes_crops(spec) else _images(spec, "train")


def _takes_crops(spec: Spec) -> bool:
    """Whether a probe looks at random crops in place of the images: it is trained, or remembers crops."""
    return "batch_size" in spec.applied.probe or spec.applied.probe.get("augment") is not None


def _crops(spec: Spec) -> int:
    """Random crops that a probe looks at."""
    probe = spec.applied.probe
    if not _takes_crops(spec):
        return 0
    if "iterations" in probe:
        return int(probe["iterations"]) * int(probe["batch_size"])
    if "passes" in probe:
        return int(probe["passes"]) * _images(spec, "train")
    return math.ceil(float(probe.get("epochs", 1)) * _images(spec, "train"))  # a plugin's own probe may say it otherwise


def _bytes(spec: Spec, shared: Shared, role: Role, dtype: str) -> int:
    """Features of an image, or of a window of one that is scored: what all that share it keep of it."""
    if spec.applied.features.attention != "itself":
        return 0  # read of the last block in a way of its own, each time
    size = inner_size(spec) if role == "train" else Windows.of(inner_size(spec), spec.applied.inference).size
    patches = math.prod(math.ceil(side / spec.model.patch_size) for side in size)
    rows = VECTORS.get(spec.task.family, patches)
    return rows * spec.model.embed_dim * _layers(shared.cards) * BYTES[dtype]


def _layers(cards: Sequence[FeatureCard]) -> int:
    """How many layers these read in all. Those that a card names by a word are four, and the last of them is the last of all."""
    listed = {layer for card in cards if not isinstance(card.layers, str) for layer in card.layers}
    words = {card.layers for card in cards if isinstance(card.layers, str)}
    return len(listed | {-1}) + 3 * len(words) if words else len(listed)


@contextmanager
def shared_passes(specs: Sequence[Spec], options: RunOptions, folder: Path | None = None, jobs: int = 1) -> Iterator[list[Shared | None]]:
    """What each evaluation shares while the block runs. What is not kept for later runs is deleted once the block has ended well.

    Heads are never kept for later runs. folder: for features that are not kept, which other processes may use, too; None = in the results
    folder. jobs: how many may fill the disk at the same time. Without `options.cache` each shares as much as its part of half of the free
    disk takes.
    """
    own = folder or Path(options.out) / ".features" / "runs"
    features = share(specs, cache_root() / "features", keep=True) if options.cache else _fitting(specs, options, own, jobs)
    sharing, world = share_heads(specs, features, own / "heads"), options.world
    if not any(shared and (shared.heads or not options.cache) for shared in sharing):
        yield sharing
        return
    with ExitStack() as using:
        world.first(lambda: using.enter_context(used(own)) if world.is_first else None)
        yield sharing
        world.barrier()
    if world.is_first:
        with suppress(OSError):
            own.parent.rmdir()  # others may have something there


def _fitting(specs: Sequence[Spec], options: RunOptions, folder: Path, jobs: int) -> list[Shared | None]:
    """What shares features in a folder of which this job may use its part of half of the free disk."""
    room = options.world.told(lambda: free_bytes(folder)) / 2 / jobs
    needed: dict[tuple[str, ...], int] = {}
    for found in estimate(specs, options.dtype):
        needed[images_key(found.spec)] = needed.get(images_key(found.spec), 0) + found.disk
    fitting = set()
    for key, size in needed.items():
        if size <= room:
            room -= size
            fitting.add(key)
    return [shared if images_key(spec) in fitting else None for spec, shared in zip(specs, share(specs, folder), strict=True)]
