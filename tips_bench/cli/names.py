"""The names on a command line, all checked before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tips_bench.catalog import card_files, find_card
from tips_bench.errors import UserError, unknown_name

ALL = "all"


@dataclass(frozen=True)
class Job:
    """One evaluation. protocol: None = the task's own."""

    task: str
    model: str
    protocol: str | None

    def __str__(self) -> str:
        return f"{self.task} · {self.model} · {self.protocol or 'its default protocol'}"


def split(text: str, option: str) -> list[str]:
    """The names of a comma list, in order, each once. Errors: none at all."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise UserError(f"{text!r} names nothing", where=option)
    return names


def expand(text: str, kind: Literal["task", "model"], option: str) -> list[str]:
    """The names of a comma list, `all` meaning every card of the kind. Errors: an unknown name, with near ones."""
    names = split(text, option)
    if ALL in names:
        return list(card_files(kind))
    for name in names:
        # timm:NAME, hf:REPO, open_clip:ARCH/TAG and module:callable are looked up by the encoders themselves
        if not (kind == "model" and ":" in name):
            find_card(kind, name)
    return names


def plan(task: str, model: str, protocol: str | None) -> list[Job]:
    """Every evaluation that the comma lists ask for, model by model.

    Errors: an unknown name; a protocol that a task does not allow.
    """
    tasks = expand(task, "task", "--task")
    models = expand(model, "model", "--model")
    chosen = {name: _protocols(name, protocol) for name in tasks}
    return [Job(t, m, p) for m in models for t in tasks for p in chosen[t]]


def _protocols(task: str, text: str | None) -> list[str | None]:
    if text is None:
        return [None]
    from tips_bench.cards import load_card

    allowed = load_card("task", task).protocols
    names = split(text, "--protocol")
    if ALL in names:
        return list(allowed)
    for name in names:
        if name.endswith((".yaml", ".yml")) or name not in card_files("protocol"):
            raise unknown_name("protocol", name, card_files("protocol"), where="--protocol")
        if name not in allowed:
            raise UserError(f"task {task!r} does not allow protocol {name!r}", where="--protocol", fix=f"It allows {', '.join(allowed)}.")
    return list(names)
