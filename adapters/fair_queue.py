"""Who goes next: one line per share key, served in turn, so that one owner's burst does not hold up the others.

Pure data structure; knows nothing of rows, models or threads. The caller holds the lock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First come, first served within a share key; round-robin between share keys."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, share_key: str, item: T) -> None:
        """Add an item at the end of its key's line."""
        self._lines.setdefault(share_key, deque()).append(item)
        self._size += 1

    def front(self) -> T | None:
        """The item whose turn it is; None when nothing waits. It stays in front until `end_turn`."""
        return next(iter(self._lines.values()))[0] if self._lines else None

    def end_turn(self, *, remove: bool) -> None:
        """Give the turn to the next key. The item that had it leaves, or stays first in its key's line."""
        key, line = self._lines.popitem(last=False)
        if remove:
            line.popleft()
            self._size -= 1
        if line:
            self._lines[key] = line

    def discard(self, share_key: str, item: T) -> bool:
        """Remove a waiting item; False if it does not wait here."""
        line = self._lines.get(share_key)
        if line is None or item not in line:
            return False
        line.remove(item)
        if not line:
            del self._lines[share_key]
        self._size -= 1
        return True

    def drain(self) -> list[T]:
        """Remove and return everything."""
        items = [item for line in self._lines.values() for item in line]
        self._lines.clear()
        self._size = 0
        return items
