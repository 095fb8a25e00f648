"""Configurations and splits as the README of a data set of a hub states them, in the YAML before its text.

configs:
- config_name: english            # as `datasets` reads it (utils/metadata.py and data_files.py of 5.2)
  default: true                   # meant where none is chosen, as is one that is the only one or is called `default`
  data_dir: en                    # the folder of its files
  data_files:                     # patterns of fsspec; without them the names of the files tell their splits, and others are left out
  - split: train                  # or a pattern, or a list of them: all of the split `train`
    path: train-*.parquet         # or a list of patterns
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tips_bench.corpus.sources.splits import Parts, Place, by_names
from tips_bench.errors import UserError

README = "README.md"
LONGEST = 1 << 20  # bytes that are read of it


class _Files(BaseModel):
    split: str
    path: str | list[str]


class _Config(BaseModel):
    config_name: str
    default: bool = False
    data_dir: str = ""
    data_files: str | list[str | _Files] | None = None


class _Header(BaseModel):
    configs: list[_Config] = []


def as_stated(readme: str, names: Sequence[str], where: object) -> Parts | None:
    """The files of the configurations that a README states; None where it states none, or none of these files.

    names: paths below the folder of the data set. Errors: a statement that cannot be read.
    """
    configs = _configs(readme, where)
    defaults = [one.config_name for one in configs if one.default or one.config_name == "default" or len(configs) == 1]
    parts = Parts(default=defaults[0] if defaults else None)
    for config in configs:
        for split, name in _files_of(config, names):
            parts.add(Place(split, config.config_name), name)
    return parts if parts.files else None


def _configs(readme: str, where: object) -> list[_Config]:
    header = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", readme, re.DOTALL)
    if header is None or "configs" not in header[1]:
        return []
    try:
        return _Header(**yaml.safe_load(header[1])).configs
    except (yaml.YAMLError, ValidationError, TypeError, ValueError) as error:
        fix = "Give the folder or the files of one split."
        raise UserError(f"{README} does not state its configurations in a way that can be read", where=where, fix=fix) from error


def _files_of(config: _Config, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(split, path) of each file of a configuration."""
    folder = config.data_dir.removeprefix("./").strip("/")
    folder += "/" if folder else ""
    if config.data_files is None:
        told = by_names([name.removeprefix(folder) for name in names if name.startswith(folder)]).files
        splits = {place: place.split for place in told if place.split is not None} or dict.fromkeys(told, "train")
        yield from ((str(split), folder + name) for place, split in splits.items() for name in told[place])
        return
    stated = [config.data_files] if isinstance(config.data_files, str) else config.data_files
    for one in stated:
        split, patterns = ("train", one) if isinstance(one, str) else (one.split, one.path)
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            fits = _fitting(folder + pattern.removeprefix("./"))
            yield from ((split, name) for name in names if fits.match(name))


def _fitting(pattern: str) -> re.Pattern[Any]:
    from fsspec.utils import glob_translate

    return re.compile(glob_translate(pattern))
