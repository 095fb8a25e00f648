"""The fitted head of a run, kept by `run --keep-head` in a file beside the record.

results/nyu-depth/tips-b14/linear-dinov2-01234567.head.npz      the head's arrays by name; numpy reads them without pickles

What the arrays mean is in the record: the protocol's probe, layers and image size, the task's classes. The record has the file's hash.
"""

from __future__ import annotations

from pathlib import Path

from tips_bench.errors import UserError
from tips_bench.files import sha256
from tips_bench.results.record import Record
from tips_bench.results.reproduce import command


def head_file(record: Path) -> Path:
    """Where the head of the record in a file lies."""
    return record.with_suffix(".head.npz")


def has_head(record: Record) -> bool:
    """Whether the record's head was kept and still is there."""
    return record.head_sha256 is not None and head_file(record.file).is_file()


def kept_head(record: Record) -> Path:
    """The file of the record's head. Errors: none was kept, with the command that makes it; one that is missing or of another run."""
    again = f"Make it: {command(record)} --keep-head"
    if record.head_sha256 is None:
        raise UserError("no fitted head was kept of this record", where=record.file, fix=again)
    path = head_file(record.file)
    if not path.is_file():
        raise UserError("the fitted head of the record is missing", where=path, fix=again)
    if sha256(path) != record.head_sha256:
        raise UserError("not the head that the record was made with: its hash differs", where=path, fix=again)
    return path
