"""Dense search by pgvector: what is asked of the table ``searched_vectors``, exactly or through a tenant's graph.

A graph is an HNSW index over the vectors of one tenant alone. A search through a graph over many tenants would find
some nearest vectors, drop those that are others', and have too few left; through this one nothing is dropped, since
its condition names the tenant, as these statements do. Row-level security holds beside that. What a graph cannot tell
is searched exactly: when a filter leaves few rows, when it gives fewer rows than are wanted, and when many are wanted.

Every function takes an open connection and leaves transactions to its caller.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.database import Connection

Nearest = tuple[list[int], list[float]]
"""Chunk numbers and their scores (inner products), best first."""
GRAPH_FACT = "graph"
"""The name in ``index_facts`` under which a tenant's graph is noted."""
MOST_WIDTH = 1000
"""pgvector's limit of ``hnsw.ef_search``."""
_FILTER_SHARE = 0.5  # of the chunks: a filter that leaves fewer is searched exactly
_SPARE = 1.5  # times what a filter is expected to let through

_LOOK = f"""
    SELECT (SELECT value FROM index_facts WHERE name = 'embedder' AND EXISTS (SELECT 1 FROM vectors)) AS embedder,
        coalesce((SELECT chunks FROM keyword_totals), 0) AS chunks, graph.value AS graph,
        set_config('jit', 'off', true),
        set_config('hnsw.ef_search', coalesce(graph.value::json ->> 'width', '40'), true)
    FROM (SELECT 1) AS one LEFT JOIN index_facts AS graph ON graph.name = '{GRAPH_FACT}'
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What is noted of a tenant's graph.

    Attributes:
        embedder: fingerprint of the one that made its vectors.
        chunks: how many there were when it was measured.
        width: how many of the nearest a search must look at for the recall that is asked for; None where no width
            gives it, and searches are exact.
    """

    embedder: str
    chunks: int
    width: int | None

    def stored(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class SearchState:
    """What a search must know first: the embedder of the stored vectors, None where there are none; how many chunks
    there are; and what is noted of the graph."""

    embedder: str | None
    chunks: int
    graph: GraphFacts | None


def look(connection: Connection) -> SearchState:
    """The state of a tenant's vectors, and the transaction set to search them: one round trip."""
    row: Any = connection.execute(_LOOK).fetchone()
    graph = GraphFacts(**json.loads(row["graph"])) if row["graph"] is not None else None
    return SearchState(row["embedder"], row["chunks"], graph)


def search(
    connection: Connection,
    tenant_id: str,
    state: SearchState,
    vector: NDArray[np.float32],
    count: int,
    documents: Sequence[str] | None,
) -> Nearest:
    """The ``count`` nearest chunks, of these documents if any are given, after `look` in the same transaction."""
    if documents is not None and not documents:
        return [], []
    graph = state.graph
    if graph is not None and graph.width is not None and graph.embedder == state.embedder:
        found = _by_graph(connection, tenant_id, state.chunks, graph.width, vector, count, documents)
        if found is not None:
            return found
    return exact(connection, tenant_id, vector, count, documents)


def exact(
    connection: Connection,
    tenant_id: str,
    vector: NDArray[np.float32],
    count: int,
    documents: Sequence[str] | None = None,
) -> Nearest:
    """As `search`, by looking at every vector."""
    among, values = ("", []) if documents is None else ("AND document_id = ANY(?)", [list(documents)])
    rows = connection.execute(
        f"SELECT chunk, vector <#> ?::vector AS distance FROM searched_vectors "  # noqa: S608 - an id and a number
        f"WHERE tenant = '{tenant_id}' {among} ORDER BY distance, chunk LIMIT {count:d}",
        (written(vector), *values),
    ).fetchall()
    return [row["chunk"] for row in rows], [-row["distance"] for row in rows]


def through_graph(
    connection: Connection,
    tenant_id: str,
    vector: NDArray[np.float32],
    count: int,
    documents: Sequence[str] | None = None,
) -> Nearest:
    """As `search`, of the nearest that the graph names, as many as ``hnsw.ef_search`` says; maybe fewer."""
    among, values = ("", []) if documents is None else ("AND document_id = ANY(?)", [list(documents)])
    dimension = len(vector)
    rows = connection.execute(
        f"SELECT chunk, vector::vector({dimension}) <#> ?::vector AS distance FROM searched_vectors "  # noqa: S608 - see above
        f"WHERE tenant = '{tenant_id}' AND vector_dims(vector) = {dimension} {among} "
        f"ORDER BY distance LIMIT {count:d}",
        (written(vector), *values),
    ).fetchall()
    return [row["chunk"] for row in rows], [-row["distance"] for row in rows]


def _by_graph(
    connection: Connection,
    tenant_id: str,
    chunks: int,
    width: int,
    vector: NDArray[np.float32],
    count: int,
    documents: Sequence[str] | None,
) -> Nearest | None:
    """As `through_graph`, wide enough; None when the graph cannot tell so many."""
    needed = count
    if documents is not None:
        row: Any = connection.execute(
            "SELECT coalesce(sum(chunks), 0)::bigint AS allowed FROM documents WHERE id = ANY(?)", (list(documents),)
        ).fetchone()
        if row["allowed"] < _FILTER_SHARE * chunks:
            return None
        needed = int(_SPARE * count * chunks / row["allowed"])
    if needed > MOST_WIDTH:
        return None
    if needed > width:
        connection.execute("SELECT set_config('hnsw.ef_search', ?, true)", (str(needed),))
    found = through_graph(connection, tenant_id, vector, count, documents)
    return found if len(found[0]) == count else None


def written(vector: NDArray[np.float32]) -> str:
    """A vector, float32 ``[dimension]``, as pgvector reads it: exact."""
    return f"[{','.join(map(repr, vector.tolist()))}]"
