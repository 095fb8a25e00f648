"""One cache of features, used by many at once, some of which are killed: each record is that of a lone run."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cache_users import WAYS, Users, evaluate, forwards, prune_and_verify, result, said
from tips_bench.features.upkeep import parts, verify

ROUNDS = 30
TOGETHER = [["segmentation", "segmentation", "depth"], ["names", "names", "segmentation"], ["depth", "names", "segmentation"]]
LIMIT = "0.1MB"  # what segmentation keeps is more, so parts come and go

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Users]:
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = Users(tmp_path)
    yield found
    found.end()


def ended(process: ForkProcess) -> str:
    """What a process said that must have ended well."""
    process.join(600)
    assert process.exitcode == 0, said(process)
    return said(process)


def test_writers_readers_kills_and_pruning_change_no_record(tmp_path: Path, users: Users) -> None:
    draw, alone = random.Random(0), dict[str, tuple[dict[str, Any], bytes]]()
    for way in WAYS:
        for turn in ("first", "again"):  # the rooms are drawn, then all is found
            began, out = time.monotonic(), tmp_path / turn / way
            ended(users.start(evaluate, way, out, None))
        alone[way], lasted = result(out), time.monotonic() - began
        assert alone[way] == result(tmp_path / "first" / way) and forwards(tmp_path / "first" / way) > forwards(out) == 0
    stop = tmp_path / "stop"
    keepers = [users.start(prune_and_verify, stop, seed, 2e-4) for seed in (1, 2)]
    kills = made = 0
    left: dict[Path, str] = {}  # what was killed in the round before, taken up by the same command
    for number in range(ROUNDS):
        outs = {tmp_path / f"{number}-{place}": way for place, way in enumerate(TOGETHER[number % len(TOGETHER)])}
        every = outs | left
        running = {folder: users.start(evaluate, way, folder, draw.choice([LIMIT, None])) for folder, way in every.items()}
        time.sleep(draw.uniform(0, lasted))
        killed = draw.choice(list(outs))
        running[killed].kill()
        running[killed].join()
        kills += running.pop(killed).exitcode == -9
        for folder, process in running.items():
            ended(process)
            assert result(folder) == alone[every[folder]], folder
            made += forwards(folder)
        left = {killed: outs[killed]}
        assert all(keeper.is_alive() for keeper in keepers), [said(keeper) for keeper in keepers]
    stop.touch()
    rounds = [ended(keeper) for keeper in keepers]
    assert all(verify(part)[1] == 0 for part in parts(tmp_path / "cache" / "features"))
    print(f"{ROUNDS} rounds, {kills} processes killed, {made} images encoded again after pruning; prune, verify and list: {rounds}")
    assert kills >= ROUNDS / 2 and made
