"""A probe's fit on disk: taken up by a run that was killed, and by evaluations that need the same one.

FOLDER/head.npz    the head
FOLDER/fit.json    what the fit says of itself; written last, so that a folder that has it is whole
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tips_bench.files import write_text
from tips_bench.probes.base import Choice, Fit, Probe
from tips_bench.ranks import World

HEAD, NOTES = "head.npz", "fit.json"


def fitted(probe: Probe, folders: list[Path], fit: Callable[[], Fit], world: World) -> Fit:
    """The fit of the first folder that has one, or a new one, which rank 0 keeps in all of them."""
    known = world.told(lambda: next((folder for folder in folders if (folder / NOTES).is_file()), None))
    if known is not None:
        data = json.loads((known / NOTES).read_text(encoding="utf-8"))
        choice = Choice(**data["choice"]) if data["choice"] else None
        return Fit(probe.load(known / HEAD), data["report"], choice, data["warnings"])
    found = fit()
    chosen = asdict(found.choice) if found.choice else None
    for folder in folders if world.is_first else []:
        folder.mkdir(parents=True, exist_ok=True)
        found.head.save(folder / HEAD)
        write_text(folder / NOTES, json.dumps({"report": found.report, "choice": chosen, "warnings": found.warnings}))
    return found
