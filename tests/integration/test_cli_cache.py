"""tips-bench cache: what is kept is listed, pruned by its last use and verified."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from tips_bench.catalog import cache_root
from tips_bench.cli.app import app
from tips_bench.features.memory import FeatureMemory


def cache(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["cache", *arguments])


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """Features of two encoders, 4 MB each; the first was used yesterday."""
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    places = {}
    for number, name in enumerate(("old", "new")):
        memory = FeatureMemory(cache_root() / "features" / name, torch.float32, name)
        for key in range(4):
            memory.keep(str(key).encode(), "embeddings", torch.rand(1000, 250))
        memory.close()
        (places[name],) = (cache_root() / "features" / name).glob("*.index")
        os.utime(places[name], (1e9 + number, 1e9 + number))
    return places


def test_without_features_nothing_is_listed_and_all_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    assert cache("list").stdout == f"0.00 GB of features in {tmp_path / 'cache' / 'features'}\n"
    assert cache("prune", "--max-gb", "1").stdout == "0.00 GB deleted, 0.00 GB left\n"
    assert cache("verify").stdout == "0 arrays are whole, 0 are broken\n"


def test_encoders_are_listed_with_size_and_last_use(kept: dict[str, Path]) -> None:
    lines = cache("list").stdout.splitlines()
    assert [line.split() for line in lines[-3:-1]] == [["new", "0.00", "2001-09-09"], ["old", "0.00", "2001-09-09"]]


def test_a_limit_is_listed_with_what_is_used_of_it(kept: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert " of at most" not in cache("list").stdout
    monkeypatch.setenv("TIPS_BENCH_CACHE_LIMIT", "16MB")
    assert cache("list").stdout.endswith("of at most 0.02 GB (50%)\n")
    monkeypatch.setenv("TIPS_BENCH_CACHE_LIMIT", "much")
    done = cache("list")
    assert done.exit_code == 2 and "$TIPS_BENCH_CACHE_LIMIT: 'much' is not a size" in done.stderr


@pytest.mark.parametrize(("most", "left"), [("1", {"old", "new"}), ("0.006", {"new"}), ("0", set())])
def test_what_was_not_used_for_longest_goes_first(kept: dict[str, Path], most: str, left: set[str]) -> None:
    done = cache("prune", "--max-gb", most)
    assert done.exit_code == 0 and {name for name, index in kept.items() if index.exists()} == left
    assert {name for name, index in kept.items() if index.with_suffix(".bin").exists()} == left


def test_features_that_are_not_what_was_written_are_counted(kept: dict[str, Path]) -> None:
    assert cache("verify").stdout == "8 arrays are whole, 0 are broken\n"
    data = bytearray(kept["old"].with_suffix(".bin").read_bytes())
    data[0] ^= 1
    kept["old"].with_suffix(".bin").write_bytes(data)
    kept["new"].with_suffix(".bin").unlink()
    done = cache("verify")
    assert (done.exit_code, done.stdout) == (1, "3 arrays are whole, 5 are broken\n")
