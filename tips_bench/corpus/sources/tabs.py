"""Rows of lists of links with tabs, whose captions may begin with a quote that means nothing.

Lists such as CC3M and CC12M quote no field: each line is a row. Other lists come from tools that quote, as `to_csv(sep="\\t")` of pandas
does with a field that has a quote, a tab or the end of a line. No list says which kind it is, so each line does, with those behind it.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence

AHEAD = 100  # lines; no quoted row is longer


def tab_rows(lines: Iterable[str]) -> Iterator[list[str]]:
    """The fields of each row; none of an empty line. lines: with their ends."""
    left = iter(lines)
    ahead = deque(itertools.islice(left, AHEAD))
    width = _width(ahead)
    while ahead:
        fields, used = _row(ahead, width)
        yield fields
        for _ in range(used):
            ahead.popleft()
        ahead.extend(itertools.islice(left, used))


def _width(lines: Iterable[str]) -> int:
    """Fields of a row: those of the first line, or, where it has a quote that is no pair, of most lines."""
    some = [line for line in lines if line.strip("\r\n")]
    if not some or '"' not in some[0]:
        return len(_plain(some[0])) if some else 0
    quoted, _ = _quoted(some[:1], 0)
    return len(quoted) or Counter(len(_plain(line)) for line in some).most_common(1)[0][0]


def _row(lines: Sequence[str], width: int) -> tuple[list[str], int]:
    """The fields of the row that begins with the first line, and how many lines it has."""
    line = lines[0]
    plain = _plain(line)
    if '"' in line:
        quoted, used = _quoted(lines, width)
        if len(quoted) == width and (used > 1 or not _is_row(line, width) or _by_a_tool(plain, quoted)):
            return quoted, used
    return plain if line.strip("\r\n") else [], 1


def _plain(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t")


def _is_row(line: str, width: int) -> bool:
    return line.count("\t") == width - 1 and "://" in line


def _quoted(lines: Iterable[str], width: int) -> tuple[list[str], int]:
    """The fields of the first row and how many lines it has, by the quotes; no fields where they are not those of a tool."""
    reader = csv.reader(_of_one_row(lines, width), delimiter="\t", strict=True)
    try:
        return next(reader), reader.line_num
    except csv.Error:
        return [], 0


def _of_one_row(lines: Iterable[str], width: int) -> Iterator[str]:
    """The lines that may be of the first row: a line that is one by itself is of another, or the last of one that began without a link."""
    alone = False
    for number, line in enumerate(lines):
        other = number > 0 and _is_row(line, width)
        if other and alone:
            return
        yield line
        if other:
            return
        alone = alone or _is_row(line, width)


def _by_a_tool(plain: list[str], quoted: list[str]) -> bool:
    """Whether the quotes around fields of a line are those of a tool: there are doubled ones, or all fields but numbers have some."""
    changed = [(before, after) for before, after in zip(plain, quoted, strict=True) if before != after]
    others = [before for before, after in zip(plain, quoted, strict=True) if before == after]
    return any('"' in after for _, after in changed) or all(re.fullmatch(r"[-+.eE\d]*", one) for one in others)
