"""The rows of one tenant's vectors: SQL in, arrays out.

Knows the tables ``vectors`` and ``index_facts``. Every function takes an open connection and leaves transactions to its
caller.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ingest.checksums import check_chunk, of_vector
from ingest.database import Connection, is_sqlite, plain_rows

VECTOR_TYPE = np.dtype("<f4")
"""As vectors are stored."""
_EMBEDDER = "embedder"
_LISTS = "lists"
_ROWS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """All vectors of a corpus, in the order of their chunks' numbers.

    Attributes:
        numbers: int64 ``[n]``.
        vectors: float32 ``[n, dimension]``.
        documents: the rows of each document, ascending.
        damaged: chunks whose vector is not what was stored.
    """

    numbers: NDArray[np.int64]
    vectors: NDArray[np.float32]
    documents: dict[str, range]
    damaged: list[int] = field(default_factory=list)


def all_vectors(connection: Connection, dimension: int, spare: float = 0.0) -> StoredVectors:
    """Every vector there is, read in one pass.

    Args:
        spare: share of further rows to make room for; they lie behind the last row and hold nothing.
    """
    total = int(connection.execute("SELECT count(*) FROM vectors").fetchone()[0])
    capacity = int(total * (1 + spare))
    numbers = np.empty(capacity, dtype=np.int64)
    vectors = np.empty((capacity, dimension), dtype=VECTOR_TYPE)
    cursor = plain_rows(connection, "SELECT chunk, vector, sum FROM vectors ORDER BY chunk")
    row = 0
    damaged: list[int] = []
    nothing = bytes(dimension * VECTOR_TYPE.itemsize)
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        found, blobs, sums = zip(*rows, strict=True)
        damaged += [
            number
            for number, blob, kept in zip(found, blobs, sums, strict=True)
            if len(blob) != len(nothing) or (kept is not None and kept != of_vector(blob))
        ]
        whole = (blob if len(blob) == len(nothing) else nothing for blob in blobs)
        numbers[row : row + len(rows)] = found
        vectors[row : row + len(rows)] = np.frombuffer(b"".join(whole), VECTOR_TYPE).reshape(len(rows), dimension)
        row += len(rows)
    # A document's chunks are numbered in one transaction, so no other's lie between them.
    spans = plain_rows(
        connection, "SELECT document_id, min(number), max(number) FROM chunks GROUP BY document_id ORDER BY 2"
    ).fetchall()
    bounds = np.array([(first, last + 1) for _, first, last in spans], dtype=np.int64).reshape(-1, 2)
    rows_of = np.searchsorted(numbers[:total], bounds)  # [documents, 2]
    documents = {
        span[0]: range(start, stop) for span, (start, stop) in zip(spans, rows_of.tolist(), strict=True) if start < stop
    }
    return StoredVectors(numbers, vectors, documents, damaged)


def vectors_of(connection: Connection, numbers: Sequence[int], dimension: int) -> tuple[list[int], NDArray[np.float32]]:
    """The vectors of some chunks: the numbers that are there, and float32 ``[n, dimension]`` in their order."""
    if not numbers:
        return [], np.zeros((0, dimension), dtype=VECTOR_TYPE)
    rows = connection.execute(
        "SELECT chunk, vector FROM vectors WHERE chunk IN (SELECT CAST(value AS BIGINT) FROM json_each(?))",
        (json.dumps(list(numbers)),),
    ).fetchall()
    stacked = np.frombuffer(b"".join(row["vector"] for row in rows), dtype=VECTOR_TYPE)
    return [row["chunk"] for row in rows], stacked.reshape(len(rows), dimension)


def vectors_at(connection: Connection, found: Sequence[tuple[str, int]]) -> dict[tuple[str, int], NDArray[np.float32]]:
    """Vectors float32 ``[dimension]`` of chunks given as (document id, position), of those that are there."""
    if is_sqlite(connection):  # CROSS JOIN holds it to this order
        rows = connection.execute(
            "SELECT document_id, position, vector FROM json_each(?) AS wanted "
            "CROSS JOIN chunks ON document_id = wanted.value ->> 0 AND position = wanted.value ->> 1 "
            "CROSS JOIN vectors ON chunk = number",
            (json.dumps([list(each) for each in found]),),
        )
    else:
        rows = connection.execute(
            "SELECT document_id, position, vector FROM chunks JOIN vectors ON chunk = number "  # noqa: S608
            f"WHERE (document_id, position) IN (VALUES {', '.join(['(?, ?)'] * len(found))})",
            [value for each in found for value in each],
        )
    return {(row["document_id"], row["position"]): np.frombuffer(row["vector"], dtype=VECTOR_TYPE) for row in rows}


def embedder_of_vectors(connection: Connection) -> str | None:
    """Fingerprint of the embedder that made the stored vectors; ``None`` when there are none."""
    row = connection.execute(
        "SELECT value FROM index_facts WHERE name = ? AND EXISTS (SELECT 1 FROM vectors)", (_EMBEDDER,)
    ).fetchone()
    return str(row["value"]) if row else None


def note_embedder(connection: Connection, fingerprint: str) -> None:
    """Note which embedder makes the vectors from here on."""
    note(connection, _EMBEDDER, fingerprint)


def lists_generation(connection: Connection) -> str | None:
    """Which saved lists are of the stored vectors; ``None`` when none are."""
    return fact(connection, _LISTS)


def note_lists(connection: Connection, generation: str) -> None:
    """Note which saved lists are of the stored vectors."""
    note(connection, _LISTS, generation)


def forget_lists(connection: Connection) -> None:
    """No saved lists are of the stored vectors any more."""
    connection.execute("DELETE FROM index_facts WHERE name = ?", (_LISTS,))


def fact(connection: Connection, name: str) -> str | None:
    """What is noted under a name; ``None`` when nothing is."""
    row = connection.execute("SELECT value FROM index_facts WHERE name = ?", (name,)).fetchone()
    return str(row["value"]) if row else None


def note(connection: Connection, name: str, value: str) -> None:
    """Note something about the stored vectors under a name, in place of what was there."""
    connection.execute(
        "INSERT INTO index_facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def damaged_inputs(connection: Connection, numbers: Sequence[int]) -> list[tuple[int, str, str]]:
    """What the vectors of some chunks are made of: number, title and text of those that are there.

    Raises:
        DamagedData: the text is not what was stored either.
    """
    rows = connection.execute(
        "SELECT * FROM chunks WHERE number IN (SELECT CAST(value AS BIGINT) FROM json_each(?))",
        (json.dumps(list(numbers)),),
    ).fetchall()
    for row in rows:
        check_chunk(row)
    return [(row["number"], row["title"], row["text"]) for row in rows]


def mend_vector(connection: Connection, number: int, vector: NDArray[np.float32]) -> None:
    """Store the vector of a chunk anew, float32 ``[dimension]``."""
    stored = vector.astype(VECTOR_TYPE).tobytes()
    connection.execute("UPDATE vectors SET vector = ?, sum = ? WHERE chunk = ?", (stored, of_vector(stored), number))
