"""How many threads faiss takes for one search: one.

Threads that share the work of a fraction of a millisecond wait for one another, and on a busy machine each waits for
its turn besides: a search of 10,000 vectors by two threads then takes hundreds of times as long as by one. Other
searches use the other cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def one_thread() -> Iterator[None]:
    """Let faiss use one thread for what the calling thread asks of it; other threads, and later work, as before."""
    import faiss as typed

    faiss: Any = typed  # its type stubs lack these
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
