"""The seam behind which a corpus's vectors are searched: in this process's memory, or in the database.

Knows which of them there are and when each does; knows no SQL and no faiss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest.database import Connection, Database
from ingest.embedding import Embedder
from ingest.live_index import IndexOptions, LiveIndex

T = TypeVar("T")
Found: TypeAlias = tuple[list[int], list[float]]
"""Chunk numbers and their scores (inner products), best first."""
Switch: TypeAlias = Callable[[str, NDArray[np.int64], NDArray[np.float32]], None]


class DenseSearch(Protocol):
    """Finds the chunks whose vectors are nearest. Safe to use from any thread."""

    @property
    def bytes(self) -> int:
        """About how much of this process's memory it holds."""

    def searched(
        self,
        vector: NDArray[np.float32],
        count: int,
        documents: Iterable[str] | None,
        read: Callable[[Connection, Found], T],
    ) -> T:
        """What ``read`` makes of the ``count`` nearest chunks, in a transaction that sees what they were found in.

        Args:
            vector: float32 ``[dimension]``.
            documents: the only ones to look at; all unless given.
            read: may be called again, when documents came or went meanwhile.

        Raises:
            IndexMismatch: the stored vectors were made by another embedder.
            EmbedderUnavailable: the embedding model cannot be loaded.
        """

    def publish(
        self, document_id: str, numbers: NDArray[np.int64], vectors: NDArray[np.float32], present: Callable[[], bool]
    ) -> None:
        """Take note of a document that was committed: see `LiveIndex.publish`."""

    def switching(self) -> AbstractContextManager[Switch]:
        """Around the commit of replaced content: see `LiveIndex.switching`."""

    def remove(self, document_id: str) -> None:
        """Take note of a document whose rows are deleted."""

    def release(self) -> None:
        """Free the memory until it is needed again."""

    def close(self) -> None:
        """Stop what is under way in the background. The database is still open."""


def dense_search(database: Database, embedder: Embedder, options: IndexOptions) -> DenseSearch:
    """The dense search that the options ask for."""
    if not options.in_database:
        return LiveIndex(database, embedder, options)
    from ingest.postgres import PostgresDatabase
    from ingest.postgres.database_index import DatabaseIndex

    if not isinstance(database, PostgresDatabase):
        raise TypeError("only PostgreSQL searches vectors in the database")
    return DatabaseIndex(database, embedder, options)
