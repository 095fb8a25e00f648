"""Errors for the user: printed as one sentence, never as a traceback.

Every message says what is wrong and where (file and key), the value, why, and what to do:

    tasks/ade20k.yaml: protocol.layers = [4, 99]: encoder 'x' has 24 blocks. Use 0-23.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

LISTED = ("task", "protocol", "model", "prompt", "recipe")
# What the operating system says of a path, a disk or a machine, and no mistake of ours can cause.
SYSTEM = frozenset(
    getattr(errno, name)
    for name in ("ENAMETOOLONG", "ELOOP", "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "EIO", "ESTALE")
    if hasattr(errno, name)
)


class UserError(Exception):
    """An error that the user can fix. The CLI prints it on one line and exits with status 2.

    problem: what is wrong, with the offending value and the reason.
    where: the file, and the key inside it, if there is one.
    fix: what to do, as a sentence.
    """

    def __init__(self, problem: str, *, where: object = None, fix: str | None = None) -> None:
        self.problem = problem
        self.where = None if where is None else str(where)
        self.fix = fix
        sentence = problem if self.where is None else f"{self.where}: {problem}"
        if fix:
            sentence = f"{sentence.rstrip('.')}. {fix}"
        super().__init__(sentence)


class Unsuited(UserError):
    """The model lacks something that the protocol needs. An error if the user named the protocol; ignored for `--protocol all`."""


class NotAllowed(UserError):
    """The task does not allow the protocol. Not an error if several were named and another task allows it."""


class CodeFailed(UserError):
    """Code that the user named raised an error. Of a list of evaluations, those without that code still run."""


def unknown_name(kind: str, name: str, known: Iterable[str], *, where: object = None, hint: str = "") -> UserError:
    """The error for a name that is not known, with the nearest known ones, whatever the case of their letters.

    kind: what was looked for, in the singular ("task", "model", "class"). hint: a further sentence on what to do.
    """
    known = sorted(set(known))
    matches = difflib.get_close_matches(name.lower(), dict.fromkeys(one.lower() for one in known), n=3, cutoff=0.5)
    near = [one for match in matches for one in known if one.lower() == match]
    if near:
        fix = f"Did you mean {' or '.join(repr(n) for n in near)}?"
    elif kind in LISTED and len(known) > 12:
        fix = f"See `tips-bench list {kind}s`."
    else:
        fix = f"Known: {', '.join(known) or 'none'}."
    return UserError(f"there is no {kind} named {_shortened(name)!r}", where=where, fix=f"{fix} {hint}".rstrip())


def system_fault(error: OSError) -> UserError | None:
    """What the operating system refused, as an error for the user; None for what may be a mistake of ours."""
    if error.errno not in SYSTEM:
        return None
    where = None if error.filename is None else _shortened(str(error.filename))
    return UserError(f"the system refuses it: {error.strerror}", where=where, fix="Check the path, its permissions and the disk.")


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:200]}...{text[-80:]}"
