"""features/memory.py: processes that keep, read and prune the same features at once, some of which are killed, read nothing but those."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import pytest
import torch

from tips_bench.features.memory import FeatureMemory
from tips_bench.features.upkeep import parts, prune, verify

ROUNDS = 30
KEYS, ROWS, COLUMNS = 40, 20, 50
LIMIT = KEYS * ROWS * COLUMNS * 4  # of two encoders, half of what both would keep


def use(cache: Path, encoder: str, seed: int) -> None:
    """Keep what is not found and compare what is; a mistake ends the process with status 1."""
    draw, memory = random.Random(seed), FeatureMemory(cache / encoder, torch.float32, encoder, most_bytes=LIMIT)
    for _ in range(3 * KEYS):
        number = draw.randrange(KEYS)
        key, features = f"{encoder} {number}".encode(), torch.full((ROWS, COLUMNS), float(number))
        found = memory.read(key, "embeddings")
        if found is None:
            memory.keep(key, "embeddings", features)
            found = memory.read(key, "embeddings")
        assert found is None or torch.equal(found, features)
    memory.close()


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_what_killed_and_pruned_processes_leave_is_never_read_as_features(tmp_path: Path) -> None:
    draw, fork, kills = random.Random(0), multiprocessing.get_context("fork"), 0
    for number in range(ROUNDS):
        users = [fork.Process(target=use, args=(tmp_path, encoder, 3 * number + place)) for place, encoder in enumerate("aab")]
        for user in users:
            user.start()
        until, killed = time.monotonic() + draw.uniform(0, 0.05), users.pop(draw.randrange(3))
        while time.monotonic() < until:
            prune(tmp_path, draw.uniform(0, 2 * LIMIT))
            assert all(verify(part)[1] == 0 for part in parts(tmp_path))
        killed.kill()
        killed.join()
        kills += killed.exitcode == -9
        for user in users:
            user.join()
            assert user.exitcode == 0, number
    assert kills > ROUNDS / 2 and all(verify(part)[1] == 0 for part in parts(tmp_path))
