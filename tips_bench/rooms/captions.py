"""Two captions for an image: what a web page might say beside it, and a careful account of what is where.

Both speak of objects that can be seen in the frame. The web-like one leaves most out, adds clutter, and is now and then wrong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from tips_bench.rooms.drawing.assembly import Scene
from tips_bench.rooms.drawing.classes import NAMES
from tips_bench.rooms.drawing.render import Frame

SHELL = ("wall", "floor", "ceiling")
_PLURAL = {"glass": "glasses", "box": "boxes", "shelf": "shelves", "bookcase": "bookcases"}
_UNCOUNTED = {"book": "books", "flower": "flowers", "curtain": "curtains"}
_LEAST = 0.0012


@dataclass(frozen=True)
class Seen:
    """An object in view: its instance number, share of the image, column of its middle in 0..1, depth in metres."""

    number: int
    share: float
    across: float
    depth: float


def visible(scene: Scene, frame: Frame, *, shell: bool = False) -> list[Seen]:
    """The objects in view that cover at least 0.12 % of the image, largest first. shell: with walls, floor and ceiling."""
    owners = frame.instances_HW.ravel().astype(np.int64)
    size, bins = frame.camera.size, len(scene.instances) + 1
    counts = np.bincount(owners, minlength=bins)
    columns = np.bincount(owners, np.tile(np.arange(size) + 0.5, size), bins)
    depths = np.bincount(owners, frame.depth_HW.ravel().astype(np.float64), bins)
    found = [
        Seen(k - 1, counts[k] / len(owners), columns[k] / counts[k] / size, depths[k] / counts[k])
        for k in range(1, bins) if counts[k] >= _LEAST * len(owners) and (shell or scene.instances[k - 1].kind not in SHELL)
    ]  # fmt: skip
    return sorted(found, key=lambda s: (-s.share, s.number))


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def phrase(scene: Scene, number: int, count: int = 1) -> str:
    """An object in words: "a green fabric sofa", "three white plates", "books"."""
    thing = scene.instances[number]
    if thing.kind in _UNCOUNTED:
        words = [thing.color if thing.kind != "book" else "", thing.word if thing.kind == "curtain" else "", _UNCOUNTED[thing.kind]]
        return " ".join(w for w in words if w)
    if count == 1:
        return _article(" ".join(w for w in (thing.color, thing.word, thing.kind) if w))
    number_word = ("", "", "two", "three", "four", "five", "six")[count] if count < 7 else "several"
    return f"{number_word} {_PLURAL.get(thing.kind, thing.kind + 's')}"


def _where(seen: Seen, far: float) -> str:
    side = "on the left" if seen.across < 0.36 else "on the right" if seen.across > 0.64 else "in the middle"
    if seen.depth < 0.45 * far:
        return f"{side} in the foreground"
    return f"{side} at the back" if seen.depth > 0.8 * far else side


def _group(scene: Scene, things: list[Seen]) -> list[str]:
    """Things of one kind said together."""
    kinds = Counter(scene.instances[s.number].kind for s in things)
    said, parts = set(), []
    for seen in things:
        kind = scene.instances[seen.number].kind
        if kind not in said:
            said.add(kind)
            parts.append(phrase(scene, seen.number, 1 if kind in SHELL else kinds[kind]))
    return parts


def listed(scene: Scene, things: list[Seen]) -> str:
    """Things in one line, those of one kind together: "a red sofa, two cushions and a wooden floor"."""
    return _listing(_group(scene, things))


def names(kinds: list[str]) -> str:
    """Kinds of things in one line, without a word on how they look: "a sofa, books and a floor"."""
    return _listing([_UNCOUNTED.get(kind) or _article(kind) for kind in kinds])


def _listing(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def synthetic(scene: Scene, frame: Frame, seen: list[Seen], most: int = 7) -> str:
    """A true account: the kind of room, its larger objects and where they are, and what lies on them."""
    numbers = {s.number for s in seen}
    far = float(np.percentile(frame.depth_HW, 95))
    floor = next(thing for thing in scene.instances if thing.kind == "floor")
    ground = " ".join(w for w in (floor.color, floor.word, "floor") if w)
    sentences = [f"{_article(scene.kind)} with {_article(ground)}".capitalize()]
    roots = [s for s in seen if scene.instances[s.number].parent not in numbers]
    told: set[tuple[str, str]] = set()
    for root in roots:
        place, kind = _where(root, far), scene.instances[root.number].kind
        if (kind, place) in told or len(told) >= most:
            continue
        told.add((kind, place))
        alike = [s for s in roots if scene.instances[s.number].kind == kind and _where(s, far) == place]
        carried = [s for s in seen if scene.instances[s.number].parent in {a.number for a in alike}]
        plural = len(alike) > 1 or kind in _UNCOUNTED
        on = "in" if kind in ("vase", "bookcase") else "on"
        rest = f", with {_listing(_group(scene, carried[:5]))} {on} {'them' if plural else 'it'}" if carried else ""
        sentences.append(f"there {'are' if plural else 'is'} {phrase(scene, root.number, len(alike))} {place}{rest}".capitalize())
    return ". ".join(sentences) + "."


_OPENINGS = (
    "",
    "",
    "cozy ",
    "modern ",
    "my new ",
    "beautiful ",
    "small ",
    "how to style a ",
    "before & after: ",
    "rustic ",
    "dreamy ",
    "for sale: ",
)
_CLOSINGS = (
    "",
    "",
    " ideas",
    " | home decor",
    " - pinterest",
    " inspo #interior",
    " by studio 12",
    " (sold)",
    " photo",
    " stock image",
    " 2 of 8",
    " - free shipping",
)


def web(scene: Scene, seen: list[Seen], rng: np.random.Generator) -> str:
    """A noisy caption: a few object names, clutter around them; one in five names something that is not there or the wrong room."""
    kinds = list(dict.fromkeys(scene.instances[s.number].kind for s in seen))
    chance = np.array([1.0 / (1 + i) for i in range(len(kinds))])
    count = int(min(len(kinds), rng.integers(1, 5)))
    chosen = [kinds[i] for i in rng.choice(len(kinds), count, replace=False, p=chance / chance.sum())] if kinds else []
    words = []
    for kind in chosen:
        thing = next(scene.instances[s.number] for s in seen if scene.instances[s.number].kind == kind)
        words.append(" ".join(w for w in (thing.color if rng.random() < 0.4 else "", thing.word if rng.random() < 0.25 else "", kind) if w))
    if rng.random() < 0.2:
        words.append(NAMES[int(rng.integers(0, len(NAMES)))])
    room = scene.kind if rng.random() < 0.9 else ("bedroom", "kitchen", "hotel", "apartment")[int(rng.integers(0, 4))]
    opening, closing = (table[int(rng.integers(0, len(table)))] for table in (_OPENINGS, _CLOSINGS))
    draw = rng.random()
    if draw < 0.1:
        return f"IMG_{int(rng.integers(1000, 9999))} {' '.join(words)}".strip()
    body = f"{room} with {' and '.join(words)}" if draw < 0.5 and words else f"{', '.join(words)} {room}".strip(", ")
    text = f"{opening}{body}{closing}"
    return text.title() if rng.random() < 0.2 else text
