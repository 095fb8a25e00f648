"""Text from files that others wrote, made safe to print: no line breaks, no terminal escapes."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with U+FFFD for every character that does not print (line breaks, terminal escapes)."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def one_line(text: str) -> str:
    """`text` on one line: every run of white space as one space, and U+FFFD for every other character that does not print."""
    return printable(" ".join(text.split()))
