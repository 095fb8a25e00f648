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

HEAD, NOTES = "head.npz", "fit.json"


def fitted(probe: Probe, folders: list[Path], fit: Callable[[], Fit], *, writes: bool) -> Fit:
    """The fit of the first folder that has one, or a new one, which is kept in all of them. writes: whether this rank writes."""
    for folder in folders:
        if (folder / NOTES).is_file():
            data = json.loads((folder / NOTES).read_text(encoding="utf-8"))
            choice = Choice(**data["choice"]) if data["choice"] else None
            return Fit(probe.load(folder / HEAD), data["report"], choice, data["warnings"])
    found = fit()
    chosen = asdict(found.choice) if found.choice else None
    for folder in folders if writes else []:
        folder.mkdir(parents=True, exist_ok=True)
        found.head.save(folder / HEAD)
        write_text(folder / NOTES, json.dumps({"report": found.report, "choice": chosen, "warnings": found.warnings}))
    return found
