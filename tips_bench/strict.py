"""Strict data: the base of cards and of their parts, and how plain data becomes one, with errors that a user can act on."""

from __future__ import annotations

import json
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from tips_bench.errors import UserError, unknown_name


class Strict(BaseModel):
    """A card, or a part of a card. Unknown keys are errors; values cannot be changed after reading.

    added: names of fields that are newer than records in use. At its default such a field is not dumped, so that the hash of a card that
    does not use it stays.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    added: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = handler(self)
        for name in self.added:
            if getattr(self, name) == type(self).model_fields[name].default:
                data.pop(name, None)
        return data


StrictT = TypeVar("StrictT", bound=Strict)


def parse(kind: type[StrictT], data: dict[str, Any], *, where: object, prefix: str = "") -> StrictT:
    """Check `data` against a card type. prefix: of its keys in the file, for messages.

    Errors: the first unknown key with near names, else the first wrong one with its value and what was expected.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        # the unknown key first: beside a misspelt key, the right one is missing, too
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        key = prefix + ".".join(map(str, first["loc"]))[:200]
        if first["type"] == "extra_forbidden":
            known = [prefix + name for name in _known_keys(kind, first["loc"])]
            raise unknown_name("key", key, known, where=where) from error
        if first["type"] == "missing":
            raise UserError(f"{key} is missing", where=where, fix="Add it to the card.") from error
        expected = first["msg"].removeprefix("Value error, ")
        expected = expected[0].lower() + expected[1:]
        # a whole part is not repeated: what is wrong with it says so itself
        value = "" if isinstance(first["input"], dict) else f" = {json.dumps(first['input'], default=str)[:120]}"
        raise UserError(": ".join(filter(None, [key + value, expected])), where=where) from error


def _known_keys(kind: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    prefix = []
    for part in location[:-1]:
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        kind = annotation
        prefix.append(part)
    return [".".join([*prefix, name]) for name in kind.model_fields]
