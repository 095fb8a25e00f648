"""How many images an evaluation sends through the backbone, and of which size, from its cards alone.

Sizes are those of an image of 4:3, and numbers of samples those that the tasks' cards expect, so all of it is an estimate. Of clips and
scans it is known only where a card says how many images they have; a pair has two at most. Generated rooms are as many as the settings say.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Literal

from tips_bench.evaluation.spec import Spec
from tips_bench.features.geometry import Windows
from tips_bench.registry import FAMILIES

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
OPTIONS = "data.generator_options"
Role = Literal["train", "test"]
Size = tuple[int, int]
"""(height, width) of what the network gets, in pixels."""


def solved_on(spec: Spec) -> dict[Role, int]:
    """Images or windows of each split that go through the backbone whole, without random crops.

    Errors: cards that do not fit together.
    """
    probe = FAMILIES.get(spec.task.family).adapter_class()(spec.task, spec.applied).probe
    return {"train": _train(spec, probe), "test": _images(spec, "test") * sum(windows(spec).values())}


def _train(spec: Spec, probe: Any) -> int:
    """One pass over the training split, for what is solved on its features, or over the scored one, for what is fitted on that."""
    if getattr(probe, "reads_test", False):
        return _images(spec, "test")
    return 0 if probe is None or not probe.reads_train or takes_crops(spec) else _images(spec, "train")


def _images(spec: Spec, role: Role) -> int:
    """What the samples of a split are made of, at most; 0 where the card does not say."""
    samples, item = _samples(spec, role), FAMILIES.get(spec.task.family).counts_class().item
    stated = round(spec.task.data.images.get(spec.task.data.splits.get(role, ""), 0) * _drawn(spec, role))
    if item == "pairs":
        return min(2 * samples, stated or 2 * samples)
    if item not in SEVERAL:
        return samples
    return math.ceil(stated * samples / _expected(spec, role)) if samples else 0


def parts(spec: Spec, role: Role, images: int) -> dict[str, int]:
    """Images of a role by what they are a part of: those of one part are the same images for all tasks in the folder.

    Where a card names no parts, splits of one name, number and options are taken for the same.
    """
    data, split = spec.task.data, spec.task.data.splits.get(role, "")
    numbers = data.parts.get(split) or {json.dumps([split, _expected(spec, role), data.options], sort_keys=True): 1}
    return {part: math.ceil(images * number / sum(numbers.values())) for part, number in numbers.items()}


def _expected(spec: Spec, role: Role) -> int:
    data, split = spec.task.data, spec.task.data.splits.get(role, "")
    expected = data.expected.get(split, sum(data.parts.get(split, {}).values()))
    stated = max(expected) if isinstance(expected, list) else expected
    return math.ceil(stated * _drawn(spec, role))


def _drawn(spec: Spec, role: Role) -> float:
    """How many images of generated rooms the settings of a run ask for, over those that the task's card expects; 1 for all other data."""
    now = spec.task.data.generator_options
    before = dict(now)
    for one in spec.deviations:
        key = one.key or ""
        if one.card == "task" and key == OPTIONS:
            before = dict(one.card_value)
        elif one.card == "task" and key.startswith(f"{OPTIONS}."):
            before[key.removeprefix(f"{OPTIONS}.")] = one.card_value
    name = "train" if role == "train" and before.get("train") else "val"  # a layout without `train` takes both splits from `val`
    return int(now.get(name, 0)) / int(before[name]) if before.get(name) else 1.0


def _samples(spec: Spec, role: Role) -> int:
    """As the card expects them, no more than the limit; 0 where the card does not say."""
    number = _expected(spec, role)
    changes = spec.task.data.changes
    if role == "train" and changes and changes.few and number:
        number = max(1, number // changes.few)
    return min(number, spec.limit) if spec.limit else number


def inner_size(spec: Spec) -> Size:
    """(height, width) of the network input in pixels, of an image of 4:3 where the protocol keeps its shape."""
    image = spec.applied.image
    if image.thumbnail is not None:
        return round(image.thumbnail / ASPECT), image.thumbnail
    if image.framed is not None:
        return image.framed, image.framed
    short = image.crop or image.short_side or spec.model.resolution
    return (short, short) if image.shape != "aspect" else (short, round(short * ASPECT))


def windows(spec: Spec) -> Counter[Size]:
    """Of each size, what an image of the test split becomes."""
    card, found = spec.applied.inference, Counter[Size]()
    for scale in card.scales:
        cut = Windows.of((round(scale * inner_size(spec)[0]), round(scale * inner_size(spec)[1])), card)
        found[cut.size] += len(cut.tops) * len(cut.lefts) * (2 if card.flip else 1)
    return found


def takes_crops(spec: Spec) -> bool:
    """Whether a probe looks at random crops in place of the images: it is trained, or remembers crops."""
    return "batch_size" in spec.applied.probe or spec.applied.probe.get("augment") is not None


def crops(spec: Spec) -> int:
    """Random crops that a probe looks at."""
    probe = spec.applied.probe
    if not takes_crops(spec):
        return 0
    if "iterations" in probe:
        return int(probe["iterations"]) * int(probe["batch_size"])
    if "passes" in probe:
        return int(probe["passes"]) * _images(spec, "train")
    return math.ceil(float(probe.get("epochs", 1)) * _images(spec, "train"))  # a plugin's own probe may say it otherwise


def crop_size(spec: Spec) -> Size:
    """Of the random crops of a trained probe, as the probes of this project say it; of a plugin's own, as of whole images."""
    probe = spec.applied.probe
    card = probe.get("augment") or probe.get("crops") or {}
    side = card.get("crop") or card.get("crop_size") or card.get("size")
    if side is None:
        return inner_size(spec)
    return (int(side), int(side)) if isinstance(side, int) else (int(side[0]), int(side[1]))
