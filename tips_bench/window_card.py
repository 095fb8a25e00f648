"""The part of a protocol's card that says what of a scored image is seen at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tips_bench.strict import Strict


class WindowCard(Strict):
    """Inference on the scored split: the whole image at once, or sliding windows whose logits are averaged.

    window, stride: in pixels of the resized image. scales: the image is resized by each of these factors, and the predictions are
    averaged. flip: also predict the mirrored image, and average.
    """

    mode: Literal["whole", "slide"] = "whole"
    window: int | None = Field(None, gt=0)
    stride: int | None = Field(None, gt=0)
    scales: list[Annotated[float, Field(gt=0)]] = Field([1.0], min_length=1)
    flip: bool = False

    @model_validator(mode="after")
    def _slide_has_windows(self) -> WindowCard:
        if self.mode == "slide" and (self.window is None or self.stride is None or self.stride > self.window):
            raise ValueError("mode slide needs window and stride, and stride must not be greater than window")
        if self.mode == "whole" and (self.window is not None or self.stride is not None):
            raise ValueError("mode whole has no window and no stride: set both to null")
        return self
