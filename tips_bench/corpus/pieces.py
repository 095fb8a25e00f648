"""A step as pieces: calls of functions with plain data, each of which leaves a file when it has ended.

A step that is stopped at any moment goes on where it stopped: pieces whose file is there are not done again. The target folder belongs to
one step with one set of settings; another one is refused there. Pieces do not depend on each other, so any executor may do them, and
several commands with one target share them. Beside the files of pieces lies a folder .pieces until all are done:

    .pieces/FILE.running    locked by the process that does the piece
    .pieces/FILE.failed     the sentence with which its last try ended
    .pieces/logs/           what the processes said
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tips_bench.claims import claimed, is_claimed, waited_for
from tips_bench.corpus.storage import read_if_there
from tips_bench.corpus.store import BEGUN, MANIFEST
from tips_bench.corpus.target import Target
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen
from tips_bench.executors.jobs import Job, Settings, new_job
from tips_bench.executors.local import jobs_at_once
from tips_bench.files import digest, write_text
from tips_bench.progress import Advance, bar
from tips_bench.registry import EXECUTORS, load_target

LOOK_AGAIN_S = 0.5
MOST_JOBS = 1000  # Slurm's MaxArraySize is 1001 unless somebody raised it
ROUNDS = 4  # jobs of each local process, so that none waits long for the last


@dataclass(frozen=True)
class Piece:
    """function: "package.module:name", called with `arguments`, which are plain data. done: the file that the call writes last, whole.

    device: the one that the call uses; None = any GPU that is free.
    """

    function: str
    arguments: dict[str, Any]
    done: Path
    device: str | None = "cpu"

    @property
    def running(self) -> Path:
        """The file that is locked while a process does the piece."""
        return self.done.parent / ".pieces" / f"{self.done.name}.running"

    @property
    def failed(self) -> Path:
        """The file with the sentence of a try that failed."""
        return self.running.with_suffix(".failed")


def begin(target: Target, step: str, settings: dict[str, Any]) -> bool:
    """Take a folder for a step, or take up what has begun there. settings: all that decides the result, the source's hashes too.

    True where it is whole already. Errors: the folder has other files, or belongs to another step or other settings.
    """
    own, folder = digest(step, json.dumps(settings, sort_keys=True)), target.folder
    text = json.dumps({"identity": own, "step": step, "settings": settings}, indent=1) + "\n"
    begun = read_if_there(folder / BEGUN)
    if begun is None and target.destination is not None:
        begun = target.begin(text)
    if begun is not None:
        if json.loads(begun).get("identity") != own:
            fix = "Give another folder with --to, or the settings as they were."
            raise UserError(f"it holds a corpus that was made in another way than this `{step}`", where=folder, fix=fix)
        return read_if_there(folder / MANIFEST) is not None
    if folder.is_dir() and any(BEGUN not in path.name for path in folder.iterdir()):  # those are another command's, just now or killed
        raise UserError("the folder is not empty, and no step began here", where=folder, fix="Give an empty folder, or a new one.")
    write_text(folder / BEGUN, text, durable=True)
    return False


def complete(target: Target, work: Callable[[], None], done: str = MANIFEST) -> None:
    """Have `work` write the manifest when all pieces are done: in one of the commands with this target, while the others wait for it.

    done: another file of the target, for a stage before; it need not be there any more when the manifest is.
    """
    with waited_for(target.work / BEGUN):
        if not ((target.work / done).is_file() or (target.work / MANIFEST).is_file()):
            work()


def run_pieces(pieces: Sequence[Piece], title: str, chosen: Chosen | None = None, whole: Path | None = None) -> None:
    """Do those that are not done yet, with a bar, and return when all are done. chosen: the executor; None = in this process.

    A piece that another process does now is waited for, and done here if that process ends without its file. whole: a file that is there
    when another command has done all of it; files of pieces may be gone then.
    Errors: the sentence of the first piece that failed (an executor has tried the others by then); settings that the executor refuses.
    """
    left = _left(pieces)
    for piece in left:
        piece.failed.unlink(missing_ok=True)
    with bar(title, len(pieces), "pieces") as advance:
        advance(len(pieces) - len(left))
        while left and not (whole and whole.is_file()):
            free = [piece for piece in left if not is_claimed(piece.running)]
            if free:
                _do(free, chosen, advance, str(whole.absolute()) if whole else "")
            else:
                time.sleep(LOOK_AGAIN_S)
            left = _left(left)
            _raise_failure(left)
    for folder in {piece.running.parent for piece in pieces}:
        shutil.rmtree(folder, ignore_errors=True)


def do_piece(function: str, arguments: dict[str, Any], done: str, whole: str = "") -> None:
    """Do a piece, unless it is done or another process does it; a sentence for the user is left in a file. Errors: a bug.

    whole: as for `run_pieces`, "" for None. It is looked for last: it comes before files of pieces go.
    """
    piece = Piece(function, arguments, Path(done))
    with claimed(piece.running) as ours:
        if not ours or piece.done.is_file() or (whole and Path(whole).is_file()):
            return
        try:
            load_target(function)(**arguments)
        except UserError as error:
            _say_failed(piece, error)
            return
    if not (piece.done.is_file() or (whole and Path(whole).is_file())):  # another command may have ended the step, and removed its files
        raise RuntimeError(f"{function} has not written {done}")


def do_pieces(pieces: Sequence[dict[str, Any]]) -> None:
    """A job: pieces one after another, each as `do_piece`. Errors: the folder of the command is not on this machine."""
    for piece in pieces:
        folder = Path(piece["done"]).parent
        if not folder.is_dir() and not (piece["whole"] and Path(piece["whole"]).is_file()):
            raise RuntimeError(f"{folder} is not on {platform.node()}; all machines have to share the folder of --to, or of --work")
        do_piece(**piece)


def _do(pieces: Sequence[Piece], chosen: Chosen | None, advance: Advance, whole: str) -> None:
    if chosen is None:
        for piece in pieces:
            do_piece(piece.function, piece.arguments, str(piece.done), whole)
            _raise_failure([piece])
            advance()
        return

    def ended(job: Job, problem: str) -> None:
        own = [Piece(one["function"], one["arguments"], Path(one["done"])) for one in job["arguments"]["pieces"]]
        advance(len(own))
        unfinished = [piece for piece in _left(own) if not piece.failed.is_file()]
        if problem and unfinished:
            _say_failed(unfinished[0], UserError(problem, where=unfinished[0].done, fix="Give the command again."))

    run = EXECUTORS.get(chosen.name)
    logs = pieces[0].running.parent / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    if not run(_as_jobs(pieces, chosen, whole), Settings(logs, ended, chosen.values, chosen.at_once, alone=True)):
        raise UserError("the pieces are queued, and not done yet", where=f"--on {chosen.name}", fix="Give the command again when they are.")


def _as_jobs(pieces: Sequence[Piece], chosen: Chosen, whole: str = "") -> list[Job]:
    """Several pieces a job where there are many: a process takes seconds to start, and Slurm's arrays have an end."""
    device = pieces[0].device
    most = ROUNDS * jobs_at_once(device, chosen.at_once) if chosen.name == "local" else MOST_JOBS
    plain = [{"function": one.function, "arguments": one.arguments, "done": str(one.done.absolute()), "whole": whole} for one in pieces]
    return [new_job("tips_bench.corpus.pieces:do_pieces", {"pieces": plain[first::most]}, device) for first in range(min(most, len(plain)))]


def _left(pieces: Sequence[Piece]) -> list[Piece]:
    return [piece for piece in pieces if not piece.done.is_file()]


def _say_failed(piece: Piece, error: UserError) -> None:
    write_text(piece.failed, json.dumps({"problem": error.problem, "where": error.where, "fix": error.fix}))


def _raise_failure(pieces: Sequence[Piece]) -> None:
    for piece in pieces:
        if piece.failed.is_file():
            said = json.loads(piece.failed.read_text(encoding="utf-8"))
            raise UserError(said["problem"], where=said["where"], fix=said["fix"])
