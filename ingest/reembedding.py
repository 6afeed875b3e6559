"""Every chunk of a corpus embedded anew, then searched by the new vectors at once: never by a mixture.

The new vectors grow in a table of their own, committed in portions, so that an interruption of any kind costs one
portion. When no chunk lacks one, a single transaction puts that table in the place of the old. Knows the tables
``chunks`` and ``vectors``; knows no tenant and no index in memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ingest import vector_store
from ingest.checksums import of_vector
from ingest.database import Connection, Database, is_sqlite
from ingest.embedding import Embedder, embedded_text

_AT_ONCE = 64  # chunks between two commits
_EXCHANGED_AT_ONCE = 500
_NEXT_EMBEDDER = "next embedder"
_NEW_VECTORS = """
CREATE TABLE IF NOT EXISTS next_vectors (
    chunk INTEGER PRIMARY KEY REFERENCES chunks (number) ON DELETE CASCADE,
    vector BLOB NOT NULL,                      -- float32, little-endian
    sum INTEGER
)
"""


def reembed(
    database: Database,
    embedder: Embedder,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Embed every chunk with ``embedder``, going on where an earlier call with the same one was interrupted.

    Nothing else may add documents meanwhile; deleting is fine.

    Args:
        on_progress: told how many chunks of how many are embedded.
        should_stop: asked between portions.

    Returns:
        whether the new vectors are in use; false when asked to stop before.

    Raises:
        EmbedderUnavailable: the embedding model cannot be loaded.
    """
    with database.write() as connection:
        _begin(connection, embedder.fingerprint)
    while not should_stop():
        with database.read() as connection:
            done, total = connection.execute(
                "SELECT (SELECT count(*) FROM next_vectors), (SELECT count(*) FROM chunks)"
            ).fetchone()
            portion = connection.execute(
                "SELECT chunks.number, chunks.text, documents.title AS title "
                "FROM chunks JOIN documents ON documents.id = chunks.document_id "
                "WHERE chunks.number > (SELECT coalesce(max(chunk), 0) FROM next_vectors) "
                "ORDER BY chunks.number LIMIT ?",
                (_AT_ONCE,),
            ).fetchall()
        on_progress(done, total)
        if not portion:
            with database.write() as connection:
                _switch(connection, embedder.fingerprint)
            return True
        vectors = embedder.encode([embedded_text(row["title"], row["text"]) for row in portion])  # [n, d]
        with database.write() as connection:
            connection.executemany(
                "INSERT INTO next_vectors (chunk, vector, sum) SELECT number, ?, ? FROM chunks WHERE number = ?",
                [
                    (stored := vector.astype("<f4").tobytes(), of_vector(stored), row["number"])
                    for row, vector in zip(portion, np.asarray(vectors), strict=True)
                ],
            )
    return False


def _begin(connection: Connection, fingerprint: str) -> None:
    """Make room for new vectors, or keep those that the same embedder made before."""
    if is_sqlite(connection):
        connection.execute(_NEW_VECTORS)
    if vector_store.fact(connection, _NEXT_EMBEDDER) != fingerprint:
        connection.execute("DELETE FROM next_vectors")
        vector_store.note(connection, _NEXT_EMBEDDER, fingerprint)


def _switch(connection: Connection, fingerprint: str) -> None:
    if is_sqlite(connection):
        connection.execute("DROP TABLE vectors")
        connection.execute("ALTER TABLE next_vectors RENAME TO vectors")
    else:
        from ingest.postgres import graphs

        graphs.drop_within(connection)  # or it would take up every vector one by one
        _exchange(connection)
        connection.execute("DELETE FROM next_vectors")
    connection.execute("DELETE FROM index_facts WHERE name = ?", (_NEXT_EMBEDDER,))
    vector_store.note_embedder(connection, fingerprint)
    vector_store.forget_lists(connection)


def _exchange(connection: Connection) -> None:
    """Put every next vector in the place of the one that is there: in statements of which none takes long, since a
    server that is silent for long is given up."""
    done = 0
    while True:
        last = connection.execute(
            "SELECT max(chunk) FROM (SELECT chunk FROM next_vectors WHERE chunk > ? ORDER BY chunk LIMIT ?) AS portion",
            (done, _EXCHANGED_AT_ONCE),
        ).fetchone()[0]
        if last is None:
            return
        connection.execute("DELETE FROM vectors WHERE chunk <= ? AND chunk > ?", (last, done))
        connection.execute(
            "INSERT INTO vectors (chunk, vector, sum) SELECT chunk, vector, sum FROM next_vectors "
            "WHERE chunk <= ? AND chunk > ?",
            (last, done),
        )
        done = last
