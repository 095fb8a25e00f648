"""Where a case is met, and the count at the end."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.frame import HANG_S


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "arena" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(HANG_S))


@pytest.fixture
def arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder; `work` in it is the working directory, and a home, a cache and a temporary folder lie in it, too."""
    for name in ("work", "home", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "work" / "cache"))
    monkeypatch.setenv("TIPS_BENCH_DATA", str(tmp_path / "work" / "data"))
    return tmp_path


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many cases of each kind were met, and how many held."""
    met, held = Counter[str](), Counter[str]()
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            _, _, case = report.nodeid.partition("[")
            if "tests/attacks/" in report.nodeid and ": " in case and (report.when == "call" or outcome == "error"):
                kind = case.partition(": ")[0]
                met[kind] += 1
                held[kind] += outcome == "passed"
    if met:
        terminalreporter.section("attacks")
        for kind in sorted(met):
            terminalreporter.write_line(f"{kind:24} {held[kind]:5} of {met[kind]:5} held")
        terminalreporter.write_line(f"{'all':24} {held.total():5} of {met.total():5} held")
