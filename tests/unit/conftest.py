"""Fixtures of several unit tests."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what looks at the disk; test_features_written_beside.py holds the thread that writes to its promises."""
    from tips_bench.features.memory import FeatureMemory

    keep = FeatureMemory.keep

    def keep_and_wait(self: FeatureMemory, key: bytes, kind: str, features_PD: Any) -> None:
        keep(self, key, kind, features_PD)
        self._settle(0)

    monkeypatch.setattr(FeatureMemory, "keep", keep_and_wait)
