"""Which adapters are in memory: loaded once, by a thread of the pool's own, and evicted by bytes.

An adapter that no row holds is evicted least recently used first; a pinned one stays while there is any other way.
What is not in memory waits for room in turns between share keys, and then for the disk, and holds up nobody else. Knows
references and sizes; what loading and letting go mean is handed in. Safe for many threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from adapters.engine import AdapterMemory, AdapterRef
from adapters.errors import (
    AdapterError,
    AdapterFilesUnavailable,
    AdapterMemoryFull,
    InvalidAdapter,
    ModelUnavailable,
    UpstreamFailed,
    UpstreamUnavailable,
)
from adapters.fair_queue import FairQueue

_log = logging.getLogger(__name__)
# What may be over when the adapter is asked for again.
_PASSES = (UpstreamUnavailable, UpstreamFailed, AdapterFilesUnavailable)


class Resident(Protocol):
    """An adapter in memory, in whatever form its engine computes with."""

    @property
    def bytes(self) -> int:
        """Memory that it holds."""


R = TypeVar("R", bound=Resident)


@dataclass(eq=False)
class Lease(Generic[R]):
    """One row's hold on an adapter. Once it is ready, one of ``adapter`` and ``error`` is set."""

    key: str
    ready: Callable[[Lease[R]], None]
    adapter: R | None = None
    error: Exception | None = None
    over: bool = False


@dataclass(eq=False)
class _Load(Generic[R]):
    """An adapter on its way into memory. A prefetch goes on without a lease."""

    ref: AdapterRef
    share_key: str
    prefetch: bool
    leases: list[Lease[R]] = field(default_factory=list)
    size: int | None = None

    @property
    def wanted(self) -> bool:
        return self.prefetch or any(not lease.over for lease in self.leases)


class AdapterPool(Generic[R]):
    """Resident adapters, by `AdapterRef.key`.

    Args:
        load: reads an adapter from disk.
        size_of: bytes that it will take, without reading it.
        budget_bytes: what residents may hold together. An adapter that does not fit beside those that rows hold waits
            for them; one that never fits is refused.
        let_go: told of each adapter that is no longer resident; it must not block.
    """

    def __init__(
        self,
        load: Callable[[AdapterRef], R],
        size_of: Callable[[AdapterRef], int],
        budget_bytes: int,
        let_go: Callable[[R], None] = lambda _: None,
    ) -> None:
        self._load, self._size_of, self._budget, self._let_go = load, size_of, budget_bytes, let_go
        self._change = threading.Condition()
        self._queue: FairQueue[_Load[R]] = FairQueue()
        self._loads: dict[str, _Load[R]] = {}
        self._resident: OrderedDict[str, R] = OrderedDict()  # least recently used first
        self._held: Counter[str] = Counter()
        self._pinned: dict[str, int] = {}
        self._unwanted: set[str] = set()
        self._largest = 0
        self._counts: Counter[str] = Counter()
        self._load_seconds = 0.0
        self._thread: threading.Thread | None = None
        self._closing = False

    def lease(self, ref: AdapterRef, ready: Callable[[Lease[R]], None], share_key: str = "") -> Lease[R]:
        """Hold an adapter until `release`, loading it first if need be.

        Args:
            ready: called once the lease holds the adapter or the error that loading raised: before this returns for a
                resident adapter, else by the pool's thread; not after a `release`. It must not block.
            share_key: whose turn it uses among the loads that wait.
        """
        lease: Lease[R] = Lease(ref.key, ready)
        with self._change:
            if (adapter := self._resident.get(ref.key)) is not None:
                self._counts["hits"] += 1
                self._unwanted.discard(ref.key)
                self._resident.move_to_end(ref.key)
                self._held[ref.key] += 1
                lease.adapter = adapter
            else:
                self._queue_load(ref, share_key).leases.append(lease)
                return lease
        ready(lease)
        return lease

    def release(self, lease: Lease[R]) -> None:
        """Give a lease back. Idempotent."""
        with self._change:
            if not lease.over and lease.adapter is not None:
                self._held -= Counter([lease.key])
                self._make_room(0)
            lease.over = True
            self._change.notify_all()

    def prefetch(self, ref: AdapterRef, share_key: str = "") -> None:
        """Begin to load an adapter that will be asked for in a moment."""
        with self._change:
            if ref.key not in self._resident and not self._closing:
                self._queue_load(ref, share_key, prefetch=True)

    def prepare(self, ref: AdapterRef) -> None:
        """Make an adapter resident; blocks while it is loaded. Raises what loading raises."""
        done = threading.Event()
        lease = self.lease(ref, lambda _: done.set())
        done.wait()
        self.release(lease)
        if lease.error is not None:
            raise lease.error

    def unload(self, key: str) -> None:
        """Let go of an adapter, pinned or not: now, or when its last lease is given back."""
        with self._change:
            self._pinned.pop(key, None)
            if key in self._resident:
                self._resident.move_to_end(key, last=False)
                self._unwanted.add(key)
                self._make_room(0)

    def pin(self, ref: AdapterRef) -> None:
        """Load an adapter and keep it. Room for one more, as large as the largest that was seen, is always left.

        Raises:
            AdapterMemoryFull: pinned adapters would leave less.
        """
        size = self._size_of(ref)
        with self._change:
            others = sum(bytes_ for key, bytes_ in self._pinned.items() if key != ref.key)
            free = self._budget - others - max(self._largest, size)
            if size > free:
                raise AdapterMemoryFull(
                    f"Pinned adapters would leave no room for another: this one takes {size} bytes, {others} of "
                    f"{self._budget} are pinned, and {max(self._largest, size)} stay free for adapters that are not. "
                    "Release a pin, or raise LOREBASE_ADAPTER_MEMORY_MB."
                )
            self._pinned[ref.key] = size
        self.prefetch(ref)

    def unpin(self, key: str) -> None:
        """Make a pinned adapter one like the others. Idempotent."""
        with self._change:
            self._pinned.pop(key, None)

    def check_size(self, size: int) -> None:
        """Refuse what could never be loaded. Raises InvalidAdapter, reason ``size``."""
        if size > self._budget:
            raise InvalidAdapter(
                "size",
                f"The adapter takes {size} bytes in memory; all adapters together may take {self._budget}. "
                "Train a smaller one, or raise LOREBASE_ADAPTER_MEMORY_MB.",
            )

    def memory(self) -> AdapterMemory:
        """What is in memory and on its way, and what happened so far."""
        with self._change:
            return AdapterMemory(
                budget_bytes=self._budget,
                resident={key: adapter.bytes for key, adapter in self._resident.items()},
                loading=frozenset(self._loads),
                pinned=frozenset(self._pinned),
                loads=self._counts["loads"],
                hits=self._counts["hits"],
                evictions=self._counts["evictions"],
                load_seconds=self._load_seconds,
            )

    def close(self) -> None:
        """Fail the loads that wait and end the pool's thread. Idempotent."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _queue_load(self, ref: AdapterRef, share_key: str, *, prefetch: bool = False) -> _Load[R]:
        load = self._loads.get(ref.key)
        if load is None:
            load = self._loads[ref.key] = _Load(ref, share_key, prefetch)
            self._queue.put(share_key, load)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="adapter-loader", daemon=True)
                self._thread.start()
            self._change.notify_all()
        return load

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closing or len(self._queue))
                load = self._queue.front()
                if load is None:
                    self._thread = None
                    return
                error = self._refusal(load)
                if load.size is not None and error is None and load.wanted and not self._make_room(load.size):
                    self._change.wait()  # for a lease to be given back; the load keeps its turn
                    continue
            if load.size is None:
                try:
                    load.size = self._size_of(load.ref)
                except AdapterFilesUnavailable:  # whoever loads it will say
                    load.size = 0
                continue
            with self._change:
                self._queue.end_turn(remove=True)
                if not load.wanted:
                    del self._loads[load.ref.key]
                    continue
            began = time.perf_counter()
            adapter: R | None = None
            if error is None:
                try:
                    adapter = self._load(load.ref)
                except Exception as raised:
                    error = raised if isinstance(raised, AdapterError) else _unexpected(raised)
            self._finish(load, adapter, error, time.perf_counter() - began)

    def _refusal(self, load: _Load[R]) -> AdapterError | None:
        """Why a load whose turn it is cannot even begin."""
        if self._closing:
            return ModelUnavailable("The engine is shutting down; ask again.")
        try:
            self.check_size(load.size or 0)
        except InvalidAdapter as error:
            return error
        return None

    def _finish(self, load: _Load[R], adapter: R | None, error: Exception | None, seconds: float) -> None:
        key = load.ref.key
        with self._change:
            del self._loads[key]
            waiting = [lease for lease in load.leases if not lease.over]
            if adapter is not None:
                self._counts["loads"] += 1
                self._load_seconds += seconds
                self._largest = max(self._largest, adapter.bytes)
                self._resident[key] = adapter
                self._held[key] += len(waiting)
                if key in self._pinned:
                    self._pinned[key] = adapter.bytes
            elif not isinstance(error, _PASSES) and self._pinned.pop(key, None) is not None:
                _log.warning("a pinned adapter cannot be loaded and is pinned no longer: %s", error)
            for lease in waiting:
                lease.adapter, lease.error = adapter, error
            self._make_room(0)
        for lease in waiting:
            try:
                lease.ready(lease)
            except Exception:
                _log.exception("whoever asked for an adapter could not take it")

    def _make_room(self, needed: int) -> bool:
        """Evict as much as it takes for ``needed`` bytes, or nothing when that is not enough. Pinned adapters are
        evicted only when nobody holds any: then waiting would not help."""
        room = self._budget - needed - sum(adapter.bytes for adapter in self._resident.values())
        idle = [key for key in self._resident if not self._held[key]]
        victims = [key for key in idle if key in self._unwanted]
        room += sum(self._resident[key].bytes for key in victims)
        spare = [key for key in idle if key not in self._unwanted and key not in self._pinned]
        if not +self._held:
            spare += [key for key in idle if key in self._pinned]
        for key in spare:
            if room >= 0:
                break
            victims.append(key)
            room += self._resident[key].bytes
        if room < 0 and needed:
            return False
        for key in victims:
            self._let_go(self._resident.pop(key))
            self._unwanted.discard(key)
        self._counts["evictions"] += len(victims)
        return room >= 0


def _unexpected(error: Exception) -> InvalidAdapter:
    known = InvalidAdapter("format", f"The adapter cannot be loaded ({type(error).__name__}: {error}).")
    known.__cause__ = error
    return known
