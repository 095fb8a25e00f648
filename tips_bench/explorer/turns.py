"""Which of a page's questions is its latest: what was asked before it is no longer wanted, and stops before its next photo.

Whoever moves a slider asks for each place that it passes. Without this, the server would encode every photo for each of them in turn.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict

from tips_bench.explorer.session import Wanted, always

HEADER = "X-Turn"  # of a request: the page's own name and the number of the question, which grows
MOST_PAGES = 64  # whose latest question is known
_TURN = re.compile(r"([a-z0-9]{1,32})-(\d{1,12})")


class Superseded(Exception):
    """The page has asked for something else since."""


class Turns:
    """The latest question of each page; may be used from several threads."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def latest(self, page: str) -> int:
        """The number of the page's latest question, 0 for an unknown page."""
        return self._latest.get(page, 0)

    def begin(self, said: str | None) -> Wanted:
        """A question comes in. said: its header; None or another form = it is wanted whatever is asked meanwhile."""
        match = _TURN.fullmatch(said or "")
        if match is None:
            return always
        page, number = match[1], int(match[2])
        with self._lock:
            self._latest[page] = max(number, self._latest.pop(page, 0))
            while len(self._latest) > MOST_PAGES:
                self._latest.popitem(last=False)

        def wanted() -> None:
            if self.latest(page) > number:
                raise Superseded

        return wanted
