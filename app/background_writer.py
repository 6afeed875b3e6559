"""The thread that writes what stores have gathered, for all tenants, beside the requests.

Knows only that a store has something to write; what, and what a loss would mean, is the store's business.
"""

from __future__ import annotations

import threading
from typing import Protocol

_RETRY_SECONDS = 5.0


class Gathering(Protocol):
    """A store that gathers in memory what it will write."""

    def write_waiting(self) -> bool:
        """Write what waits; false when it must be tried again."""
        ...


class BackgroundWriter:
    """One thread; ``batch_seconds``: how long it waits for more, so that one commit does for all."""

    def __init__(self, name: str, batch_seconds: float) -> None:
        self._batch_seconds = batch_seconds
        self._change = threading.Condition()
        self._waiting: dict[int, Gathering] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def wake(self, store: Gathering) -> None:
        """A store has something to write."""
        with self._change:
            self._waiting[id(store)] = store
            self._change.notify()

    def stop(self) -> None:
        """Stop; what waits is written when its workspace is closed."""
        with self._change:
            self._stopping = True
            self._change.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._stopping or self._waiting)
                self._change.wait_for(lambda: self._stopping, self._batch_seconds)
                if self._stopping:
                    return
                stores, self._waiting = list(self._waiting.values()), {}
            unwritten = [store for store in stores if not store.write_waiting()]
            if unwritten:
                with self._change:
                    self._waiting = {**{id(store): store for store in unwritten}, **self._waiting}
                    self._change.wait_for(lambda: self._stopping, _RETRY_SECONDS)
