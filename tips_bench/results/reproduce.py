"""The command that makes a record's number again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import Literal

from tips_bench.results.record import Deviation, Record


def cache_dtype(deviations: Iterable[Deviation]) -> Literal["fp16", "bf16"] | None:
    """To what the features were rounded for a cache; None = they were not."""
    said = (one.value for one in deviations if (one.card, one.key) == ("run", "cache_dtype"))
    return next((value for value in said if value in ("fp16", "bf16")), None)


def command(record: Record) -> str:
    """The command line, from the record's fields, quoted for a shell. Of a weight file the record keeps the name, not the folder."""
    parts = ["tips-bench", "run", "--task", record.task, "--model", record.model, "--protocol", record.protocol]
    parts += ["--dtype", record.cost.dtype]
    if record.cost.compiled:
        parts.append("--compile")
    if record.weights:
        parts += ["--weights", record.weights]
    if record.seed:
        parts += ["--seed", str(record.seed)]
    for key, value in record.changed_values.items():
        parts += ["--set", f"{key}={json.dumps(value)}"]
    if record.limit is not None:
        parts += ["--limit", str(record.limit)]
    rounded = cache_dtype(record.deviations)
    if rounded is not None:
        parts += ["--cache", "--cache-dtype", rounded]
    return shlex.join(parts)
