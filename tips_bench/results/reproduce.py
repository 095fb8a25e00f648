"""The command that makes a record's number again."""

from __future__ import annotations

import json
import shlex

from tips_bench.results.record import Record


def command(record: Record) -> str:
    """The command line, from the record's fields, quoted for a shell. Of a weight file the record keeps the name, not the folder."""
    parts = ["tips-bench", "run", "--task", record.task, "--model", record.model, "--protocol", record.protocol]
    parts += ["--dtype", record.cost.dtype]
    if record.weights:
        parts += ["--weights", record.weights]
    if record.seed:
        parts += ["--seed", str(record.seed)]
    for key, value in record.changed_values.items():
        parts += ["--set", f"{key}={json.dumps(value)}"]
    if record.limit is not None:
        parts += ["--limit", str(record.limit)]
    return shlex.join(parts)
