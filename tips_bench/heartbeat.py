"""Heartbeats of the ranks of an evaluation: when one of them is killed or frozen, the others end with one sentence.

A thread of each rank says every few seconds, in the store through which the ranks met, that its process lives. So a rank may compute for
hours while others wait for it; a run ends only when one says nothing any more. torchrun ends the other ranks by SIGTERM as soon as one has
died, and before they go one of them says which it was.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from tips_bench.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store

T = TypeVar("T")
LIMIT_VARIABLE = "TIPS_BENCH_TIMEOUT_MINUTES"
LIMIT_MINUTES = 10.0
AGAIN = "The same command goes on where it stopped, also with another number of ranks."
_BEATS = 12  # a limit has so many
_LONGEST_BEAT_S = 20.0
_STORE_S = 5.0  # the store answers within this time, or not at all
_CONNECT_S = 60.0
_LEFT = "left"  # in place of a beat: of a rank that ended as it should


class RankLeft(UserError):
    """Another rank has ended, or does not answer any more."""


class Heartbeat:
    """The beats of this rank and those it hears, from `start` to `close`. attempt: what tells the keys from those of ranks before these."""

    def __init__(self, rank: int, size: int, limit_s: float, store: Store, attempt: str = "") -> None:
        self.rank, self.size, self.limit_s, self._store, self._attempt = rank, size, limit_s, store, attempt
        self.last_words: list[Callable[[str], None]] = []  # what gets the sentence of a process that ends without its main thread
        self._beat_s = min(limit_s / _BEATS, _LONGEST_BEAT_S)
        self._heard: dict[int, str] = {}
        self._missed = {other: 0 for other in range(size) if other != rank}  # beats of ours since the last of each
        self._unanswered = 0  # beats since the store has answered
        self._closed, self._speaking = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=work, name=work.__name__, daemon=True) for work in (self._beat, self._judge)]

    def start(self) -> None:
        """From now on the process ends when another rank does not answer any more, or at a SIGTERM."""
        self._tell(0)
        for thread in self._threads:
            thread.start()
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._listen()

    def close(self) -> None:
        """This rank ends as it should."""
        self._closed.set()
        for thread in self._threads:
            thread.join(self._beat_s)
        within(_STORE_S, lambda: self._store.set(self._key(self.rank), _LEFT))

    def speak(self, say: Callable[[], object]) -> None:
        """Call `say`, unless another rank has said already why the run ends."""
        with self._speaking:
            spoken = within(_STORE_S, lambda: self._store.add(self._key("spoken"), 1))
            if spoken in (1, None):
                say()

    def gone(self) -> list[int]:
        """The ranks on this machine whose process has died."""
        self._heard.update(within(_STORE_S, self._read) or {})
        here, found = socket.gethostname(), []
        for rank, told in self._heard.items():
            if told != _LEFT:
                _, host, process = told.split()
                if host == here and not _runs(int(process)):
                    found.append(rank)
        return sorted(found)

    def hear(self, told: dict[int, str]) -> None:
        """What others have told at a beat of ours. Beats are counted, not seconds: ranks that were suspended together are not gone."""
        for rank in self._missed:
            beats = told.get(rank, "") != self._heard.get(rank, "") or told.get(rank) == _LEFT
            self._missed[rank] = 0 if beats else self._missed[rank] + 1
        self._heard.update(told)
        self._unanswered = 0

    def silence(self) -> str | None:
        """Who has not answered within the limit, as a part of a sentence; None = all have."""
        beats, minutes = self.limit_s / self._beat_s, f"for {self.limit_s / 60:g} minutes"
        silent = [rank for rank, missed in self._missed.items() if missed > beats]
        if silent:
            return f"{listed(silent)} did not answer {minutes}"
        if self._unanswered > beats:
            host = "torchrun on the first machine" if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else "rank 0"
            return f"{host} did not answer {minutes}"  # it keeps the store
        return None

    def _key(self, name: object) -> str:
        return f"tips-bench/heartbeat/{self._attempt}/{name}"

    def _tell(self, count: int) -> None:
        self._store.set(self._key(self.rank), f"{count} {socket.gethostname()} {os.getpid()}")

    def _read(self) -> dict[int, str]:
        """What each of the others has told last."""
        keys = {rank: self._key(rank) for rank in self._missed}
        return {rank: self._store.get(key).decode() for rank, key in keys.items() if self._store.check([key])}

    def _beat(self) -> None:
        count = 0
        while not self._closed.wait(self._beat_s):
            count += 1
            with suppress(RuntimeError):  # `_judge` counts the beats that the store does not answer
                self._tell(count)
                self.hear(self._read())

    def _judge(self) -> None:
        """In a thread apart from `_beat`, which waits where the store does not answer."""
        while not self._closed.wait(self._beat_s):
            self._unanswered += 1
            problem = self.silence()
            if problem is not None:
                fix = f"Look at its machine. {AGAIN} A longer limit: {LIMIT_VARIABLE}."
                self._end(RankLeft(problem, where="torchrun", fix=fix))

    def _listen(self) -> None:
        """Have a thread end the process at a SIGTERM: the main thread may be in a collective, where it hears no signal."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=_die_of_signals)
        threading.Thread(target=self._end_at_signal, args=(reader,), name="signals", daemon=True).start()

    def _end_at_signal(self, reader: int) -> None:
        while signal.SIGTERM not in os.read(reader, 64):
            pass
        gone = self.gone()
        if gone:
            self._end(rank_left(gone))
        self.speak(lambda: print(f"tips-bench: stopped by SIGTERM. {AGAIN}", file=sys.stderr, flush=True))
        os._exit(128 + signal.SIGTERM)

    def _end(self, error: UserError) -> NoReturn:
        def say() -> None:
            print(f"tips-bench: {error}", file=sys.stderr, flush=True)
            for tell in self.last_words:
                tell(str(error))

        try:
            self.speak(say)
        finally:
            os._exit(2)


_running: Heartbeat | None = None  # of this process


def start(rank: int, size: int) -> None:
    """Begin the heartbeat of this process, after the ranks have met. Errors: a limit that is no number of minutes."""
    import torch.distributed as dist

    global _running
    limit_s = 60 * _limit_minutes()
    attempt = [secrets.token_hex(8)]  # torchrun's count of restarts is of one machine, and others may have come later
    dist.broadcast_object_list(attempt, src=0)
    _running = Heartbeat(rank, size, limit_s, own_store(), attempt[0])
    _running.start()


def own_store() -> Store:
    """A connection of its own to the store through which the ranks met: the one of torch is locked while a call in it waits."""
    import torch.distributed as dist

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=_CONNECT_S))
    store.set_timeout(timedelta(seconds=_STORE_S))
    return store


def close() -> None:
    """End the heartbeat, if there is one: this process ends as it should."""
    global _running
    if _running is not None:
        _running.close()
        _running = None


def speak(say: Callable[[], object]) -> None:
    """Call `say`, unless another rank has said already why the run ends."""
    if _running is None:
        say()
    else:
        _running.speak(say)


@contextmanager
def last_words(tell: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, `tell` gets the sentence of a process that ends without its main thread."""
    own = _running
    if own is None:
        yield
        return
    own.last_words.append(tell)
    try:
        yield
    finally:
        own.last_words.remove(tell)


@contextmanager
def meeting() -> Iterator[None]:
    """A collective. Errors: where there are heartbeats, RankLeft in place of what torch raises when a rank that takes part has ended."""
    try:
        yield
    except RuntimeError as error:
        if _running is None or not is_of_a_collective(error):
            raise
        raise rank_left(_running.gone()) from error


def is_of_a_collective(error: RuntimeError) -> bool:
    """Whether torch raises it when a rank that takes part in a collective has ended."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "ProcessGroup"))


def rank_left(gone: Iterable[int]) -> RankLeft:
    """The error of ranks that have died; none of them = it is not known which."""
    who = listed(list(gone)) or "another rank"
    fix = f"See what it said, and whether memory was short. {AGAIN}"
    return RankLeft(f"{who} ended before the evaluation did", where="torchrun", fix=fix)


def listed(ranks: list[int]) -> str:
    """ "ranks 1, 2"; of many, the first eight and how many more there are."""
    if not ranks:
        return ""
    return f"rank{'s' * (len(ranks) > 1)} " + ", ".join(map(str, ranks[:8])) + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")


def _limit_minutes() -> float:
    text = os.environ.get(LIMIT_VARIABLE, str(LIMIT_MINUTES))
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < 1e6:
        problem = f"{text[:50]!r} is not a number of minutes"
        raise UserError(problem, where=f"${LIMIT_VARIABLE}", fix=f"Write, for example, {LIMIT_MINUTES:g}.")
    return minutes


def within(seconds: float, ask: Callable[[], T]) -> T | None:
    """What the store answers; None where it gives no answer in time, for its process or its machine has ended or is frozen.

    The time limit of the store itself holds only for answers that it holds back, as for a key that is not there.
    """
    answers: list[T] = []

    def work() -> None:
        with suppress(RuntimeError):
            answers.append(ask())

    asking = threading.Thread(target=work, name="asking", daemon=True)
    asking.start()
    asking.join(seconds)
    return answers[0] if answers else None


def _runs(process: int) -> bool:
    """Whether a process of this machine lives; one that has died and that its parent has not asked about yet does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of another user
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return True  # a system without /proc


def _die_of_signals() -> None:
    """A process that this one forks, as one that decodes, is ended by signals like any other."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
