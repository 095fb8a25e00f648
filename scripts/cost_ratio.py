"""How much faster the evaluations of one results folder were than the same ones of another: seconds on the clock, and images a second.

python scripts/cost_ratio.py gpu-day/one-gpu gpu-day/all-gpus
"""

from __future__ import annotations

import sys
from pathlib import Path

from tips_bench.errors import UserError
from tips_bench.results.folders import read_records
from tips_bench.results.record import Record, load_record

Key = tuple[str, str, str]


def records(folder: Path) -> dict[Key, Record]:
    """By task, model and protocol."""
    found, errors = read_records(folder, load_record)
    if errors:
        raise SystemExit(f"cost_ratio.py: {errors[0]}")
    return {(record.task, record.model, record.protocol): record for record in found}


def main(first: str, second: str) -> None:
    """Prints a line for each evaluation that both folders have. Ends with an error where there is none."""
    before, after = records(Path(first)), records(Path(second))
    both = [key for key in before if key in after]
    if not both:
        raise SystemExit(f"cost_ratio.py: no evaluation lies in both {first} and {second}")
    for key in both:
        old, new = before[key].cost, after[key].cost
        clock = f"{old.wall_s:.1f} s -> {new.wall_s:.1f} s, {old.wall_s / new.wall_s:.2f} times as fast"
        print(f"{' '.join(key)}: {clock}, ranks {old.ranks} -> {new.ranks}, {old.images_per_s:.1f} -> {new.images_per_s:.1f} images/s")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        raise SystemExit(f"cost_ratio.py: {error}") from error
