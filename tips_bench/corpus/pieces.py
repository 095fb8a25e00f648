"""A step as pieces: calls of functions with plain data, each of which leaves a file when it has ended.

A step that is stopped at any moment goes on where it stopped: pieces whose file is there are not done again. The target folder belongs to
one step with one set of settings; another one is refused there. Pieces do not depend on each other, so any executor may do them.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tips_bench.corpus.store import BEGUN, MANIFEST
from tips_bench.errors import UserError
from tips_bench.files import digest, write_text
from tips_bench.progress import bar


@dataclass(frozen=True)
class Piece:
    """function: "package.module:name", called with `arguments`, which are plain data. done: the file that the call writes last, whole."""

    function: str
    arguments: dict[str, Any]
    done: Path

    def run(self) -> None:
        """Do it in this process."""
        module, _, name = self.function.partition(":")
        getattr(importlib.import_module(module), name)(**self.arguments)
        if not self.done.is_file():
            raise RuntimeError(f"{self.function} has not written {self.done}")


def begin(target: Path, step: str, settings: dict[str, Any]) -> bool:
    """Take a folder for a step, or take up what has begun there. settings: all that decides the result, the source's hashes too.

    True where it is whole already. Errors: the folder has other files, or belongs to another step or other settings.
    """
    own = digest(step, json.dumps(settings, sort_keys=True))
    begun = target / BEGUN
    if begun.is_file():
        if json.loads(begun.read_text(encoding="utf-8")).get("identity") != own:
            fix = "Give another folder with --to, or the settings as they were."
            raise UserError(f"it holds a corpus that was made in another way than this `{step}`", where=target, fix=fix)
        return (target / MANIFEST).is_file()
    if target.is_dir() and any(target.iterdir()):
        raise UserError("the folder is not empty, and no step began here", where=target, fix="Give an empty folder, or a new one.")
    write_text(begun, json.dumps({"identity": own, "step": step, "settings": settings}, indent=1) + "\n", durable=True)
    return False


def run_pieces(pieces: Sequence[Piece], title: str) -> None:
    """Do those that are not done yet, with a bar. Errors: those of the pieces."""
    left = [piece for piece in pieces if not piece.done.is_file()]
    with bar(title, len(pieces), "shards") as advance:
        advance(len(pieces) - len(left))
        for piece in left:
            piece.run()
            advance()
