"""YAML that is plain data: text, numbers, booleans, null, lists and mappings, each written out where it stands.

Cards come from anywhere, so nothing in them may build an object, grow without bound, or mean something else than it seems to:
tags, anchors and aliases (ten lines of them expand to gigabytes), a key given twice (YAML takes the last), dates (`2020-01-01`
unquoted) and mmengine's substitutions (`{{ ... }}`) are refused, each with its line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tips_bench.errors import UserError

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}
# mmengine's own keys: a base to merge with, and a mapping that replaces the base's in place of merging
DIRECTIVES = ("_base_", "_delete_")


def load(path: Path) -> dict[str, Any]:
    """The mapping that a file holds. Errors: no file, too large, not YAML, not plain, not a mapping."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"a card of over {MAX_BYTES} bytes", where=path, fix="Check that this is a card.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text: {error.reason} at byte {error.start}", where=path) from error
    try:
        root = yaml.compose(text, LOADER)
        _check(root, path, seen=set(), depth=0)
        data = yaml.load(text, LOADER)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"not plain YAML: {' '.join(str(error).split())[:300]}", where=path) from error
    if not isinstance(data, dict):
        raise UserError(f"a card is a mapping of names to values, this is a {type(data).__name__}", where=path)
    return data


def _check(node: yaml.Node | None, path: Path, seen: set[int], depth: int) -> None:
    if node is None:
        return
    where = f"{path}:{node.start_mark.line + 1}"
    if id(node) in seen:
        raise UserError("an alias (*name) is not plain data", where=where, fix="Write the value out, or use `_base_`.")
    if depth > MAX_DEPTH:
        raise UserError(f"nested over {MAX_DEPTH} levels deep", where=where)
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        _check_keys(node, path)
        for _, value in node.value:
            _check(value, path, seen, depth + 1)
    elif isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        for item in node.value:
            _check(item, path, seen, depth + 1)
    elif isinstance(node, yaml.ScalarNode) and node.tag in SCALARS:
        if "{{" in node.value:
            raise UserError("'{{' would be substituted by mmengine", where=where, fix="Write the value out.")
    else:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        raise UserError(f"a value of type {kind!r} is not plain data", where=where, fix="Remove its tag; quote a date.")


def _check_keys(node: yaml.MappingNode, path: Path) -> None:
    keys: set[str] = set()
    for key, _ in node.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise UserError("a key is not text", where=where, fix="Quote it.")
        if key.value in keys:
            raise UserError(f"the key {key.value!r} is given twice", where=where, fix="Keep one.")
        if key.value.startswith("_") and key.value not in DIRECTIVES:
            raise UserError(f"the key {key.value!r} begins with an underscore", where=where, fix="Only `_base_` and `_delete_` do.")
        keys.add(key.value)
