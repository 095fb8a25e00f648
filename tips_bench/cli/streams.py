"""Standard output and error as they come: of any encoding, full, or closed. What cannot be shown never costs a result."""

from __future__ import annotations

import codecs
import io
import os
import sys

from tips_bench.cli.output import print_error
from tips_bench.errors import UserError

# What a stream shows for characters that its encoding lacks; all others are shown as escapes.
STAND_INS = {
    "±": "+-", "–": "-", "—": "-", "…": "~", "→": ">", "↑": "^", "↓": "v", "×": "x", "≤": "<=", "≥": ">=", "\ufffd": "?",
    "─": "-", "━": "-", "│": "|", "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": "|", "▎": "|", "▏": "|",
}  # fmt: skip
HANDLER = "tips-bench"


class _Output(io.TextIOWrapper):
    """Standard output that says so when it takes no more. A reader that has gone stays a BrokenPipeError."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise self._full(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            return error
        drop_output()
        return UserError(f"cannot write to standard output: {error.strerror}", fix="What was finished is kept; show it again.")


def prepare() -> None:
    """Make both streams take every character; end with status 2 where no work should begin: output closed, broken arguments."""
    codecs.register_error(HANDLER, _stand_in)
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.FileIO(os.open(os.devnull, os.O_WRONLY), "w"))
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors=HANDLER)
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding, by_line = sys.stdout.encoding, sys.stdout.line_buffering
        sys.stdout = _Output(sys.stdout.detach(), encoding=encoding, errors=HANDLER, line_buffering=by_line)
    try:
        _check()
    except UserError as error:
        print_error(error)
        sys.exit(2)


def _check() -> None:
    if sys.stdout is None:
        raise UserError("standard output is closed", fix="Send it to a file, or to /dev/null.")
    for argument in sys.argv[1:]:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            problem = f"the argument {argument!a} is not UTF-8, and a record could not say it"
            raise UserError(problem, fix="Give the file or folder another name, or set the locale to UTF-8.")


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    shown = "".join(STAND_INS.get(one) or one.encode("ascii", "backslashreplace").decode() for one in text)
    return shown, error.end


def drop_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter's last flush does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
