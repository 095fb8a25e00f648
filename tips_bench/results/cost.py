"""The part of a record that says what its number cost, and how the encoder computed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


def precision_of(dtype: str, compiled: bool) -> str:
    """How an encoder computed, as far as its numbers depend on it: "fp32", "bf16", or one of them with ", compiled"."""
    return f"{dtype}, compiled" if compiled else dtype


class Cost(BaseModel):
    """What the number cost. image_forwards: images (or windows, or crops) through the backbone. encoder_s: seconds inside the encoder.

    Both are sums over the ranks; peak_memory_mb is the greatest of theirs. resumed: an earlier, interrupted run did a part of the work,
    which is not counted here. batch_size, workers: as the run had them; data_wait_s: seconds in which it waited for images to be decoded,
    a sum over the ranks; None in records of before they were kept. compiled: the encoder by torch.compile. share_of_peak: of the first
    rank's device, while the encoder computes (evaluation/cost.py); None = not known.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    wall_s: float
    encoder_s: float
    image_forwards: int
    images_per_s: float
    peak_memory_mb: float
    device: str
    dtype: str
    resumed: bool = False
    ranks: int = 1
    batch_size: int | None = None
    workers: int | None = None
    data_wait_s: float | None = None
    compiled: bool = False
    share_of_peak: float | None = None

    @property
    def precision(self) -> str:
        """As `precision_of`."""
        return precision_of(self.dtype, self.compiled)
