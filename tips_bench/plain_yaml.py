"""YAML that is plain data: text, numbers, booleans, null, lists and mappings, each written out where it stands.

Cards come from anywhere, so nothing in them may build an object, grow without bound, or mean something else than it seems to: tags,
anchors and aliases (ten lines of them expand to gigabytes), a key given twice (YAML takes the last) and dates (`2020-01-01` unquoted)
are refused, each with its line. Numbers are those of JSON and of YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema),
finite and within 64 bits: `1e-4` is a number; `010` is ten, not eight; `1:30` and `1_000` are text.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import Any

import yaml

from tips_bench.errors import UserError

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_BASES = 32
MAX_PATH = 1000
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", re.IGNORECASE)
_TAG = "tag:yaml.org,2002:"
SCALARS = {_TAG + name for name in ("str", "int", "float", "bool", "null")}
_BROKEN = (yaml.YAMLError, ValueError, KeyError, RecursionError)  # KeyError: a tag `!!bool` before what is none
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _resolvers() -> dict[str | None, list[tuple[str, re.Pattern[str]]]]:
    """First character -> (tag, pattern) of the values that need no tag: PyYAML's, but for its numbers, which are those of YAML 1.1."""
    numbers = [(_TAG + "int", INTEGER), (_TAG + "float", FLOAT)]
    anchored = [(tag, re.compile(rf"(?:{pattern.pattern})\Z", pattern.flags)) for tag, pattern in numbers]
    others = {
        first: [(tag, pattern) for tag, pattern in found if tag not in dict(numbers)]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return others | {first: [*anchored, *others.get(first, [])] for first in "-+.0123456789"}


def _integer(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Loader(_LOADER):
    """PyYAML's loader of plain data, with the numbers of YAML 1.2."""

    yaml_implicit_resolvers = _resolvers()


class _Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader` would take for a number."""

    yaml_implicit_resolvers = _resolvers()


_Loader.add_constructor(_TAG + "int", lambda _, node: _integer(node.value))
_Loader.add_constructor(_TAG + "float", lambda _, node: _float(node.value))


def load(path: Path) -> dict[str, Any]:
    """The mapping that a file holds. Errors: no file, too large, not YAML, not plain, not a mapping."""
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):
            raise UserError("it is not a file", where=path)
        if status.st_size > MAX_BYTES:
            raise UserError(f"a card of over {MAX_BYTES} bytes", where=path, fix="Check that this is a card.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text: {error.reason} at byte {error.start}", where=path) from error
    try:
        data = _construct(text, lambda node: f"{path}:{node.start_mark.line + 1}")
    except _BROKEN as error:
        raise UserError(f"not plain YAML: {_reason(error)}", where=path) from error
    if not isinstance(data, dict):
        raise UserError(f"a card is a mapping of names to values, this is a {type(data).__name__}", where=path)
    return data


def _value(text: str, where: object) -> Any:
    """What a piece of text is as YAML. where: for messages. Errors: not YAML, not plain."""
    try:
        return _construct(text, lambda node: where)
    except _BROKEN as error:
        raise UserError(f"the value is not YAML: {_reason(error)}", where=where) from error


def dump(data: Any) -> str:
    """Plain data as YAML that `load` reads as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file with its bases merged in, as plain data.

    `_base_`: one file or a list of them, relative to this one, each with bases of its own. The file's own values win; a mapping is
    merged with the base's, key by key, unless it says `_delete_: true`; a list replaces the base's.
    Errors: no file, not plain YAML, not a mapping, a base that is no YAML file, bases that share a key, a mapping over what is none.
    """
    return _with_bases(path, above=(), read=[])


def _with_bases(path: Path, above: tuple[str, ...], read: list[Path]) -> dict[str, Any]:
    """above: the real paths of the files that this is a base of. read: all files so far."""
    real = os.path.realpath(path)
    if real in above:
        raise UserError("`_base_` refers back to the file itself", where=path, fix="Remove one of the `_base_` entries.")
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"a card is a .yaml file, not {path.suffix or 'a file without a suffix'}", where=path)
    read.append(path)
    if len(read) > MAX_BASES:
        raise UserError(f"the card has over {MAX_BASES} bases, counted with theirs", where=read[0], fix="Use fewer files.")
    data = load(path)
    bases = data.pop("_base_", [])
    inherited: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or "\0" in base or len(base) > MAX_PATH:
            raise UserError(
                f"_base_ = {repr(base)[:100]} is not a file name", where=path, fix="Give the path of a .yaml file, relative to this one."
            )
        found = _with_bases(path.parent / base, (*above, real), read)
        if shared := sorted(inherited.keys() & found.keys()):
            raise UserError(f"cannot be merged: two bases have the key {shared[0]!r}", where=path, fix="Give each key in one base only.")
        inherited |= found
    return _merge(data, inherited, path)


def _merge(data: dict[str, Any], base: dict[str, Any], path: Path) -> dict[str, Any]:
    """`data` over `base`, by the rules of mmengine's Config (0.10)."""
    merged = dict(base)
    for key, value in data.items():
        if isinstance(value, dict) and key in base and not value.pop("_delete_", False):
            if not isinstance(base[key], dict):
                problem = f"cannot be merged: {key!r} is a mapping here, but not in the base"
                raise UserError(problem, where=path, fix="Say `_delete_: true` in it to replace the base's.")
            value = _merge(value, base[key], path)
        merged[key] = value
    return merged


def override(data: dict[str, Any], assignments: list[str], *, where: object = "--set") -> dict[str, Any]:
    """A copy of `data` with each "a.b=value" applied; the value is read as YAML, a list item is named by its index.

    Errors: no "=", a step through something that is neither a mapping nor a list.
    """
    changed = json.loads(json.dumps(data))
    for assignment in assignments:
        shown = repr(assignment if len(assignment) <= 200 else f"{assignment[:200]}...")
        key, separator, text = assignment.partition("=")
        if not separator or not key:
            raise UserError(f"{shown} is not KEY=VALUE", where=where, fix="For example: --set image.short_side=448.")
        if key.count(".") > MAX_DEPTH:
            raise UserError(f"{shown}: the key is over {MAX_DEPTH} levels deep", where=where)
        value = _value(text, f"{where}: {shown}")
        *parents, last = key.split(".")
        node: Any = changed
        for part in parents:
            node = _step(node, part, shown, where)
        if isinstance(node, list):
            node[_index(node, last, shown, where)] = value
        elif isinstance(node, dict):
            node[last] = value
        else:
            raise UserError(f"{shown}: {'.'.join(parents)} is a single value and has no keys", where=where)
    return changed


def _step(node: Any, part: str, shown: str, where: object) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, shown, where)]
    if isinstance(node, dict):
        return node.setdefault(part, {})
    raise UserError(f"{shown}: {part!r} cannot be looked up in a single value", where=where)


def _index(node: list[Any], part: str, shown: str, where: object) -> int:
    if not part.isdecimal() or len(part) > 9 or int(part) >= len(node):
        raise UserError(f"{shown}: {part!r} is not an index below {len(node)}", where=where)
    return int(part)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _construct(text: str, place: Callable[[yaml.Node], object]) -> Any:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check(root, place, seen=set(), depth=0)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _check(node: yaml.Node, place: Callable[[yaml.Node], object], seen: set[int], depth: int) -> None:
    """Errors: the first thing that is not plain. seen: the nodes so far. place: where a node stands, for messages."""
    where = place(node)
    if id(node) in seen:
        raise UserError("an alias (*name) is not plain data", where=where, fix="Write the value out, or use `_base_`.")
    if depth > MAX_DEPTH:
        raise UserError(f"nested over {MAX_DEPTH} levels deep", where=where)
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        _check_keys(node, place)
        for _, inner in node.value:
            _check(inner, place, seen, depth + 1)
    elif isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        for inner in node.value:
            _check(inner, place, seen, depth + 1)
    elif isinstance(node, yaml.ScalarNode) and node.tag in SCALARS:
        _check_number(node, where)
    else:
        kind = node.tag.removeprefix(_TAG)
        raise UserError(f"a value of type {kind!r} is not plain data", where=where, fix="Remove its tag; quote a date.")


def _check_number(node: yaml.ScalarNode, where: object) -> None:
    text = node.value
    if node.tag == _TAG + "int" and INTEGER.fullmatch(text) and (len(text) > 24 or not -(2**63) <= _integer(text) < 2**63):
        raise UserError(f"the integer {text[:24]}{'...' if len(text) > 24 else ''} does not fit into 64 bits", where=where)
    if node.tag == _TAG + "float" and FLOAT.fullmatch(text) and not math.isfinite(_float(text)):
        raise UserError(f"{text[:24]} is not a finite number", where=where)


def _check_keys(node: yaml.MappingNode, place: Callable[[yaml.Node], object]) -> None:
    keys: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
            raise UserError("a key is not text", where=place(key), fix="Quote it.")
        if key.value in keys:
            raise UserError(f"the key {key.value!r} is given twice", where=place(key), fix="Keep one.")
        keys.add(key.value)
