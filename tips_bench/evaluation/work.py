"""The folder in which a run keeps its unfinished work. One run at a time has it, and makes the record."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from tips_bench import claims
from tips_bench.errors import UserError

LOCK = "run.lock"


class WorkFolder:
    """path: of the folder. record: the file that is made. resumed: whether an earlier run has left work there."""

    def __init__(self, path: Path, record: Path) -> None:
        self.path, self.record = path, record
        self.resumed = path.is_dir()
        self._held, self._is_ours = ExitStack(), False

    def claim(self) -> None:
        """Make the folder if it is not there, and have it alone. Errors: it cannot be made, another run has it."""
        if not self._held.enter_context(claims.claimed(self.path / LOCK)):
            problem = f"another run makes the same record: {claims.holder(self.path / LOCK)}"
            raise UserError(problem, where=self.record, fix="Wait until it has finished, or stop it.")
        self._is_ours = True
        self.resumed = self.resumed and len(list(self.path.iterdir())) > 1  # else that run has ended just now, and has removed the rest

    def close(self, *, worth_keeping: bool) -> None:
        """Let go of it. What this run has begun there is removed unless it is worth keeping."""
        if self._is_ours and not worth_keeping and not self.resumed:
            shutil.rmtree(self.path, ignore_errors=True)
        self._held.close()
