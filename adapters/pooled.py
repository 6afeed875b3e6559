"""What engines with a pool of adapters share: the pool behind the seam's calls, and rows that wait for their adapters.

Only a row whose adapter is in memory stands in the line of those that wait for the model, so that none waits for memory
which those behind it hold. Knows rows, the pool and the line; knows no model and no batch.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from adapters.engine import AdapterMemory, AdapterRef, Failed
from adapters.errors import ModelUnavailable, QueueFull
from adapters.fair_queue import FairQueue, may_wait
from adapters.pool import AdapterPool, Lease, R
from adapters.under_way import UnderWay
from adapters.version_files import refuse_damaged

_log = logging.getLogger(__name__)
CLOSING = "The engine is shutting down; ask again."


@dataclass(eq=False, kw_only=True)
class PooledRow(UnderWay, Generic[R]):
    """A row under way on an adapter of a pool.

    Attributes:
        forget: called when it is cancelled.
        lease: its hold on an adapter, once that is in memory.
    """

    forget: Callable[[Any], None]
    lease: Lease[R] | None = None

    def cancel(self) -> None:
        super().cancel()
        self.forget(self)

    @property
    def adapter(self) -> R | None:
        return self.lease.adapter if self.lease else None


W = TypeVar("W", bound=PooledRow[Any])


class PooledEngine(ABC, Generic[R, W]):
    """The part of an `adapters.engine.Engine` that is about adapters in memory.

    Args:
        adapter_budget_bytes: memory for resident adapters.
        max_waiting: rows that may wait; more are refused with QueueFull, those of a greedy share key first
            (`adapters.fair_queue.may_wait`).
    """

    def __init__(self, adapter_budget_bytes: int, max_waiting: int) -> None:
        self._pool: AdapterPool[R] = AdapterPool(
            self._load_registered, self._bytes_of, adapter_budget_bytes, self._let_go
        )
        self._max_waiting = max_waiting
        self._change = threading.Condition()
        self._queue: FairQueue[W] = FairQueue()
        self._loading: set[W] = set()  # whose adapter is not in memory yet
        self._closing = False
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        return self._failure

    @abstractmethod
    def _loaded(self) -> Any:
        """What `Engine.load` made. Raises ModelUnavailable before."""

    @abstractmethod
    def _load_adapter(self, ref: AdapterRef) -> R:
        """Bring an adapter into memory, checking its hash. Raises InvalidAdapter. In the pool's thread."""

    def _load_registered(self, ref: AdapterRef) -> R:
        """Bring an adapter into memory. Raises AdapterFilesDamaged where its files are not what was registered."""
        refuse_damaged(ref, weights=False)  # whoever reads the weights hashes them
        try:
            return self._load_adapter(ref)
        except Exception:
            refuse_damaged(ref)
            raise

    @abstractmethod
    def _bytes_of(self, ref: AdapterRef) -> int:
        """Memory that it will take, without reading it."""

    def _let_go(self, adapter: R) -> None:
        """An adapter is no longer resident. Must not block."""

    @abstractmethod
    def _release(self, row: W) -> None:
        """Give back what a row holds. Idempotent."""

    def prepare(self, adapter: AdapterRef) -> None:
        self._loaded()
        self._pool.prepare(adapter)

    def prefetch(self, adapter: AdapterRef, share_key: str = "") -> None:
        try:
            self._loaded()
        except ModelUnavailable:
            return
        self._pool.prefetch(adapter, share_key)

    def pin(self, adapter: AdapterRef) -> None:
        self._loaded()
        refuse_damaged(adapter)
        self._pool.pin(adapter)

    def unpin(self, adapter: AdapterRef) -> None:
        self._pool.unpin(adapter.key)

    def unload(self, adapter: AdapterRef) -> None:
        self._pool.unload(adapter.key)

    def adapter_memory(self) -> AdapterMemory:
        return self._pool.memory()

    def _enter(self, row: W) -> None:
        """Let a row in: into the line, or to wait for its adapter. Raises ModelUnavailable, QueueFull."""
        ref = row.row.adapter
        with self._change:
            self._refuse_when_over()
            held, taken = self._counted_of(row.row.share_key), self._counted()
            if not may_wait(held, taken, self._max_waiting):
                raise QueueFull(
                    f"{held} questions of yours wait already, and there is room for no more; try again in a moment."
                )
            self._note_entry(row)
            if ref is None:
                self._line_up(row)
                return
            self._loading.add(row)
        row.lease = self._pool.lease(ref, partial(self._take_adapter, row), row.row.share_key)

    def _end(self, error: Exception | None, running: Iterable[W] = ()) -> ModelUnavailable:
        """The engine's thread ends: orderly, or by an error that it cannot go on after. Whoever waits hears why, and
        whoever comes; the answer is what they hear.

        Args:
            running: rows in the model, which hear it too.
        """
        if error is not None:
            _log.error("the engine stopped", exc_info=error)
        why = (
            CLOSING if error is None else f"The engine stopped ({type(error).__name__}: {error}); restart the service."
        )
        with self._change:
            self._failure = None if error is None else why
            self._closing = True
            left = [*running, *self._queue.drain(), *self._loading]
            self._loading.clear()
        for row in left:
            row.tell(Failed(ModelUnavailable(why)))
            self._release(row)
        return ModelUnavailable(why)

    def _counted(self) -> int:
        """Rows that count against ``max_waiting``; the caller holds the lock."""
        return len(self._queue) + len(self._loading)

    def _counted_of(self, share_key: str) -> int:
        """Those of them that are of one share key."""
        return self._queue.waiting(share_key) + sum(row.row.share_key == share_key for row in self._loading)

    def _note_entry(self, row: W) -> None:
        """A row was let in; the caller holds the lock."""

    def _refuse_when_over(self) -> None:
        if self.failure is not None:
            raise ModelUnavailable(self.failure)
        if self._closing:
            raise ModelUnavailable(CLOSING)

    def _line_up(self, row: W) -> None:
        """A row can run; the caller holds the lock."""
        self._queue.put(row.row.share_key, row)
        self._change.notify_all()

    def _take_adapter(self, row: W, lease: Lease[R]) -> None:
        """A row's adapter is in memory, or cannot be loaded."""
        with self._change:
            row.lease = lease
            waited = row in self._loading
            self._loading.discard(row)
            if waited and lease.error is None:
                self._line_up(row)
                return
        if lease.error is not None:
            row.tell(Failed(lease.error))
        self._release(row)

    def _leave_line(self, row: W) -> bool:
        """Take a row out of the line, or from among those that wait for their adapter; whether it was there."""
        with self._change:
            waited = row in self._loading or self._queue.discard(row.row.share_key, row)
            self._loading.discard(row)
        return waited

    def _give_back_adapter(self, row: W) -> None:
        lease, row.lease = row.lease, None
        if lease is not None:
            self._pool.release(lease)
