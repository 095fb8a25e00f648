"""Plain data, as JSON and YAML have it: flattened to dotted keys, with null for NaN, and how deep it is nested."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any


def leaves(data: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("probe.iterations", 40000) for every value in nested mappings and in lists of mappings ("stages.0.steps"), in their order.

    An empty mapping is a value, and so is a list that holds no mapping.
    """
    if isinstance(data, dict) and data:
        items = list(data.items())
    elif isinstance(data, list) and any(isinstance(item, dict) for item in data):
        items = list(enumerate(data))
    else:
        yield prefix, data
        return
    for key, value in items:
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))


def null_for_nan(data: Any) -> Any:
    """The same data with None for every NaN, which JSON does not have."""
    if isinstance(data, dict):
        return {key: null_for_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [null_for_nan(value) for value in data]
    return None if isinstance(data, float) and math.isnan(data) else data


def deepest(data: Any) -> int:
    """How many lists and mappings stand in one another at the deepest place; 0 for a single value."""
    level, depth = [data], 0
    while nested := [item for item in level if isinstance(item, dict | list)]:
        level = [value for item in nested for value in (item.values() if isinstance(item, dict) else item)]
        depth += 1
    return depth
