"""A tenant's graph in the database: an HNSW index over its vectors alone, built, measured, and dropped.

It is built beside reads and writes (``CREATE INDEX CONCURRENTLY``), by one process at a time. What a crash left is
found the next time: an index that is not valid is dropped and built anew, one that is valid and was not measured yet
is measured. A graph is used only once it was measured: how many of the nearest a search must look at, so that it finds
enough of what an exact one finds. Texts that are near copies of one another can make a graph of islands that no width
reaches; then it is dropped, and searches stay exact until the tenant has grown or shrunk by half.

Knows HNSW and PostgreSQL's catalog; knows no embedder and no thread.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import psycopg

from ingest.database import Connection
from ingest.postgres.connection import PostgresConnection, PostgresRow
from ingest.postgres.nearest import GRAPH_FACT, MOST_WIDTH, GraphFacts, Nearest, exact, look, through_graph

_log = logging.getLogger("lorebase.index")
MOST_DIMENSIONS = 2000
"""pgvector's limit of an index over ``vector``."""
_LINKS, _BUILD_WIDTH = 16, 100  # m and ef_construction
_WIDTHS = (64, 100, 160, 250, 400, 640, MOST_WIDTH)
_QUERIES = 200  # made of the tenant's own vectors, to measure with
_MIXED = 0.4  # of another vector in each: a graph leads to what it is made of too easily; so it is as with questions
_MEASURED_COUNT = 10  # nearest of each
_ENOUGH = 0.985  # of these must be found
_SAME = 1e-6  # difference of scores that tells no two apart
_BACK_TO_EXACT_SHARE = 0.8  # of exact_up_to, below which the graph is dropped
_REMEASURED = 2.0  # times the chunks that were measured, or their share below which it is done again
_BYTES_PER_LINK = 32
_MOST_BUILD_MEMORY = 1024**3
_LOCK_SECONDS = 3

_NAMES = (
    "SELECT relname AS name, indisvalid AS is_valid FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid "
    "WHERE relnamespace = current_schema()::regnamespace AND relname LIKE 'graph\\_%'"
)

RawConnection: TypeAlias = psycopg.Connection[PostgresRow]
"""A connection of its own, each statement a transaction, with the tenant set: see ``PostgresDatabase.beside``."""


def is_due(chunks: int, embedder: str, graph: GraphFacts | None, exact_up_to: int) -> bool:
    """Whether a graph must be built, measured or dropped."""
    if graph is None:
        return chunks > exact_up_to
    if chunks < _BACK_TO_EXACT_SHARE * exact_up_to or graph.embedder != embedder:
        return True
    return not graph.chunks / _REMEASURED <= chunks <= graph.chunks * _REMEASURED


def tend(connection: RawConnection, tenant_id: str, embedder: str, dimension: int, exact_up_to: int) -> bool:
    """Do what is due to a tenant's graph; false when another process is at it.

    Args:
        embedder: fingerprint of the one that made the vectors.
        dimension: of the vectors.
    """
    key = f"lorebase graph {tenant_id}"
    row: Any = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0)) AS taken", (key,)).fetchone()
    if not row["taken"]:
        return False
    try:
        _tend(connection, tenant_id, embedder, dimension, exact_up_to)
    finally:
        if not connection.broken and not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (key,))
    return True


def _tend(connection: RawConnection, tenant_id: str, embedder: str, dimension: int, exact_up_to: int) -> None:
    state = look(PostgresConnection(connection, of_tenant=True))
    chunks, noted = state.chunks, state.graph
    least = exact_up_to if noted is None else _BACK_TO_EXACT_SHARE * exact_up_to
    wanted = f"graph_{tenant_id}_{dimension}"
    there = _graphs(connection, tenant_id)
    if chunks <= least or dimension > MOST_DIMENSIONS:
        _forget(connection)
        drop(connection, list(there))
        return
    drop(connection, [name for name, is_valid in there.items() if not is_valid or name != wanted])
    due = is_due(chunks, embedder, noted, exact_up_to)
    is_there = there.get(wanted, False)
    if not is_there and noted is not None and noted.width is None and not due:
        return  # it was tried, and did not do
    if not is_there:
        _forget(connection)  # until it is measured
        _build(connection, tenant_id, wanted, chunks, dimension)
    if not is_there or due or noted is None:
        width = _measured_width(connection, tenant_id)
        _note(connection, GraphFacts(embedder, chunks, width))
        if width is None:
            _log.warning("a graph over %d chunks finds too few of the nearest: searches stay exact", chunks)
            drop(connection, [wanted])


def drop(connection: RawConnection, names: Sequence[str]) -> None:
    """Drop graphs, beside searches and writes; one that is being built elsewhere stays."""
    for name in names:
        connection.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'".encode())
        try:
            connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}".encode())
        except psycopg.errors.LockNotAvailable:
            _log.warning("the index %s is in use, and stays", name)
        finally:
            connection.execute("RESET lock_timeout")


def drop_of(connection: RawConnection, tenant_id: str) -> None:
    """Drop what a tenant that is gone has left."""
    drop(connection, list(_graphs(connection, tenant_id)))


def drop_of_strangers(connection: RawConnection) -> None:
    """Drop what tenants have left that are gone."""
    rows = connection.execute(f"{_NAMES} AND substr(relname, 7, 32) NOT IN (SELECT id FROM tenants)".encode())  # noqa: S608
    drop(connection, [row["name"] for row in rows])


def drop_within(connection: Connection) -> None:
    """Drop a tenant's graph in the transaction in which all its vectors are exchanged; nobody else searches then."""
    if not connection.execute("SELECT to_regclass('searched_vectors') IS NOT NULL AS there").fetchone()["there"]:
        return
    rows = connection.execute(f"{_NAMES} AND relname LIKE 'graph\\_' || current_setting('lorebase.tenant') || '\\_%'")
    for row in rows.fetchall():
        connection.execute(f"DROP INDEX {row['name']}")
    connection.execute(f"DELETE FROM index_facts WHERE name = '{GRAPH_FACT}'")  # noqa: S608 - a constant


def _graphs(connection: RawConnection, tenant_id: str) -> dict[str, bool]:
    """A tenant's graphs by name, and whether they are whole."""
    rows = connection.execute(f"{_NAMES} AND relname LIKE 'graph\\_{tenant_id}\\_%'".encode())
    return {row["name"]: row["is_valid"] for row in rows}


def _forget(connection: RawConnection) -> None:
    connection.execute(f"DELETE FROM index_facts WHERE name = '{GRAPH_FACT}'".encode())  # noqa: S608 - a constant


def _note(connection: RawConnection, graph: GraphFacts) -> None:
    connection.execute(
        "INSERT INTO index_facts (name, value) VALUES (%s, %s) "
        "ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value",
        (GRAPH_FACT, graph.stored()),
    )


def _build(connection: RawConnection, tenant_id: str, name: str, chunks: int, dimension: int) -> None:
    """Make the index; the server has room for it in memory, where it can be given that."""
    partition = connection.execute("SELECT tableoid::regclass::text AS name FROM searched_vectors LIMIT 1").fetchone()
    if partition is None:
        return
    kilobytes = min(_MOST_BUILD_MEMORY, chunks * (5 * dimension + 2 * _LINKS * _BYTES_PER_LINK)) // 1024
    connection.execute(
        "SELECT set_config('maintenance_work_mem', greatest(setting::bigint, %s)::text, false) FROM pg_settings "
        "WHERE name = 'maintenance_work_mem'",
        (kilobytes,),
    )
    create = (
        f"CREATE INDEX CONCURRENTLY {name} ON {partition['name']} USING hnsw ((vector::vector({dimension})) "
        f"vector_ip_ops) WITH (m = {_LINKS}, ef_construction = {_BUILD_WIDTH}) "
        f"WHERE tenant = '{tenant_id}' AND vector_dims(vector) = {dimension}"
    ).encode()
    try:
        connection.execute(create)
    except psycopg.errors.DiskFull:  # of the memory that several processes share, in a container often little
        drop(connection, [name])
        connection.execute("SET max_parallel_maintenance_workers = 0")
        connection.execute(create)


def _measured_width(connection: RawConnection, tenant_id: str) -> int | None:
    """How many of the nearest a search must look at; None when the most that there can be are not enough."""
    rows = connection.execute(
        "SELECT vector::text AS vector FROM searched_vectors ORDER BY hashint8(chunk) LIMIT %s", (2 * _QUERIES,)
    ).fetchall()
    own = np.array([json.loads(row["vector"]) for row in rows], dtype=np.float32)  # [2 n, d]
    half = len(own) // 2
    mixed = own[:half] + np.float32(_MIXED) * own[half : 2 * half]  # [n, d]
    queries = list(mixed / np.linalg.norm(mixed, axis=1, keepdims=True).clip(1e-9))
    asked = PostgresConnection(connection, of_tenant=True)
    truth = [exact(asked, tenant_id, query, _MEASURED_COUNT) for query in queries]
    for width in _WIDTHS:
        connection.execute(f"SET hnsw.ef_search = {width}".encode())
        found = [through_graph(asked, tenant_id, query, _MEASURED_COUNT) for query in queries]
        if sum(map(_recall, truth, found)) >= _ENOUGH * len(queries):
            return width
    return None


def _recall(truth: Nearest, found: Nearest) -> float:
    """The share of the nearest that was found; what is as near as the last of them counts as well."""
    if not truth[1]:
        return 1.0
    return sum(score >= truth[1][-1] - _SAME for score in found[1]) / len(truth[1])
