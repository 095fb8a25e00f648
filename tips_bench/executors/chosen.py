"""The executor that a user names with --on, and its settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError
from tips_bench.plain_yaml import load
from tips_bench.registry import EXECUTORS


@dataclass(frozen=True)
class Chosen:
    """An executor by name, with its settings. at_once: --jobs."""

    name: str
    values: dict[str, Any]
    at_once: int | None = None


def chosen_executor(on: str | None, jobs: int | None, slurm: str | None, ray: str | None) -> Chosen | None:
    """What --on names, with the options for it; None where none of them is given. jobs: how many --on local does at a time.

    slurm, ray: "KEY=VALUE,@FILE", see `_settings`. Errors: no such executor, pair or file, an option for another executor.
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
    return Chosen(name, _settings({"slurm": slurm, "ray": ray}.get(name) or "", f"--{name}"), jobs)


def most_at_once(chosen: Chosen, device: str | None) -> int | None:
    """How many jobs run at the same time; None = nobody knows, perhaps all. device: of the jobs."""
    from tips_bench.executors.local import jobs_at_once

    if chosen.name == "local":
        return jobs_at_once(device, chosen.at_once)
    most = chosen.values.get("array_parallelism") if chosen.name == "slurm" else None
    return most if isinstance(most, int) else None


def _settings(said: str, where: str) -> dict[str, Any]:
    """Of parts between commas. KEY=VALUE: a number, true, false or text. @FILE: a mapping in YAML, for lists and for values with commas.

    Of a key that is there twice the last value counts. Errors: a part that is neither, a file that is no plain YAML.
    """
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in said.split(","))):
        if part.startswith("@"):
            values |= load(Path(part[1:]))
            continue
        key, sign, text = part.partition("=")
        if not key or not sign:
            raise UserError(f"{part!r} is not KEY=VALUE", where=where, fix="For example time=120, or @FILE.yaml for a file of settings.")
        values[key] = _value(text)
    return values


def _value(text: str) -> str | int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"0|-?[1-9][0-9]*", text):  # 0042 may be an account
        return int(text)
    return float(text) if re.fullmatch(r"-?[0-9]*\.[0-9]+", text) else text
