"""Which adapters are in memory: loaded once, pinned while in use, evicted by bytes, least recently used first.

Knows references and sizes; what loading means is handed in. Safe for many threads: two that want the same adapter
load it once, and loading one does not hold up the use of another.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from adapters.engine import AdapterRef
from adapters.lora_stack import LoadedLora


class AdapterPool:
    """Resident adapters, by `AdapterRef.key`.

    Args:
        load: reads an adapter from disk; called outside the pool's lock.
        budget_bytes: what residents may hold together. Pinned adapters are never evicted, so rows under way may
            exceed it for as long as they run.
    """

    def __init__(self, load: Callable[[AdapterRef], LoadedLora], budget_bytes: int) -> None:
        self._load = load
        self._budget = budget_bytes
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._resident: OrderedDict[str, LoadedLora] = OrderedDict()
        self._pins: dict[str, int] = {}
        self._unwanted: set[str] = set()

    def acquire(self, ref: AdapterRef) -> LoadedLora:
        """The adapter, pinned until `release`. Blocks while it is read from disk. Raises what loading raises."""
        with self._lock:
            if (adapter := self._pin(ref.key)) is not None:
                return adapter
            one_loader = self._loading.setdefault(ref.key, threading.Lock())
        with one_loader:
            with self._lock:
                if (adapter := self._pin(ref.key)) is not None:
                    return adapter
            try:
                loaded = self._load(ref)
            finally:
                with self._lock:
                    self._loading.pop(ref.key, None)
            with self._lock:
                self._resident[ref.key] = loaded
                self._pins[ref.key] = self._pins.get(ref.key, 0) + 1
                self._evict()
            return loaded

    def release(self, key: str) -> None:
        """Give back one pin."""
        with self._lock:
            self._pins[key] -= 1
            if not self._pins[key]:
                del self._pins[key]
            self._evict()

    def unload(self, key: str) -> None:
        """Let go of an adapter: now, or when its last pin is given back."""
        with self._lock:
            if key in self._resident:
                self._resident.move_to_end(key, last=False)
                self._unwanted.add(key)
                self._evict()

    def resident(self) -> dict[str, int]:
        """Bytes held by each resident adapter, by `AdapterRef.key`."""
        with self._lock:
            return {key: adapter.bytes for key, adapter in self._resident.items()}

    def _pin(self, key: str) -> LoadedLora | None:
        adapter = self._resident.get(key)
        if adapter is not None:
            self._unwanted.discard(key)
            self._resident.move_to_end(key)
            self._pins[key] = self._pins.get(key, 0) + 1
        return adapter

    def _evict(self) -> None:
        held = sum(adapter.bytes for adapter in self._resident.values())
        for key in [k for k in self._resident if k not in self._pins]:
            if held <= self._budget and key not in self._unwanted:
                return  # the unwanted ones come first
            self._unwanted.discard(key)
            held -= self._resident.pop(key).bytes
