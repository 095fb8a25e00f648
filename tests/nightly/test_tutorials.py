"""docs/tutorials: each does what it says, command for command, in an empty folder.

They share the generated rooms, as they would on the machine of a reader who follows one after the other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_ends_well(page: Path, readers_cache: Path, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "TIPS_BENCH_DATA"}
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "follow_page.py", page, tmp_path],
        env={**kept, "PYTHONPATH": str(ROOT), "TIPS_BENCH_CACHE": str(readers_cache)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
