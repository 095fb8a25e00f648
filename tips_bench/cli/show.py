"""tips-bench show: one card or recipe, after its `_base_` files were merged in."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import typer

from tips_bench.cli import complete
from tips_bench.cli.output import print_json, print_line
from tips_bench.errors import unknown_name
from tips_bench.terminal import printable

Kind = Literal["task", "protocol", "model", "prompt", "recipe"]


def show(
    name: Annotated[str, typer.Argument(autocompletion=complete.card, help="Name of a task, protocol, model, prompt or recipe.")],
    only: Annotated[Kind | None, typer.Option("--kind", help="Of things that share the name, print this one. Default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of YAML.")] = False,
) -> None:
    """Print the complete card of a task, protocol, model, prompt or recipe: every value, the license, and how to get the data.

    \b
    Examples:
      tips-bench show ade20k
      tips-bench show ade20k+fog-3
      tips-bench show tips-g14 --kind model --json
    """
    from tips_bench.catalog import card_files
    from tips_bench.variants import base_of

    kinds: tuple[Kind, ...] = get_args(Kind)
    base = name if any(name in card_files(kind) for kind in kinds) else base_of(name)  # of a task with changes
    found = [kind for kind in kinds if base in card_files(kind) and (kind == "task" or base == name) and only in (None, kind)]
    if not found:
        raise unknown_name(only or "card", name, [known for kind in kinds if only in (None, kind) for known in card_files(kind)])
    cards = {kind: _in_full(kind, name) for kind in found}
    if as_json:
        print_json(cards)
        return
    from tips_bench import plain_yaml

    for kind in found:
        print_line(f"# {kind}, {card_files(kind)[base]}")
        print("\n".join(map(printable, plain_yaml.dump(cards[kind]).split("\n"))), end="")


def _in_full(kind: Kind, name: str) -> dict[str, Any]:
    if kind == "recipe":
        from tips_bench.training.recipe_files import load_recipe

        return load_recipe(name).model_dump(mode="json", exclude_none=True)
    from tips_bench.cards import in_full, load_card

    return in_full(load_card(kind, name))
