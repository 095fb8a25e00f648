"""What each process of integration/test_paper_recipes.py does: whole runs, one after the other.

torchrun --nproc-per-node 2 tests/helpers/small_recipes.py ASSIGNMENTS.json    {"recipe": ["a.b=value", ...], ...}; runs in runs/
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(assignments: str) -> None:
    from tips_bench import ranks
    from tips_bench.training.loop import train
    from tips_bench.training.recipe_files import load_recipe

    leave, ranks.leave = ranks.leave, lambda: None  # ranks that have parted do not find each other again
    for name, sets in json.loads(Path(assignments).read_text()).items():
        train(load_recipe(name, sets), Path("runs") / name, device="cpu")
    leave()
    ranks.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
