"""Weights & Biases: online where somebody is logged in, else files in STORE/wandb for `wandb sync`. WANDB_MODE decides otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from tips_bench.loggers.base import kept_id


class WandbLogger:
    """As `base.Logger`. The step is a value like the others, and the axis of all: W&B's own steps cannot go back, which resuming does."""

    package = "wandb"

    def __init__(self, folder: Path, store: Path, *, project: str, name: str, settings: Mapping[str, Any], step: int) -> None:
        import wandb

        self.run = wandb.init(
            project=project,
            name=name,
            id=kept_id(folder, "wandb"),
            resume="allow",
            dir=str(store),
            config=dict(settings),
            mode=os.environ.get("WANDB_MODE") or ("online" if _is_logged_in() else "offline"),
            settings=wandb.Settings(silent=True),
        )
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """One row."""
        self.run.log({**values, "step": step})

    def close(self) -> None:
        """Waits until all is sent or written."""
        self.run.finish()


def _is_logged_in() -> bool:
    """Whether there is a key to log in with. W&B would ask for one at the terminal, and a job has none."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc().authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False
