"""Who may wait, and who goes next: one line per share key, served in turn, so that one owner's burst neither holds up
the others nor keeps them out.

Pure data structure and rule; knows nothing of rows, models or threads. The caller holds the lock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


def may_wait(held: int, taken: int, bound: int) -> bool:
    """Whether one more of a share key may wait, where it holds ``held`` places, all keys together ``taken``, and there
    are ``bound``.

    It may while it holds fewer than are free: the dynamic threshold of Choudhury and Hahne (IEEE/ACM Transactions on
    Networking 6(2), 1998) with factor 1. So the bound is hard; one key alone gets half of it, n greedy ones
    ``bound / (n + 1)`` each; the greediest is refused first, and the last free place goes only to a key that holds
    none. No key needs to be known beforehand, and nobody who was let in is sent away for another.
    """
    return held < bound - taken


class FairQueue(Generic[T]):
    """First come, first served within a share key; round-robin between share keys."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def keys(self) -> int:
        """How many keys have something waiting."""
        return len(self._lines)

    def waiting(self, share_key: str) -> int:
        """How many items of a key wait."""
        return len(self._lines.get(share_key, ()))

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
