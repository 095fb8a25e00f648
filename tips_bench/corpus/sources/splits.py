"""Which files of a folder are of a split, told by their names.

The rules are those of Hugging Face's `datasets` (data_files.py of 5.2) for a folder whose README names no files: `train-00000-of-00004` is
of `train`; else a folder, or else the file, has one of the words train, training, valid, validation, val, dev, test, testing, eval and
evaluation in its name, between separators. One difference: here `NAME-00000-of-00004` is of NAME in any folder, there in `data/` alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

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
    """split: of a file, None where its name tells none. config: the folder of the configuration, "" for the data set's own."""

    split: str | None
    config: str = ""


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


def of_split(files: Sequence[Path], names: Sequence[str], split: str | None, where: object) -> list[Path]:
    """The files of a split; all of them where their names tell no more than one. names: of the files, as for `place_of`.

    Errors: several splits and none chosen; no such split; several configurations.
    """
    places = [place_of(name) for name in names]
    configs = sorted({place.config for place in places if place.split is not None})
    if len(configs) > 1:
        folders = ", ".join(f"{str(where).rstrip('/')}/{config}" for config in configs if config)
        raise UserError("the data set has several configurations", where=where, fix=f"Give the folder of one: {folders[:300]}.")
    known = sorted({place.split for place in places if place.split is not None})
    without = sum(place.split is None for place in places)
    if split is None:
        if len(known) + (without > 0) > 1:
            rest = f"; the names of {counted(without, 'file')} tell none" if without else ""
            fix = f"Choose one with --split: {', '.join(known)[:300]}{rest}."
            raise UserError("the data set has several splits", where=where, fix=fix)
        return list(files)
    if not known:
        raise UserError("the names of the files tell no split", where=where, fix="Leave --split out, or give the folder of the split.")
    wanted = WORDS.get(split, split)
    if wanted not in known:
        raise unknown_name("split", split, known, where=where)
    return [file for file, place in zip(files, places, strict=True) if place.split == wanted]


def _config(folders: Sequence[str]) -> str:
    return "/".join(folder for folder in folders if folder != "data")
