"""Which documents' vectors other processes have changed: a log that a tenant's index in memory follows.

Only PostgreSQL has one: triggers write it with the change itself, in the order of commits, since a tenant's writes wait
for one another (``ingest.postgres.schema``). In a SQLite file, which is one process's, nothing was changed by others.
Every function takes an open connection.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest import vector_store
from ingest.checksums import of_vector
from ingest.database import Connection, is_sqlite, plain_rows


class Latest(NamedTuple):
    """Numbers in the log: of the last change, and of the last one that put new content in the place of old."""

    change: int
    replacement: int


NOTHING = Latest(0, 0)


def latest(connection: Connection) -> Latest:
    """Where the log has come to."""
    if is_sqlite(connection):
        return NOTHING
    row = connection.execute(
        "SELECT coalesce((SELECT max(number) FROM index_changes), 0) AS change, "
        "coalesce((SELECT max(number) FROM index_changes WHERE replaces = 1), 0) AS replacement"
    ).fetchone()
    return Latest(row["change"], row["replacement"])


def documents_since(connection: Connection, number: int) -> list[str] | None:
    """The documents that were changed behind a number; None when the log does not reach back so far."""
    first = connection.execute("SELECT min(number) AS number FROM index_changes").fetchone()["number"]
    if first is None or first > number:
        return None
    rows = connection.execute("SELECT DISTINCT document_id FROM index_changes WHERE number > ?", (number,))
    return [row["document_id"] for row in rows]


def numbers_of(connection: Connection, document_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The first and last number of the chunks of those documents that have any."""
    rows = connection.execute(
        "SELECT document_id, min(number) AS first, max(number) AS last FROM chunks "
        "WHERE document_id IN (SELECT value FROM json_each(?)) GROUP BY document_id",
        (json.dumps(list(document_ids)),),
    )
    return {row["document_id"]: (row["first"], row["last"]) for row in rows}


def vectors_between(
    connection: Connection, first: int, last: int, dimension: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """A document's chunks, from its first number to its last one: numbers, int64 ``[n]``, and vectors, float32
    ``[n, dimension]``. None when one is not what was stored."""
    rows = plain_rows(
        connection, "SELECT chunk, vector, sum FROM vectors WHERE chunk BETWEEN ? AND ? ORDER BY chunk", (first, last)
    ).fetchall()
    size = dimension * vector_store.VECTOR_TYPE.itemsize
    if any(len(blob) != size or (kept is not None and kept != of_vector(blob)) for _, blob, kept in rows):
        return None
    vectors = np.frombuffer(b"".join(blob for _, blob, _ in rows), dtype=vector_store.VECTOR_TYPE)
    return np.array([number for number, _, _ in rows], dtype=np.int64), vectors.reshape(len(rows), dimension)
