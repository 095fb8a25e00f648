"""From what --captioner says to a captioner, and to the name under which its captions are kept."""

from __future__ import annotations

import re
from typing import Any

from tips_bench.corpus.captioners.base import Captioner, Pace
from tips_bench.errors import UserError, unknown_name
from tips_bench.registry import CAPTIONERS

WHERE = "--captioner"
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def captioner_identity(text: str) -> str:
    """The name of a captioner in the manifest and in the cache; nothing is loaded. Errors: as `build_captioner`."""
    kind, rest = _parts(text)
    return str(kind.identity(rest))


def uses_gpu(text: str) -> bool:
    """Whether it wants a GPU of the machine that asks it. Errors: as `build_captioner`."""
    return bool(_parts(text)[0].uses_gpu)


def build_captioner(text: str, pace: Pace) -> Captioner:
    """NAME:REST with a name of the registry, or a function of the user's as module:function.

    Errors: no such captioner, something missing behind its name, what the captioner itself finds wrong.
    """
    kind, rest = _parts(text)
    built: Captioner = kind(rest, pace)
    return built


def _parts(text: str) -> tuple[Any, str]:
    name, _, rest = text.partition(":")
    if name in CAPTIONERS.names():
        kind = CAPTIONERS.get(name)
        if bool(rest) != bool(kind.needs):
            form = f"{name}:{kind.needs}" if kind.needs else name
            raise UserError(f"{text!r} is not complete", where=WHERE, fix=f"Write {form}.")
        return kind, rest
    if _FUNCTION.fullmatch(text):
        from tips_bench.corpus.captioners.user import UserCaptioner

        return UserCaptioner, text
    raise unknown_name("captioner", name, CAPTIONERS.names(), where=WHERE, hint="A function of your own is module:function.")
