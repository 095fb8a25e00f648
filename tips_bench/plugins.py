"""Plugins: packages of other people that add families, readers, probes, metrics, encoder sources and cards.

A plugin is a module with a function `register()` that calls `add` of the registries (tips_bench.registry) and, where it ships cards,
`add_cards`. It is found through an entry point of the group `tips_bench.plugins` in the package's pyproject.toml,

    [project.entry-points."tips_bench.plugins"]
    my-plugin = "my_package.plugin"

through `tips-bench --plugin my_module VERB ...`, or through $TIPS_BENCH_PLUGINS (a comma list), which worker processes inherit. A plugin
that cannot be loaded is an error that names it, never left out in silence. examples/plugin/ is one to copy.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from tips_bench.errors import UserError

GROUP = "tips_bench.plugins"
VARIABLE = "TIPS_BENCH_PLUGINS"

_loaded: set[str] = set()
_card_folders: list[Path] = []
_loading = False


def add_cards(folder: str | Path) -> None:
    """Take in a plugin's card folder, laid out as the shipped ones: tasks/, tasks/protocols/, model_zoo/, prompts/.

    Errors: no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError("no such folder of cards", where=folder, fix="Ship the cards with the package, as package data.")
    _card_folders.append(folder)


def card_folders() -> list[Path]:
    """The card folders of all plugins."""
    load()
    return list(_card_folders)


def load_plugin(module: str) -> None:
    """Load a plugin by the name of its module, in this process and in those that it starts. Errors: it cannot be loaded."""
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*_named(), module]))
    load()


def load() -> None:
    """Load every plugin that is installed or named and not loaded yet. Errors: the first that cannot be loaded."""
    global _loading
    if _loading:  # a plugin asks a registry while it registers
        return
    _loading = True
    try:
        for module, origin in _wanted():
            if module not in _loaded:
                _load(module, origin)
                _loaded.add(module)
    finally:
        _loading = False


def _named() -> list[str]:
    return [part.strip() for part in os.environ.get(VARIABLE, "").split(",") if part.strip()]


_installed: list[tuple[str, str]] | None = None


def _wanted() -> Iterator[tuple[str, str]]:
    """(module, where it was named) of every plugin; the installed packages are looked through once a process."""
    global _installed
    if _installed is None:
        found = entry_points(group=GROUP)
        _installed = [(point.value, f"entry point {point.name!r} of {point.dist.name if point.dist else 'a package'}") for point in found]
    yield from _installed
    yield from ((module, "--plugin") for module in _named())


def _load(module: str, origin: str) -> None:
    where = f"plugin {module!r} ({origin})"
    fix = "Repair it, or uninstall it."
    if origin == "--plugin":
        fix = f"Check the name and that Python finds it: python -c 'import {module}'."
    try:
        plugin = importlib.import_module(module)
    except Exception as error:
        raise UserError(f"cannot be imported: {type(error).__name__}: {error}", where=where, fix=fix) from error
    if not callable(getattr(plugin, "register", None)):
        raise UserError("it has no function register()", where=where, fix="Define one that adds the plugin's parts.")
    try:
        plugin.register()
    except UserError as error:
        raise UserError(error.problem, where=where, fix=error.fix) from error
    except Exception as error:
        raise UserError(f"register() failed: {type(error).__name__}: {error}", where=where, fix=fix) from error
