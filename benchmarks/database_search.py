"""Vectors searched in PostgreSQL by pgvector: exactly, and by a tenant's graph, against one another.

What `benchmarks.stores` and `benchmarks.search_scale` have in common; needs the package `pgserver`.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import timed
from ingest import IndexOptions
from ingest.database import Connection
from ingest.dense_search import Found
from ingest.postgres import PostgresDatabase, PostgresServer, prepare
from ingest.postgres.database_index import DatabaseIndex

Vectors = NDArray[np.float32]
_COUNT = 10
_CHUNKS_OF_A_DOCUMENT = 10
_WRITTEN_AT_ONCE = 5000


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty database of its own, with pgvector, on a server that runs within the block."""
    import pgserver
    import psycopg

    with tempfile.TemporaryDirectory(prefix="lorebase-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the server runs as a user of its own where this runs as root
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute("CREATE ROLE lorebase LOGIN")
                connection.execute("CREATE DATABASE lorebase OWNER lorebase ENCODING 'UTF8' TEMPLATE template0")
            with psycopg.connect(server.get_uri(), dbname="lorebase", autocommit=True) as connection:
                connection.execute("CREATE EXTENSION vector")
            yield f"postgresql://lorebase@/lorebase?host={Path(folder) / 'data'}"
        finally:
            server.cleanup()


class Measured:
    """An embedder that is only asked who it is."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.fingerprint = "measured"

    def encode(self, texts: Sequence[str]) -> Vectors:
        raise NotImplementedError("nothing is embedded here")


def measure_graph_in_database(url: str, pieces: Iterator[Vectors], queries: Vectors) -> dict[str, float]:
    """One tenant searched exactly and by its graph, for 10 passages.

    Args:
        pieces: float32 ``[n, dimension]`` each: the tenant's vectors.
        queries: float32 ``[queries, dimension]``.
    """
    from app.storage import open_server

    with closing(open_server(url)) as server, ThreadPoolExecutor(1) as background:
        prepare(server)
        database = server.database(uuid.uuid4().hex)
        seconds = timed(partial(_write, database, pieces))
        embedder = Measured(queries.shape[1])
        exact = DatabaseIndex(database, embedder, IndexOptions())
        _analyze(server)
        truth = [_nearest(exact, query) for query in queries]
        figures = {"written_s": seconds, "exact_p50_ms": _p50(exact, queries)}
        graph = DatabaseIndex(database, embedder, IndexOptions(exact_up_to=1, background=background))
        _nearest(graph, queries[0])
        figures["build_s"] = timed(graph.wait)
        found = [_nearest(graph, query) for query in queries]
        figures["recall"] = float(np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)]))
        figures["graph_p50_ms"] = _p50(graph, queries)
        figures |= _sizes(database)
        return {name: round(value, 4) for name, value in figures.items()}


def _write(database: PostgresDatabase, pieces: Iterator[Vectors]) -> None:
    """Documents, chunks and vectors as ingestion leaves them."""
    number = 0
    for piece in pieces:
        for start in range(0, len(piece), _WRITTEN_AT_ONCE):
            vectors = piece[start : start + _WRITTEN_AT_ONCE]
            with database.write() as connection:
                _write_some(connection, number, vectors)
            number += len(vectors)
    with database.write() as connection:
        connection.execute("INSERT INTO index_facts (name, value) VALUES ('embedder', 'measured')")


def _write_some(connection: Connection, first: int, vectors: Vectors) -> None:
    numbers = range(first, first + len(vectors))
    connection.executemany(
        "INSERT INTO documents (id, collection, name, is_text, metadata, sha256, bytes, chunks, status, created_at, "
        "updated_at) VALUES (?, 'default', 'd', 1, '{}', ?, 1, 0, 'ready', '', '') ON CONFLICT (id) DO NOTHING",
        ((f"{n:032x}", f"{n:x}") for n in {n // _CHUNKS_OF_A_DOCUMENT for n in numbers}),
    )
    connection.executemany(
        'INSERT INTO chunks (number, document_id, position, start, "end", text) VALUES (?, ?, ?, 0, 1, ?)',
        ((n + 1, f"{n // _CHUNKS_OF_A_DOCUMENT:032x}", n % _CHUNKS_OF_A_DOCUMENT, "x") for n in numbers),
    )
    connection.executemany(
        "INSERT INTO keyword_lengths (chunk, terms) VALUES (?, 1)", ((number + 1,) for number in numbers)
    )
    connection.executemany(
        "INSERT INTO vectors (chunk, vector) VALUES (?, ?)",
        ((n + 1, vector.tobytes()) for n, vector in zip(numbers, vectors, strict=True)),
    )


def _nearest(index: DatabaseIndex, query: Vectors) -> list[int]:
    def numbers(_: Connection, found: Found) -> list[int]:
        return found[0]

    return index.searched(query, _COUNT, None, numbers)


def _p50(index: DatabaseIndex, queries: Vectors) -> float:
    return 1000 * float(np.median([timed(partial(_nearest, index, query)) for query in queries]))


def _analyze(server: PostgresServer) -> None:
    with server.connected() as connection:
        connection.execute("ANALYZE")


def _sizes(database: PostgresDatabase) -> dict[str, float]:
    """MB of the tenant's graph and of its searched vectors, and how wide a search must look."""
    with database.beside() as connection:
        row = connection.execute(
            "SELECT (SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relname LIKE %s)::float8 AS graph, "
            "(SELECT sum(pg_column_size(vector) + 60) FROM searched_vectors)::float8 AS vectors, "
            "(SELECT value::json ->> 'width' FROM index_facts WHERE name = 'graph')::float8 AS width",
            (f"graph_{database.tenant_id}%",),
        ).fetchone()
    assert row is not None
    return {"graph_mb": (row["graph"] or 0) / 1e6, "vectors_mb": row["vectors"] / 1e6, "width": row["width"] or 0}
