"""TensorBoard: event files in RUN/tensorboard (tensorboard --logdir runs/)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorBoardLogger:
    """As `base.Logger`. Numbers behind `step` are hidden, since they come again; settings are not shown."""

    package = "tensorboard"

    def __init__(self, folder: Path, store: Path, *, project: str, name: str, settings: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)  # its own step is whole

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """One curve for each name."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes what is left."""
        self.writer.close()
