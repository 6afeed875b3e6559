"""Places for what is under way at once, of all tenants together, and each tenant's fair share of them.

A place is taken before anything is done and held to the end, so that what waits, wherever it waits, is bounded. Knows
who holds how many, and how fast places come free; knows no request and no HTTP. For one thread, the event loop's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adapters import may_wait
from adapters.errors import QueueFull

_LONGEST_RETRY = 60.0
_NEWEST = 0.1  # what the last interval weighs in the mean of them


class Places:
    """A bounded number of places, shared as `adapters.fair_queue.may_wait` says.

    Args:
        bound: how many there are.
        what: what holds them, in the plural, for messages.
        clock: monotonic seconds.
    """

    def __init__(self, bound: int, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._bound = bound
        self._what = what
        self._clock = clock
        self._held: Counter[str] = Counter()
        self._freed_at = 0.0  # the last one, or the first one taken since none was held
        self._interval: float | None = None  # between two that come free while some are held
        self._promised: dict[str, float] = {}  # until when each key's places to come were told of to somebody

    def held(self, share_key: str) -> int:
        """How many a share key holds now."""
        return self._held[share_key]

    @contextmanager
    def take(self, share_key: str) -> Iterator[None]:
        """Hold a place.

        Raises:
            QueueFull: there is none for this share key. Its ``retry_seconds`` is when there will be one, as places come
                free of late and keys take turns, and when those who were refused before have come again. So not all of
                them come at once.
        """
        held, taken = self._held[share_key], self._held.total()
        if not may_wait(held, taken, self._bound):
            seconds = self._promise(share_key)
            raise QueueFull(
                f"{held} {self._what} of yours are under way, and there is room for no more of them now. Send this "
                f"again in about {seconds:.0f} s.",
                seconds,
            )
        if not taken:
            self._freed_at = self._clock()
        self._held[share_key] += 1
        try:
            yield
        finally:
            self._free(share_key)

    def _free(self, share_key: str) -> None:
        self._held[share_key] -= 1
        if not self._held[share_key]:
            del self._held[share_key]
            self._promised.pop(share_key, None)  # there is room
        now = self._clock()
        interval, self._freed_at = now - self._freed_at, now
        known = interval if self._interval is None else self._interval
        self._interval = known + _NEWEST * (interval - known)

    def _promise(self, share_key: str) -> float:
        """In how many seconds to come again: a turn of the key later than was told to whoever was refused before."""
        now = self._clock()
        turn = len(self._held) * (self._interval or 0.0)
        at = min(max(now, self._promised.get(share_key, now)) + turn, now + _LONGEST_RETRY)
        self._promised[share_key] = at
        return max(1.0, at - now)
