"""Trackio: its database on this machine, or what TRACKIO_SPACE_ID names (trackio show --project tips-bench)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tips_bench.loggers.base import kept_id


class TrackioLogger:
    """As `base.Logger`."""

    package = "trackio"

    def __init__(self, folder: Path, store: Path, *, project: str, name: str, settings: Mapping[str, Any], step: int) -> None:
        import trackio

        # Trackio knows a run by its name alone
        unique = f"{name}-{kept_id(folder, 'trackio')}"
        self.run = trackio.init(project=project, name=unique, resume="allow", config=dict(settings), embed=False)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """One row."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """Waits until all is written."""
        self.run.finish()
