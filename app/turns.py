"""Whose question is worked on next: tenants in turn, and only so many at once.

Beyond what the engine's own line does this holds for all of a question, its search as well: where each stage serves in
turn by itself, a tenant with many questions always has one at the stage that is idle, and so takes more than its share.
Knows share keys; knows no request, no corpus and no engine. For one thread, the event loop's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType

from adapters import FairQueue, may_wait


class Turn:
    """Held while something is worked on; a context manager."""

    def __init__(self, turns: Turns, share_key: str) -> None:
        self._turns: Turns | None = turns
        self._share_key = share_key

    def end(self) -> None:
        """Let the next one begin. Idempotent."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns._end(self._share_key)

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.end()


class Turns:
    """First come, first served within a share key; round-robin between share keys.

    Args:
        at_once: how many may be worked on; of one key as many as are free yet (`adapters.fair_queue.may_wait`), so that
            what takes one key's questions long leaves room for the others'.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._begun: Counter[str] = Counter()
        self._waiting: FairQueue[tuple[str, asyncio.Future[None]]] = FairQueue()

    async def begin(self, share_key: str) -> Turn:
        """Wait for a turn. Whoever gives up waiting leaves the line at once."""
        waiting = (share_key, asyncio.get_running_loop().create_future())
        self._waiting.put(share_key, waiting)
        self._let_begin()
        try:
            await waiting[1]
        except asyncio.CancelledError:
            if not self._waiting.discard(share_key, waiting):  # it had just been let begin
                self._end(share_key)
            raise
        return Turn(self, share_key)

    def _let_begin(self) -> None:
        passed_over = 0
        while self._begun.total() < self._at_once and passed_over < self._waiting.keys:
            waiting = self._waiting.front()
            if waiting is None:
                return
            key, future = waiting
            begins = may_wait(self._begun[key], self._begun.total(), self._at_once)
            self._waiting.end_turn(remove=begins)
            passed_over = 0 if begins else passed_over + 1
            if begins:
                self._begun[key] += 1
                if not future.done():
                    future.set_result(None)

    def _end(self, share_key: str) -> None:
        self._begun[share_key] -= 1
        if not self._begun[share_key]:
            del self._begun[share_key]
        self._let_begin()
