"""How to make a record's number again, and what its deviations say that was changed."""

from __future__ import annotations

import re
import shlex

from tips_bench.results.record import Record

DEVIATION = re.compile(r"(task|model|protocol)\.(\S+) = (.*) \(card: .*\)", re.DOTALL)
LIMIT = re.compile(r"limit = (\d+) images of each split")


def changed_values(record: Record) -> dict[str, str]:
    """ "protocol.image.short_side" -> its value as YAML, of every card value that the record says was overridden."""
    found = [DEVIATION.fullmatch(deviation) for deviation in record.deviations]
    return {f"{match[1]}.{match[2]}": match[3] for match in found if match}


def limit(record: Record) -> int | None:
    """To how many images of each split the run was limited."""
    found = [LIMIT.fullmatch(deviation) for deviation in record.deviations]
    return next((int(match[1]) for match in found if match), None)


def command(record: Record) -> str:
    """The command that makes the number again, from the record's fields, quoted for a shell."""
    model, _, weights = record.model.partition("@")
    parts = ["tips-bench", "run", "--task", record.task, "--model", model, "--protocol", record.protocol, "--dtype", record.cost.dtype]
    if weights:
        # of a file the record keeps the stem only; its hash is weights_sha256
        parts += ["--weights", weights if weights.startswith("random") else f"{weights}.safetensors"]
    if record.seed:
        parts += ["--seed", str(record.seed)]
    for key, value in changed_values(record).items():
        parts += ["--set", f"{key}={value}"]
    number = limit(record)
    if number is not None:
        parts += ["--limit", str(number)]
    return shlex.join(parts)
