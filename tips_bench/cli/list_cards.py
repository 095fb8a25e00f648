"""tips-bench list: the names that the other commands accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from tips_bench.cli.output import print_error, print_json, print_table
from tips_bench.errors import UserError


def _millions(parameters: int | None) -> str:
    return "" if parameters is None else f"{parameters / 1e6:.1f} M"


COLUMNS: dict[str, dict[str, Callable[[Any], str]]] = {
    "model": {
        "name": lambda card: card.name,
        "title": lambda card: card.title,
        "source": lambda card: card.source,
        "parameters": lambda card: _millions(card.parameters),
        "patch": lambda card: str(card.patch_size),
        "side": lambda card: str(card.resolution),
        "text": lambda card: "yes" if card.has_text else "",
        "license": lambda card: card.license,
    },
    "task": {
        "name": lambda card: card.name,
        "title": lambda card: card.title,
        "family": lambda card: card.family,
        "protocol": lambda card: card.protocol,
        "metric": lambda card: card.primary,
        "license": lambda card: card.license,
    },
    "protocol": {
        "name": lambda card: card.name,
        "title": lambda card: card.title,
        "probe": lambda card: str(card.probe.get("type", "")),
        "families": lambda card: ", ".join(card.families),
        "source": lambda card: card.source,
    },
    "prompt": {
        "name": lambda card: card.name,
        "title": lambda card: card.title,
        "tokens": lambda card: str(card.max_tokens),
        "made from": lambda card: ", ".join(["image", *sorted(card.used(), reverse=True)]),
    },
    "recipe": {
        "name": lambda card: card.name,
        "title": lambda card: card.title,
        "steps": lambda card: f"{card.steps:,}",
        "batch": lambda card: f"{card.stages[0].batch:,}",
        "side": lambda card: str(card.stages[-1].global_px),
    },
}
ALWAYS = 2  # columns: name and title


def list_(
    what: Annotated[Literal["models", "tasks", "protocols", "prompts", "recipes"], typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the complete cards as JSON.")] = False,
) -> None:
    """List all models, tasks, protocols, prompts or recipes: those of tips-bench and your own.

    A card that cannot be read is left out, its error is printed, and the exit
    status is 2.

    \b
    Examples:
      tips-bench list tasks
      tips-bench list models --json
      tips-bench list recipes
    """
    kind: Any = what.removesuffix("s")
    cards, faults = _cards(kind)
    if as_json:
        print_json([card.model_dump(mode="json") for card in cards])
    else:
        rows = [[column(card) for column in COLUMNS[kind].values()] for card in cards]
        print_table(list(COLUMNS[kind]), rows, optional=len(COLUMNS[kind]) - ALWAYS)
    for fault in faults:
        print_error(fault)
    if faults:
        raise typer.Exit(2)


def _cards(kind: Any) -> tuple[list[Any], list[UserError]]:
    """All of a kind, and what is wrong with those that cannot be read."""
    if kind == "recipe":
        from tips_bench.training.recipe_files import list_recipes

        return list_recipes()
    from tips_bench.cards import list_cards

    return list_cards(kind)
