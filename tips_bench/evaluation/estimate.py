"""What evaluations will ask of the backbone and of the disk, from their cards alone: no data are opened, no weights are read.

How many images they read is counted in counting.py; here, what several evaluations share is taken off.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tips_bench.cards import FeatureCard
from tips_bench.catalog import cache_root
from tips_bench.claims import used
from tips_bench.errors import UserError
from tips_bench.evaluation.counting import VECTORS, Role, Size, crop_size, crops, inner_size, parts, solved_on, windows
from tips_bench.evaluation.run import RunOptions
from tips_bench.evaluation.sharing import Shared, fit_key, images_key, share, share_heads
from tips_bench.evaluation.spec import Spec
from tips_bench.features.geometry import Windows
from tips_bench.files import free_bytes

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


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


def nothing_kept(spec: Spec, role: Role, part: str) -> int:
    """Images of a part of a split whose features an earlier run has kept, where none has."""
    return 0


def estimate(
    specs: Sequence[Spec], dtype: str, *, keep: bool = False, kept: Callable[[Spec, Role, str], int] = nothing_kept
) -> list[Estimate]:
    """For each evaluation, in the order in which they are done; nothing for one whose cards do not fit together.

    dtype: in which features are kept. keep: also those that no other evaluation of the list reads. kept: as `nothing_kept`.
    """
    found: list[Estimate] = []
    passed: Counter[tuple[Any, ...]] = Counter()
    fits = set()
    sharing = share(specs, None, keep=keep)
    for spec, shared in zip(specs, sharing, strict=True):
        try:
            solved = solved_on(spec)
        except UserError:  # told when it is its turn
            found.append(Estimate(spec, 0, 0, 0))
            continue
        known = fit_key(spec) in fits
        fits.add(fit_key(spec))
        left, disk = Counter(crops=0 if known else crops(spec)), 0
        roles: list[tuple[Role, int]] = [("train", 0 if known else solved["train"]), ("test", solved["test"])]
        for role, images in roles:
            if shared is None:
                left[role] += images
                continue
            for part, number in parts(spec, role, images).items():
                key = images_key(spec), role, part
                new = max(0, number - max(passed[key], kept(spec, role, part)))
                passed[key] += new
                left[role] += new
                disk += new * _bytes(spec, shared, role, dtype)
        found.append(Estimate(spec, sum(solved.values()) + crops(spec), left.total(), disk, _sizes(spec, left)))
    return found


def _sizes(spec: Spec, left: Counter[str]) -> dict[Size, int]:
    """How many of what is left have each size. left: images by "train", "test" and "crops"."""
    tests, found = windows(spec), Counter[Size]()
    for size, number in tests.items():
        found[size] += left["test"] * number // tests.total()
    found[inner_size(spec)] += left["train"]
    found[crop_size(spec)] += left["crops"]
    return dict(+found)


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
