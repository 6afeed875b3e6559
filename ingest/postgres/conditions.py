"""What must hold for a transaction to write: handed in as SQL, and looked at where the transaction begins.

A transaction that begins is asked for in one round trip, and so is this. Whoever makes it no longer hold waits for the
tenant's write lock first, so nothing is written on the strength of what was true a moment ago.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_lease: ContextVar[str | None] = ContextVar("lease", default=None)


@contextmanager
def only_while(condition: str) -> Iterator[None]:
    """Within the block write transactions begin only while an expression of SQL is true; else they raise LeaseLost."""
    token = _lease.set(condition)
    try:
        yield
    finally:
        _lease.reset(token)


def current_lease() -> str:
    """The expression that must be true here and now."""
    return _lease.get() or "true"
