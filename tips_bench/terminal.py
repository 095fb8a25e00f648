"""Text from files that others wrote, made safe to print: no line breaks, no terminal escapes. Whether a stream takes colors."""

from __future__ import annotations

import os
from typing import TextIO


def printable(text: str) -> str:
    """`text` with U+FFFD for every character that does not print (line breaks, terminal escapes)."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def one_line(text: str) -> str:
    """`text` on one line: every run of white space as one space, and U+FFFD for every other character that does not print."""
    return printable(" ".join(text.split()))


def in_color(stream: TextIO) -> bool:
    """Whether to print colors and bold: to a terminal, but never with $NO_COLOR, and always with $FORCE_COLOR.

    These are the variables of no-color.org and force-color.org. An empty variable counts as not set. If both are set, $NO_COLOR wins.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
