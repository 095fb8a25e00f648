"""Which files of a folder are of a split and of a configuration: as its README says (hub_readme.py), or else as their names tell.

The rules for names are those of Hugging Face's `datasets` (data_files.py of 5.2): `train-00000-of-00004` is of `train`; else a folder, or
else the file, has one of the words train, training, valid, validation, val, dev, test, testing, eval and evaluation in its name, between
separators. Two differences: `NAME-00000-of-00004` is of NAME in any folder, there in `data/` alone; and files in several folders, each with
splits, are several configurations, there one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tips_bench.errors import UserError, unknown_name
from tips_bench.wording import counted

WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "dev", "val"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_WORD = re.compile(rf"(?<![^-._ 0-9])({'|'.join(sorted(WORDS, key=len, reverse=True))})(?![^-._ 0-9])")
_NUMBERED = re.compile(r"(\w+(?:\.\w+)*)-\d{5}-of-\d{5}")


@dataclass(frozen=True)
class Place:
    """split: None where nothing tells one. config: the name of the configuration; told by names, its folder, "." for the data set's own."""

    split: str | None
    config: str = "."


@dataclass(frozen=True)
class Parts:
    """files: of a data set, by their place; a file may have several. default: the configuration that is meant where none is chosen."""

    files: dict[Place, list[str]] = field(default_factory=dict)
    default: str | None = None

    def add(self, place: Place, name: str) -> None:
        """Another file of a place."""
        self.files.setdefault(place, []).append(name)


def place_of(name: str) -> Place:
    """name: path of a file below the folder of the data set, with slashes."""
    *folders, file = PurePosixPath(name).parts
    for depth, folder in enumerate(folders):
        if word := _WORD.search(folder):
            return Place(WORDS[word[1]], _config(folders[:depth]))
    if numbered := _NUMBERED.match(file):
        return Place(WORDS.get(numbered[1], numbered[1]), _config(folders))
    word = _WORD.search(file)
    return Place(WORDS[word[1]], _config(folders)) if word else Place(None)


def by_names(names: Sequence[str]) -> Parts:
    """The files by what their names tell."""
    parts = Parts()
    for name in names:
        parts.add(place_of(name), name)
    return parts


def chosen(parts: Parts, split: str | None, config: str | None, where: object) -> list[str]:
    """The files of a split of a configuration; None = the only one that there is.

    Errors: several and none chosen; no such split or configuration.
    """
    configs = sorted({place.config for place in parts.files if place.split is not None})
    if config is None and len(configs) > 1:
        if parts.default is None:
            fix = f"Choose one with --config: {', '.join(configs)[:300]}."
            raise UserError("the data set has several configurations", where=where, fix=fix)
        config = parts.default
    if config is not None and config not in configs:
        raise unknown_name("configuration", config, configs, where=where)
    own = {place: names for place, names in parts.files.items() if config in (None, place.config)}
    known = sorted({place.split for place in own if place.split is not None})
    without = sum(len(names) for place, names in own.items() if place.split is None)
    if split is None and len(known) + (without > 0) > 1:
        rest = f"; {counted(without, 'file')} of none" if without else ""
        raise UserError("the data set has several splits", where=where, fix=f"Choose one with --split: {', '.join(known)[:300]}{rest}.")
    if split is not None and not known:
        raise UserError("the names of the files tell no split", where=where, fix="Leave --split out, or give the folder of the split.")
    wanted = split if split in known else WORDS.get(split or "", split)
    if wanted is not None and wanted not in known:
        raise unknown_name("split", wanted, known, where=where)
    return sorted({name for place, names in own.items() if wanted in (None, place.split) for name in names})


def _config(folders: Sequence[str]) -> str:
    return "/".join(folder for folder in folders if folder != "data") or "."
