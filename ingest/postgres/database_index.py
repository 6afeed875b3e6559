"""The vectors of one tenant searched in the database by pgvector; nothing of them lies in this process's memory.

A search and what is read of its hits are one transaction, so it sees every document that was committed before, by
whichever process, and none that was deleted. Past a number of chunks a graph is built in the background
(`ingest.postgres.graphs`), while searches go on exactly. Knows when that is due; what it is stands there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TypeVar

import numpy as np
import psycopg
from numpy.typing import NDArray

from ingest.database import Connection
from ingest.embedding import Embedder
from ingest.errors import DatabaseClosed, IndexMismatch
from ingest.live_index import MISMATCH, IndexOptions
from ingest.postgres import graphs, nearest
from ingest.postgres.connection import PostgresRow
from ingest.postgres.database import PostgresDatabase
from ingest.postgres.nearest import Nearest, SearchState

T = TypeVar("T")
_log = logging.getLogger("lorebase.index")
_AGAIN_SECONDS = 30.0  # after a graph could not be made, or another process was at it


class DatabaseIndex:
    """See `ingest.dense_search.DenseSearch`.

    Args:
        database: of a tenant, with the tables of ``ingest.postgres.vector_tables``.
        embedder: the one that makes queries' vectors; vectors of another are refused.
        options: ``exact_up_to`` and ``background`` count.
    """

    bytes = 0

    def __init__(self, database: PostgresDatabase, embedder: Embedder, options: IndexOptions) -> None:
        if database.tenant_id is None:
            raise ValueError("vectors are a tenant's")
        self._tenant_id = database.tenant_id
        self._database = database
        self._embedder = embedder
        self._options = options
        self._lock = threading.Lock()
        self._work: Future[None] | None = None
        self._at_work: psycopg.Connection[PostgresRow] | None = None
        self._looked = False  # at the graph itself, by this process: a crash may have left half of one
        self._not_before = 0.0
        self._closed = False

    def searched(
        self,
        vector: NDArray[np.float32],
        count: int,
        documents: Iterable[str] | None,
        read: Callable[[Connection, Nearest], T],
    ) -> T:
        """See `DenseSearch`."""
        with self._database.read() as connection:
            state = nearest.look(connection)
            if state.embedder is not None and state.embedder != self._embedder.fingerprint:
                raise IndexMismatch(MISMATCH)
            among = None if documents is None else list(documents)
            found = nearest.search(connection, self._tenant_id, state, vector, count, among)
            result = read(connection, found)
        self._attend(state)
        return result

    def publish(
        self, document_id: str, numbers: NDArray[np.int64], vectors: NDArray[np.float32], present: Callable[[], bool]
    ) -> None:
        """Nothing: the database has it."""

    @contextmanager
    def switching(self) -> Iterator[Callable[[str, NDArray[np.int64], NDArray[np.float32]], None]]:
        """Nothing: no search sees half of a transaction."""
        yield lambda document_id, numbers, vectors: None

    def remove(self, document_id: str) -> None:
        """Nothing: the database has it no more."""

    def release(self) -> None:
        """Nothing: there is no memory to free."""

    def close(self) -> None:
        """See `DenseSearch`. A graph that is half built is found and built anew by whoever searches next."""
        with self._lock:
            self._closed = True
            work, connection = self._work, self._at_work
        if work is not None and not work.cancel():
            if connection is not None:
                with suppress(psycopg.Error):
                    connection.cancel_safe()
            work.result()

    def wait(self) -> None:
        """Wait until no work is under way in the background."""
        while (work := self._work) is not None and not work.done():
            work.result()

    def _attend(self, state: SearchState) -> None:
        """Have the graph built, measured or dropped, where that is due and not under way."""
        if self._options.background is None or state.embedder is None:
            return
        if self._embedder.dimension > graphs.MOST_DIMENSIONS:
            return  # no index takes them
        is_large = state.graph is not None or state.chunks > self._options.exact_up_to
        due = graphs.is_due(state.chunks, state.embedder, state.graph, self._options.exact_up_to)
        if not due and (self._looked or not is_large):
            return
        with self._lock:
            if (
                self._closed
                or time.monotonic() < self._not_before
                or (self._work is not None and not self._work.done())
            ):
                return
            self._work = self._options.background.submit(self._tend)

    def _tend(self) -> None:
        try:
            with self._database.beside() as connection:
                with self._lock:
                    if self._closed:
                        return
                    self._at_work = connection
                fingerprint, dimension = self._embedder.fingerprint, self._embedder.dimension
                done = graphs.tend(connection, self._tenant_id, fingerprint, dimension, self._options.exact_up_to)
                self._looked = done
        except DatabaseClosed:
            return
        except Exception as error:  # searches go on exactly; a later one has it tried again
            done = False
            if not self._closed:
                _log.warning("a graph in the database cannot be made, and is tried again: %s", error)
        finally:
            self._at_work = None
        if not done:
            self._not_before = time.monotonic() + _AGAIN_SECONDS
