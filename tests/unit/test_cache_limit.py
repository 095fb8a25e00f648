"""features/part_writer.py, upkeep.py, evaluation/keeping.py: a cache stays within its limit while many processes fill and read it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tips_bench.errors import UserError
from tips_bench.evaluation.keeping import limit_bytes, rounding
from tips_bench.features.memory import FeatureMemory
from tips_bench.features.part_writer import PARTS_WITHIN_LIMIT
from tips_bench.features.upkeep import parts, prune, verify

pytestmark = pytest.mark.usefixtures("written_at_once")
LIMIT = 256_000
ROW = np.zeros((1, 300), np.float32)  # 1.2 kB, with its record less than a 128th of the limit


def memory(cache: Path, encoder: str, most_bytes: int | None = LIMIT) -> FeatureMemory:
    return FeatureMemory(cache / encoder, torch.float32, encoder, most_bytes=most_bytes)


def fill(kept: FeatureMemory, number: int, first: int = 0) -> None:
    for key in range(first, first + number):
        kept.keep(str(key).encode(), "embeddings", torch.full((1, 300), float(key)))


def found(kept: FeatureMemory, number: int) -> list[int]:
    return [key for key in range(number) if kept.has(str(key).encode(), ["embeddings"])]


def size(cache: Path) -> int:
    return sum(part.size for part in parts(cache))


def age(cache: Path, encoder: str, seconds: float) -> None:
    for path in (cache / encoder).glob("*.index"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_a_run_that_needs_more_than_the_limit_keeps_what_it_kept_first_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept, most = memory(tmp_path, "a"), 0
    with caplog.at_level(logging.WARNING):
        for key in range(0, 250, 5):
            fill(kept, 5, key)
            most = max(most, size(tmp_path))
    assert 0.98 * LIMIT < most <= LIMIT
    keys = found(kept, 250)
    assert keys == list(range(len(keys))) and 100 < len(keys) < 250, "what it reads first in its next pass"
    assert [record.message for record in caplog.records] == [
        f"tips-bench: the cache holds {size(tmp_path) / 1e9:.2f} GB of at most 0.00 GB, all of it in use: further features are not kept"
    ]


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    for number, encoder in enumerate(("oldest", "older", "read")):
        one = memory(tmp_path, encoder, None)
        fill(one, 60)
        one.close()
        age(tmp_path, encoder, 3000 - 1000 * number)
    age(tmp_path, "read", 5000)
    reader = memory(tmp_path, "read", None)
    assert reader.read(b"7", "embeddings") is not None, "which counts as a use, whatever the file system notes of it"
    writer = memory(tmp_path, "new")
    fill(writer, 40)
    left = {part.encoder for part in parts(tmp_path)}
    assert left == {"older", "read", "new"} and found(writer, 40) == list(range(40)) and size(tmp_path) <= LIMIT


def test_what_is_used_since_a_run_began_stays_though_it_is_not_the_runs_own(tmp_path: Path) -> None:
    writer, other = memory(tmp_path, "writer"), memory(tmp_path, "other", None)
    fill(other, 200)
    fill(writer, 50)
    assert found(writer, 50) == [] and len({part.encoder for part in parts(tmp_path)}) == 1
    age(tmp_path, "other", 100)
    later = memory(tmp_path, "later")
    fill(later, 20)
    assert found(later, 20) == list(range(20)) and size(tmp_path) <= LIMIT


def test_a_run_reads_its_own_part_though_another_process_deleted_it_and_writes_the_next_array_where_it_is_found(tmp_path: Path) -> None:
    kept = memory(tmp_path, "a", None)
    fill(kept, 3)
    gone, left = prune(tmp_path, 0)
    assert len(gone) == 1 and left == 0
    row = kept.read(b"2", "embeddings")
    assert row is not None and row[0, 0] == 2
    fill(kept, 1, first=3)
    kept.flush()
    kept.close()
    assert found(memory(tmp_path, "a"), 4) == [3]


def test_what_is_deleted_before_it_was_read_is_not_found(tmp_path: Path) -> None:
    one = memory(tmp_path, "a", None)
    fill(one, 3)
    other = memory(tmp_path, "a", None)
    prune(tmp_path, 0)
    assert other.read(b"1", "embeddings") is None and not other.has(b"1", ["embeddings"])


def test_what_a_kill_left_of_a_part_counts_and_goes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "part-0.bin").write_bytes(bytes(1000))
    (part,) = parts(tmp_path)
    assert part.size == 1000 and verify(part) == (0, 0) and prune(tmp_path, 0) == ([part], 0) and parts(tmp_path) == []


def test_an_array_larger_than_the_limit_is_not_kept_and_nothing_goes_for_it(tmp_path: Path) -> None:
    old = memory(tmp_path, "old", None)
    fill(old, 3)
    age(tmp_path, "old", 1000)
    new = memory(tmp_path, "new", 1000)
    new.keep(b"a", "embeddings", torch.zeros(1, 300))
    assert not new.has(b"a", ["embeddings"]) and {part.encoder for part in parts(tmp_path)} == {"old"}


WRITE_AND_READ = """
import sys, time, zlib, numpy as np
from pathlib import Path
from tips_bench.features.part_writer import PartWriter
from tips_bench.features.parts import places
cache, name, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
kept = 0
for number in range(30):  # evaluations, one after another
    writer = PartWriter(cache / name, {"encoder": name, "type": "float32"}, limit)
    for key in range(8):
        kept += writer.append(b"%d %d" % (number, key), "embeddings", np.full((1, 300), number, np.float32)) is not None
    writer.flush()
    writer.close()
    for index in cache.glob("*/part-*.index"):
        try:
            data, found = index.with_suffix(".bin").read_bytes(), list(places(index))
        except FileNotFoundError:
            continue  # deleted meanwhile
        for _, place in found:
            rows = data[place.offset : place.offset + place.rows * place.columns * 4]
            assert not rows or zlib.crc32(rows) == place.check
    time.sleep(0.01)
print(kept)
"""


@pytest.mark.slow
def test_processes_that_fill_one_cache_at_once_stay_within_its_limit_and_break_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_AND_READ, str(tmp_path / "cache")]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    limit, names = 128_000, ("a", "b", "c")
    processes = [
        subprocess.Popen([*command, name, str(limit)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    most = 0
    while any(process.poll() is None for process in processes):
        most = max(most, size(tmp_path / "cache"))
        time.sleep(0.01)
    ends = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], ends
    kept = sum(int(out) for out, _ in ends)
    total = kept * (ROW.nbytes + 88)
    assert total > 2 * limit, "more than twice the limit was kept, one after another"
    assert limit / 2 < most <= limit + (len(names) - 1) * max(limit // PARTS_WITHIN_LIMIT, ROW.nbytes + 88)
    assert all(verify(part)[1] == 0 for part in parts(tmp_path / "cache"))


@pytest.mark.parametrize(("text", "found"), [("200GB", 200e9), ("1.5 tb", 1.5e12), ("30MB", 3e7)])
def test_a_limit_is_a_number_with_a_unit(text: str, found: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert limit_bytes(True, text) == found
    monkeypatch.setenv("TIPS_BENCH_CACHE_LIMIT", text)
    assert limit_bytes(True, None) == found and limit_bytes(True, "1GB") == 1e9 and limit_bytes(False, None) is None


@pytest.mark.parametrize("text", ["200", "GB", "0GB", "-1GB", "1e3GB", "200GiB", "٣GB", ""])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match=r"--cache-limit: '.*' is not a size. Give a number and MB, GB or TB, as 200GB"):
        limit_bytes(True, text)


def test_settings_of_a_cache_need_one() -> None:
    with pytest.raises(UserError, match="Add --cache"):
        limit_bytes(False, "1GB")
    with pytest.raises(UserError, match="Add --cache"):
        rounding(False, "fp32", "bf16")


def test_features_are_rounded_only_to_what_saves_disk() -> None:
    assert [rounding(True, "fp32", to) for to in (None, "fp16", "bf16")] == [None, "fp16", "bf16"]
    assert rounding(True, "bf16", "bf16") is None
    for dtype, to in (("bf16", "fp16"), ("fp32", "fp8")):
        with pytest.raises(UserError, match="--cache-dtype"):
            rounding(True, dtype, to)
