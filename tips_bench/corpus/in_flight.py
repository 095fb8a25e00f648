"""Calls of a function that waits more than it computes, several at a time, in threads that never keep the process from ending."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, cast

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def in_flight(function: Callable[[ItemT], ResultT], items: Iterable[ItemT], at_once: int) -> Iterator[ResultT]:
    """The results in the order in which the calls end; `at_once` calls are under way as long as there are items.

    An item is taken when a call can begin soon: no more than `at_once` of them wait. Errors: the first of a call or of `items`; calls that
    are under way then are left to themselves, and no new one begins.
    """
    waiting: queue.SimpleQueue[ItemT | None] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[ResultT | None, BaseException | None]] = queue.SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while (item := waiting.get()) is not None and not stopped.is_set():
            try:
                ended.put((function(item), None))
            except BaseException as error:
                ended.put((None, error))
                if not isinstance(error, Exception):
                    raise

    for _ in range(at_once):
        threading.Thread(target=work, daemon=True).start()
    under_way = 0
    try:
        for item in items:
            while under_way >= 2 * at_once:
                yield _result(*ended.get())
                under_way -= 1
            waiting.put(item)
            under_way += 1
        for _ in range(under_way):
            yield _result(*ended.get())
    finally:
        stopped.set()
        for _ in range(at_once):
            waiting.put(None)


def _result(result: ResultT | None, error: BaseException | None) -> ResultT:
    if error is not None:
        raise error
    return cast(ResultT, result)
