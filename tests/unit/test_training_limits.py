"""What a run says before it would hang or misname what happened: too few files, a Ctrl-C on another rank."""

from __future__ import annotations

import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.distributed.checkpoint.api import CheckpointException

from tests.helpers.pretraining import ALONE
from tips_bench.errors import UserError
from tips_bench.training import batches, checkpoint


@pytest.mark.parametrize(
    ("allowed", "sent", "told"), [(24, 1, True), (61, 14, True), (62, 14, False), (resource.RLIM_INFINITY, 9999, False)]
)
def test_readers_that_may_open_too_few_files_are_not_started(monkeypatch: pytest.MonkeyPatch, allowed: int, sent: int, told: bool) -> None:
    monkeypatch.setattr(batches.resource, "getrlimit", lambda which: (allowed, allowed))
    if told:
        with pytest.raises(UserError, match=rf"data\.workers: a process may open {allowed} files .* `ulimit -n {sent + 48}`"):
            batches._check_handles(sent)
    else:
        batches._check_handles(sent)


def test_an_interrupt_on_any_rank_while_a_checkpoint_is_written_stays_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        causes = {0: OSError("broken pipe"), 1: KeyboardInterrupt()}
        raise CheckpointException("write", {rank: (cause, SimpleNamespace()) for rank, cause in causes.items()})

    monkeypatch.setattr(checkpoint.dcp, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, ALONE, {}, 1, {}, keep=1, sound=1)
