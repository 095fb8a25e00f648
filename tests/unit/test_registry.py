"""The lazy registries, and that what they point at is there."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections import OrderedDict

import pytest
from mmengine.registry import Registry

from tips_bench import registry
from tips_bench.errors import UserError
from tips_bench.registry import LazyRegistry

ALL = [registry.ENCODERS, registry.READERS, registry.PROBES, registry.METRICS, registry.ADAPTERS]
TARGETS = [(r, name) for r in ALL for name in r.names()]


@pytest.fixture
def things() -> LazyRegistry:
    return LazyRegistry("thing", {"decoder": "json:JSONDecoder", "absent": "no_such_module_here:x"})


def test_names_are_listed_without_importing_anything(things: LazyRegistry) -> None:
    assert things.names() == ["absent", "decoder"]
    assert "no_such_module_here" not in sys.modules


def test_an_entry_is_imported_when_it_is_asked_for(things: LazyRegistry) -> None:
    assert things.get("decoder") is json.JSONDecoder
    assert things.get("decoder") is json.JSONDecoder


def test_an_object_can_be_added_and_is_found(things: LazyRegistry) -> None:
    things.add("ordered", OrderedDict)
    assert things.get("ordered") is OrderedDict and "ordered" in things.names()


def test_a_string_can_be_added_and_stays_lazy(things: LazyRegistry) -> None:
    things.add("encoder", "json:JSONEncoder")
    assert things.get("encoder") is json.JSONEncoder


@pytest.mark.parametrize("used", [False, True])
def test_a_second_entry_of_a_name_is_an_error(things: LazyRegistry, used: bool) -> None:
    if used:
        things.get("decoder")
    with pytest.raises(UserError, match="thing 'decoder' is registered already"):
        things.add("decoder", OrderedDict)


def test_an_unknown_name_suggests_near_ones(things: LazyRegistry) -> None:
    with pytest.raises(UserError, match=r"there is no thing named 'decodr'\. Did you mean 'decoder'\?"):
        things.get("decodr")


def test_it_builds_as_any_registry_of_mmengine_does(things: LazyRegistry) -> None:
    assert isinstance(things, Registry)
    things.add("ordered", OrderedDict)
    assert things.build({"type": "ordered", "a": 1}) == OrderedDict(a=1)


@pytest.mark.parametrize(("kind", "name"), TARGETS, ids=[f"{r.name}-{name}" for r, name in TARGETS])
def test_every_shipped_target_exists(kind: LazyRegistry, name: str) -> None:
    module, _, attribute = kind._targets[name].partition(":")
    assert importlib.util.find_spec(module) is not None, module
    assert callable(getattr(importlib.import_module(module), attribute))
