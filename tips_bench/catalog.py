"""Where cards live: the ones shipped with tips-bench, and the user's own folders beside them.

In a checkout `tasks/`, `model_zoo/`, `prompts/`, `leaderboards/` and `recipes/` stand beside the package; in a wheel they lie in
`tips_bench/bundled/`. A user's own cards are read from `tips-bench-cards/` in the working directory and from the folders
named in $TIPS_BENCH_CARDS (separated as in $PATH), each with the same sub-folders.
"""

from __future__ import annotations

import os
from pathlib import Path

from tips_bench import plugins
from tips_bench.errors import UserError, unknown_name

PACKAGE = Path(__file__).resolve().parent
USER_FOLDER = "tips-bench-cards"
KINDS = {"task": "tasks", "protocol": "tasks/protocols", "model": "model_zoo", "prompt": "prompts", "recipe": "recipes"}
LIBRARY_HINT = "A model of timm, Hugging Face or open_clip needs a prefix: timm:NAME, hf:OWNER/NAME or open_clip:ARCH/TAG."


def shipped(name: str) -> Path:
    """The shipped folder `name` ("tasks", "model_zoo", "prompts", "leaderboards", "recipes")."""
    bundled = PACKAGE / "bundled" / name
    return bundled if bundled.is_dir() else PACKAGE.parent / name


def user_roots() -> list[Path]:
    """The user's card folders that exist, first match wins over the shipped cards."""
    named = [os.path.expanduser(entry) for entry in os.environ.get("TIPS_BENCH_CARDS", "").split(os.pathsep) if entry]
    missing = [folder for folder in named if not os.path.isdir(folder)]
    if missing:
        raise UserError(f"{missing[0]} is not a folder", where="$TIPS_BENCH_CARDS", fix="Remove it from the variable, or create it.")
    return [Path(folder) for folder in [*named, USER_FOLDER] if os.path.isdir(folder)]


def card_files(kind: str) -> dict[str, Path]:
    """Card name (the file's stem) -> file, for a kind of `KINDS`; the user's folders come first, then those of plugins."""
    folders = [root / KINDS[kind] for root in (*user_roots(), *plugins.card_folders())] + [shipped(KINDS[kind])]
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("[!.]*.yaml")):  # an editor's and a system's own files begin with a dot
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def shipped_card_files(kind: str) -> dict[str, Path]:
    """Card name -> file, of those that ship with tips-bench alone, whatever the working directory holds."""
    return {path.stem: path for path in sorted(shipped(KINDS[kind]).glob("[!.]*.yaml"))}


def find_card(kind: str, name: str) -> Path:
    """The file of the card `name`; a path to a .yaml file is taken as it is.

    Errors: an unknown name suggests near ones; a path that is not there is said to be missing.
    """
    if name.endswith((".yaml", ".yml")):
        path = os.path.expanduser(name)
        if not os.path.isfile(path):
            raise UserError("there is no such file", where=path, fix="Check the path.")
        return Path(path)
    files = card_files(kind)
    if name not in files:
        raise unknown_name(kind, name, files, hint=LIBRARY_HINT if kind == "model" else "")
    return files[name]


def is_shipped(kind: str, name: str) -> bool:
    """Whether a card, or a path to one, is one that ships with tips-bench and not the user's own or a plugin's."""
    return find_card(kind, name).resolve().parent == shipped(KINDS[kind]).resolve()


def cache_root() -> Path:
    """Where downloads, features and generated rooms are kept: $TIPS_BENCH_CACHE or ~/.cache/tips-bench."""
    return Path(os.path.expanduser(os.environ.get("TIPS_BENCH_CACHE") or "~/.cache/tips-bench"))


def generated_root() -> Path:
    """Where generated data sets lie, unless a data root is named: `generated` in the cache."""
    return cache_root() / "generated"


def data_root() -> Path:
    """Where data sets lie: $TIPS_BENCH_DATA or ./data."""
    return Path(os.path.expanduser(os.environ.get("TIPS_BENCH_DATA") or "data"))
