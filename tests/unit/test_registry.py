"""The lazy registries, and that what they point at is there."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections import OrderedDict

import pytest

from tips_bench import registry
from tips_bench.errors import UserError
from tips_bench.registry import Registry

ALL = [registry.ENCODERS, registry.READERS, registry.PROBES, registry.PIXEL_PROBES, registry.METRICS]
TARGETS = [(r, name) for r in ALL for name in r.names()]


@pytest.fixture
def things() -> Registry:
    return Registry("thing", {"decoder": "json:JSONDecoder", "absent": "no_such_module_here:x"})


def test_names_are_listed_without_importing_anything(things: Registry) -> None:
    assert things.names() == ["absent", "decoder"]
    assert "no_such_module_here" not in sys.modules


def test_an_entry_is_imported_when_it_is_asked_for(things: Registry) -> None:
    assert things.get("decoder") is json.JSONDecoder
    assert things.get("decoder") is json.JSONDecoder


def test_an_object_can_be_added_and_is_found(things: Registry) -> None:
    things.add("ordered", OrderedDict)
    assert things.get("ordered") is OrderedDict and "ordered" in things.names()


def test_a_string_can_be_added_and_stays_lazy(things: Registry) -> None:
    things.add("encoder", "json:JSONEncoder")
    assert things.get("encoder") is json.JSONEncoder


@pytest.mark.parametrize("used", [False, True])
def test_a_second_entry_of_a_name_is_an_error(things: Registry, used: bool) -> None:
    if used:
        things.get("decoder")
    with pytest.raises(UserError, match="there is a thing named 'decoder' already"):
        things.add("decoder", OrderedDict)


def test_an_unknown_name_suggests_near_ones(things: Registry) -> None:
    with pytest.raises(UserError, match=r"there is no thing named 'decodr'\. Did you mean 'decoder'\?"):
        things.get("decodr")


@pytest.mark.parametrize(("kind", "name"), TARGETS, ids=[f"{r.kind}-{name}" for r, name in TARGETS])
def test_every_shipped_target_exists(kind: Registry, name: str) -> None:
    module, _, attribute = kind._entries[name].partition(":")
    assert importlib.util.find_spec(module) is not None, module
    assert callable(getattr(importlib.import_module(module), attribute))


@pytest.mark.parametrize("name", registry.FAMILIES.names())
def test_every_part_of_a_family_is_there(name: str) -> None:
    family = registry.FAMILIES.get(name)
    assert isinstance(family.counts_class().specs, dict | property) and callable(family.check_of())
    assert all(hasattr(family.adapter_class(), part) for part in ("open", "score", "draw"))
