"""The executor that a user names with --on, and its settings."""

from __future__ import annotations

from dataclasses import dataclass

from tips_bench.errors import UserError
from tips_bench.registry import EXECUTORS


@dataclass(frozen=True)
class Chosen:
    """An executor by name, with its settings. at_once: --jobs."""

    name: str
    values: dict[str, str | int]
    at_once: int | None = None


def chosen_executor(on: str | None, jobs: int | None, slurm: str | None, ray: str | None) -> Chosen | None:
    """What --on names, with the options for it; None where none of them is given. jobs: how many --on local does at a time.

    slurm, ray: "KEY=VALUE,KEY=VALUE"; whole numbers become such. Errors: no such executor or pair, an option for another executor.
    """
    given = {"jobs": jobs, "slurm": slurm, "ray": ray}
    if on is None and not any(given.values()):
        return None
    for option, value in given.items():
        for_it = "local" if option == "jobs" else option
        if value is not None and for_it != on:
            raise UserError(f"this option is for --on {for_it}", where=f"--{option}", fix="Leave it out, or change --on.")
    name = on or ""
    EXECUTORS.get(name, where="--on")
    values: dict[str, str | int] = {}
    for part in filter(None, ({"slurm": slurm, "ray": ray}.get(name) or "").split(",")):
        key, sign, text = part.strip().partition("=")
        if not key or not sign:
            raise UserError(f"{part!r} is not KEY=VALUE", where=f"--{name}", fix="For example time=120.")
        values[key] = int(text) if text.isdecimal() else text
    return Chosen(name, values, jobs)
