"""Who goes next: one line per share key, served in turn, so that one owner's burst does not hold up the others.

Pure data structure; knows nothing of rows, models or threads. The caller holds the lock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
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

    def take(self, limit: int, fits: Callable[[list[T], T], bool]) -> list[T]:
        """Remove and return up to ``limit`` items, one per key and turn.

        Args:
            fits: whether an item may join those taken so far. The first item is taken unasked. A key whose next item
                does not fit keeps its place in front, so no item waits for ever.
        """
        taken: list[T] = []
        progress = True
        while progress and self._lines and len(taken) < limit:
            progress = False
            for key in list(self._lines):
                line = self._lines[key]
                if len(taken) >= limit or (taken and not fits(taken, line[0])):
                    continue
                taken.append(line.popleft())
                progress = True
                if line:
                    self._lines.move_to_end(key)
                else:
                    del self._lines[key]
        self._size -= len(taken)
        return taken

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
