"""A captioner that says which colors an image has, and where: for trying a pipeline out, without a model or a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tips_bench.corpus.captioners.base import Answer, Fault, Pace, Question

VERSION = 1  # of what it says
SIDE = 48  # pixels of the square that it looks at
# Colors of about the hue and lightness that the word means. RGB in 0..255.
COLORS = {
    "black": (20, 20, 20),
    "gray": (128, 128, 128),
    "white": (240, 240, 240),
    "red": (200, 40, 40),
    "orange": (230, 140, 40),
    "yellow": (230, 220, 60),
    "green": (60, 150, 60),
    "blue": (50, 80, 200),
    "purple": (130, 60, 160),
    "pink": (240, 160, 190),
    "brown": (120, 80, 50),
    "beige": (215, 200, 170),
}
PLACES = {"at the top": (slice(0, 16), slice(None)), "at the bottom": (slice(32, 48), slice(None))}
PLACES |= {"on the left": (slice(None), slice(0, 16)), "on the right": (slice(None), slice(32, 48))}


class PixelsCaptioner:
    """ "A picture in brown and beige, with blue at the top." """

    needs: ClassVar[str] = ""
    uses_gpu: ClassVar[bool] = False
    at_once = 1

    def __init__(self, rest: str, pace: Pace) -> None:
        self.batch = pace.batch

    @classmethod
    def identity(cls, rest: str) -> str:
        return f"pixels@{VERSION}"

    def ask(self, questions: Sequence[Question]) -> list[Answer | Fault]:
        return [_describe(question) for question in questions]


def _describe(question: Question) -> Answer | Fault:
    try:
        picture = question.picture()
    except Fault as fault:
        return fault
    pixels_HW3 = np.asarray(picture.resize((SIDE, SIDE)), dtype=np.float32)
    palette_C3 = np.array(list(COLORS.values()), dtype=np.float32)
    nearest_HW = np.linalg.norm(pixels_HW3[..., None, :] - palette_C3, axis=-1).argmin(-1)
    main = _most(nearest_HW)[:2]
    places = [(place, _most(nearest_HW[where])[0]) for place, where in PLACES.items()]
    rest = [f"{color} {place}" for place, color in places if color not in main]
    return Answer(f"A picture in {' and '.join(main)}{', with ' + ' and '.join(rest) if rest else ''}.")


def _most(nearest_HW: np.ndarray) -> list[str]:
    """The colors of at least a tenth of the pixels, or the first, the most frequent one first."""
    counts_C = np.bincount(nearest_HW.ravel(), minlength=len(COLORS))
    order = np.argsort(-counts_C, kind="stable")
    return [list(COLORS)[k] for k in order if k == order[0] or counts_C[k] * 10 >= nearest_HW.size]
