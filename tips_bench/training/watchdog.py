"""Ends a rank that waits for the others in vain, within minutes, and says which of them was not there.

Each rank tells in the store through which the ranks met how far it is, a few times within the limit and from a thread of its own. When a
step, a part of the start or the end of the run takes too long, those that fell silent are gone or frozen, and those that are behind hold up
the rest. That a rank ends at the limit does not depend on the store, whose machine may be the one that is gone.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Literal, NamedTuple, cast

from tips_bench.errors import UserError
from tips_bench.heartbeat import listed, own_store, within
from tips_bench.ranks import World

Doing = Literal["indexing", "starting", "reading", "computing", "ending"]
"""In the order in which a rank does them: the first two before the first step, the last one after the last."""
_TICKS = 12  # a limit has so many
_LONGEST_TICK_S = 20.0
_ANSWER_S = 30.0  # the store answers within this time, or not at all
_WORDS: dict[Doing, str] = {
    "indexing": "is reading the headers of shards, for indexes that are kept",
    "starting": "is still starting",
    "reading": "waits for its data",
    "computing": "is still computing",
    "ending": "is writing the last checkpoint",
}


class Place(NamedTuple):
    """Where a rank is. tick: counts up while its process lives. step: the one that it is at, from 1; 0 before the first."""

    tick: int
    step: int
    doing: Doing

    @classmethod
    def parse(cls, text: str) -> Place:
        tick, step, doing = text.split()
        return cls(int(tick), int(step), cast("Doing", doing))

    @property
    def progress(self) -> tuple[int, int]:
        """Of two places, the one with the larger progress comes later."""
        return self.step, list(_WORDS).index(self.doing)


class Watchdog:
    """Watches this rank from `start` to `close`; one rank alone waits for nobody and has nothing to watch."""

    def __init__(self, world: World, limit_s: float) -> None:
        self.world, self.limit_s = world, limit_s
        self._tick_s = min(limit_s / _TICKS, _LONGEST_TICK_S)
        self._place, self._since = Place(0, 0, "starting"), time.monotonic()
        self._closed = threading.Event()
        self.last_words: Callable[[str], None] | None = None
        """What gets the sentence with which the watchdog ends the process."""

    def start(self) -> None:
        """From now on what does not end in time ends the process."""
        if self.world.size > 1:
            self._since = time.monotonic()
            self._store = own_store()
            for work in (self._tell, self._judge):
                threading.Thread(target=work, name="watchdog", daemon=True).start()

    def at(self, step: int, doing: Doing) -> None:
        """This rank has come to a step, from 1, or to a part of the start, which is step 0. Each may take as long as the limit says."""
        self._place, self._since = Place(self._place.tick, step, doing), time.monotonic()

    def close(self) -> None:
        """Watches no longer."""
        self._closed.set()

    def missing(self) -> str:
        """Which ranks are not where this one is, as far as can be known; that takes two ticks."""
        before = within(_ANSWER_S, self._places)
        time.sleep(2.5 * self._tick_s)
        after = within(_ANSWER_S, self._places)
        if before is None or after is None:
            return "the store that the ranks share does not answer"
        return tell_missing(self._place, self.world.size, before, after)

    def _tell(self) -> None:
        """Says where this rank is, also while `_judge` looks at the others: they look at it, too."""
        for tick in count():
            with suppress(RuntimeError):  # what is to be done without the store is seen at the limit
                self._store.set(_key(self.world.rank), f"{tick} {self._place.step} {self._place.doing}")
            if self._closed.wait(self._tick_s):
                return

    def _judge(self) -> None:
        """In a thread apart from `_tell`, which may wait for the store."""
        while not self._closed.wait(self._tick_s):
            if time.monotonic() - self._since > self.limit_s:
                self._end()

    def _end(self) -> None:
        minutes = self.limit_s / 60
        parts: dict[Doing, str] = {"indexing": "a part of the start", "starting": "a part of the start", "ending": "the end of the run"}
        what = parts.get(self._place.doing, f"step {self._place.step}")
        problem = f"{what} did not end within {minutes:g} minutes on rank {self.world.rank}: {self.missing()}"
        fix = "Look at that machine; --resume goes on from the newest checkpoint, also with other ranks. A slow run needs a longer limit."
        if self._closed.is_set():
            return
        error = UserError(problem, where="running.timeout_minutes", fix=fix)
        print(f"tips-bench: {error}", file=sys.stderr, flush=True)
        if self.last_words is not None:  # in a thread: a disk may hang, too
            threading.Thread(target=self.last_words, args=(str(error),), name="last words", daemon=True).start()
        time.sleep(3 * self._tick_s)  # the others look for those that fell silent, and this one must not be among them
        os._exit(1)  # the main thread is in a collective, which nothing ends

    def _places(self) -> dict[int, Place]:
        """Of each rank that has told one."""
        keys = {rank: _key(rank) for rank in range(self.world.size)}
        return {rank: Place.parse(self._store.get(key).decode()) for rank, key in keys.items() if self._store.check([key])}


def tell_missing(own: Place, ranks: int, before: Mapping[int, Place], after: Mapping[int, Place]) -> str:
    """Which of the ranks hold up the one that is at `own`. before, after: what each has told, a few ticks apart."""
    silent = [rank for rank in range(ranks) if rank not in after or (rank in before and after[rank].tick == before[rank].tick)]
    if silent:
        return f"{listed(silent)} {'does' if len(silent) == 1 else 'do'} not answer any more"
    last = max(place.progress for place in [own, *after.values()])
    behind = {rank: place for rank, place in after.items() if place.progress < last}
    if not behind:
        return "all ranks answer, and all are at the same place"
    return "; ".join(
        f"rank {rank} {_WORDS[place.doing]}" + (f", at step {place.step}" if place.step else "") for rank, place in list(behind.items())[:8]
    )


def _key(rank: int) -> str:
    return f"tips-bench/rank/{rank}"
