"""What tests of pages and notebooks share: a reader's cache, in which the rooms of each task are generated once for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def readers_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for $TIPS_BENCH_CACHE."""
    return tmp_path_factory.mktemp("readers-cache")
