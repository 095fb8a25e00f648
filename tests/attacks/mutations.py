"""Broken and hostile forms of real files, each with a name, the same on every machine: of bytes, of text, of plain data."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
# What stands in place of a value: name -> value. All can be written as JSON and as YAML.
HOSTILE: dict[str, Any] = {
    "null": None,
    "true": True,
    "an empty text": "",
    "a number as text": "1:30",
    "a text of digits": "9" * 5000,
    "a terminal escape": ESCAPE,
    "a NUL": "a\0b",
    "half a character": "\ud83d",
    "a right-to-left mark": "abc\u202egpj.exe",
    "a long text": "x" * 70_000,
    "a path upwards": "../../../../outside",
    "an absolute path": "/tmp/attack-outside/x",
    "a device": "/dev/zero",
    "a template": "{{ 7 * 7 }}${HOME}$(id)`id`",
    "markup": "<script>alert(1)</script>",
    "minus one": -1,
    "zero": 0,
    "a half": 0.5,
    "2**31": 2**31,
    "2**63 - 1": 2**63 - 1,
    "2**64": 2**64,
    "10**400": 10**400,
    "1e308": 1e308,
    "-1e308": -1e308,
    "1e-320": 1e-320,
    "an empty list": [],
    "a list of lists": [[1], [2]],
    "ten thousand numbers": list(range(10_000)),
    "an empty mapping": {},
    "a mapping": {"a": {"b": 1}},
    "deep nesting": json.loads("[" * 200 + "]" * 200),
}


def bytes_mutated(data: bytes, number: int, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """`number` broken forms of a file, small changes and large ones by turns."""
    yield "empty", b""
    for index in range(number - 1):
        at, other = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        head = rng.randrange(min(len(data), 256))
        match index % 10:
            case 0:
                yield f"{index} cut at {at}", data[:at]
            case 1:
                yield f"{index} a bit flipped at {head}", _flipped(data, head, rng)
            case 2:
                yield f"{index} a bit flipped at {at}", _flipped(data, min(at, len(data) - 1), rng)
            case 3:
                yield f"{index} zeros from {at} to {other}", data[:at] + bytes(other - at) + data[other:]
            case 4:
                yield f"{index} without {at} to {other}", data[:at] + data[other:]
            case 5:
                yield f"{index} noise put in at {at}", data[:at] + rng.randbytes(rng.randrange(1, 64)) + data[at:]
            case 6:
                yield f"{index} eight high bytes at {head}", data[:head] + b"\xff" * 8 + data[head + 8 :]
            case 7:
                yield f"{index} the end of {at} twice", data + data[at:]
            case 8:
                yield f"{index} a text byte for another at {head}", data[:head] + rng.choice(b'9-"{}[]:,\n').to_bytes() + data[head + 1 :]
            case _:
                yield f"{index} noise over {head} and on", data[:head] + rng.randbytes(32) + data[head + 32 :]


def _flipped(data: bytes, at: int, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def data_mutated(data: Any, number: int, rng: random.Random) -> Iterator[tuple[str, Any]]:
    """`number` forms of plain data in each of which one value is hostile, missing, or beside one that is not known."""
    places = list(_places(data, ()))
    for index in range(number):
        place = rng.choice(places)
        shown = ".".join(map(str, place))
        changed = copy.deepcopy(data)
        node = changed
        for part in place[:-1]:
            node = node[part]
        if index % 12 == 0:
            del node[place[-1]]
            yield f"{index} {shown} missing", changed
        elif index % 12 == 1 and isinstance(node, dict):
            node[f"{place[-1]}_"] = node.pop(place[-1])
            yield f"{index} {shown} misspelt", changed
        else:
            name = rng.choice(list(HOSTILE))
            node[place[-1]] = copy.deepcopy(HOSTILE[name])
            yield f"{index} {shown} is {name}", changed


def _places(data: Any, above: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from _places(value, (*above, key))
