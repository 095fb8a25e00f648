"""data/corruptions against what bethgelab/imagecorruptions itself makes of an image, under the same random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.frost import drawn
from tips_bench.data.corruptions import frost
from tips_bench.registry import CORRUPTIONS

GOLDEN = Path(__file__).parent / "data" / "imagecorruptions.npz"


class Legacy(np.random.RandomState):
    """NumPy's global generator, which the source draws from, with the one newer name that is needed here."""

    def integers(self, low: int, high: int, size: Any) -> Any:
        return self.randint(low, high, size=size)


@pytest.mark.parametrize("kind", CORRUPTIONS.in_order())
def test_every_strength_is_what_the_source_makes_of_the_image(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frost, "photograph", drawn)
    with np.load(GOLDEN) as golden:
        for strength in (1, 2, 3, 4, 5):
            seed = 100 + strength
            rng: Any = np.random.default_rng(seed) if kind == "impulse-noise" else Legacy(seed)
            found_HW3 = CORRUPTIONS.get(kind).apply()(golden["image"], strength, rng).astype(int)
            assert np.abs(found_HW3 - golden[f"{kind} {strength}"]).max() <= 1  # where a value is just a whole number
