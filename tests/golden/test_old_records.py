"""Records that earlier versions wrote are readable for good, without any registry, and their counts still give their numbers.

Files here are never changed; a new schema adds a folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tips_bench.results.comparison import compare
from tips_bench.results.counts import load_scored
from tips_bench.results.record import load_record

OLD = sorted((Path(__file__).parent / "data" / "records").glob("schema-*/*.json"))


def respelled(card: dict[str, Any]) -> dict[str, Any]:
    """The card with the spelling of schema 2."""
    return {"license" if key == "licence" else key: value for key, value in card.items()}


@pytest.mark.parametrize("path", OLD, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_is_read_with_the_values_it_was_written_with(path: Path) -> None:
    written, record = json.loads(path.read_text()), load_record(path)
    assert {name: metric.value for name, metric in record.metrics.items()} == {n: m["value"] for n, m in written["metrics"].items()}
    assert record.cards == {kind: respelled(card) for kind, card in written["cards"].items()}
    assert record.dataset.fingerprint == written["dataset"]["fingerprint"]


@pytest.mark.parametrize("path", OLD, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_its_counts_give_its_numbers_and_it_equals_itself(path: Path) -> None:
    scored = load_scored(path)
    same = compare(scored, scored)
    assert all(row.value == 0 for row in same.metrics.values())


@pytest.mark.parametrize("path", OLD, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_is_read_without_registries_or_torch(path: Path) -> None:
    code = f"""import sys; from tips_bench.results.record import load_record; load_record({str(path)!r})
assert not {{"torch", "mmengine", "tips_bench.registry"}} & set(sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
