"""The extension pgvector, and the table in which it searches vectors: derived from ``vectors``, and only where wanted.

A trigger keeps it in step, whoever writes: a process that searches in its memory, one that embeds everything anew, or
a data folder that is moved here. What was there before the table is filled in, a portion at a time. The tenants lie in
partitions, so that a graph over one tenant's vectors (``ingest.postgres.graphs``) reads a part of all vectors only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import psycopg

from ingest.errors import UnsuitableDatabase
from ingest.postgres.connection import PostgresRow
from ingest.postgres.database import PostgresServer
from ingest.postgres.graphs import drop_of_strangers

COMPONENT: Final = "vector search"
PARTITIONS: Final = 32
_OLDEST = (0, 5)  # the first with HNSW
_FILLED_AT_ONCE = 500  # vectors, for as long as a tenant's other writes may wait: about 0.2 s

_VECTORS: Final = f"""
CREATE FUNCTION vector_of(stored bytea) RETURNS vector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    -- float32, little-endian, digit by digit: exact. NULL where a value is not finite, which no search ranks.
    SELECT CASE WHEN bool_and(exponent < 255) THEN array_agg(sign * CASE exponent
        WHEN 255 THEN 0 WHEN 0 THEN fraction * 2.0::float8 ^ -149
        ELSE (fraction + 8388608) * 2.0::float8 ^ (exponent - 150) END ORDER BY place)::real[]::vector END
    FROM (
        SELECT place, CASE WHEN b3 >= 128 THEN -1.0::float8 ELSE 1.0::float8 END AS sign,
            ((b3 & 127) << 1) | (b2 >> 7) AS exponent, ((b2 & 127) << 16) | (b1 << 8) | b0 AS fraction
        FROM (
            SELECT place, get_byte(plain, 4 * place) AS b0, get_byte(plain, 4 * place + 1) AS b1,
                get_byte(plain, 4 * place + 2) AS b2, get_byte(plain, 4 * place + 3) AS b3
            FROM (SELECT stored || ''::bytea AS plain OFFSET 0) AS unpacked,  -- once, and not for every byte
                generate_series(0, length(plain) / 4 - 1) AS place
            OFFSET 0  -- what is sorted are numbers, and not copies of the whole
        ) AS bytes
    ) AS numbers
$$;

CREATE TABLE searched_vectors (
    tenant text NOT NULL DEFAULT current_setting('lorebase.tenant'),
    chunk bigint NOT NULL,
    document_id text COLLATE "C" NOT NULL,
    vector vector NOT NULL,
    PRIMARY KEY (tenant, chunk),
    FOREIGN KEY (tenant, chunk) REFERENCES vectors (tenant, chunk) ON DELETE CASCADE
) PARTITION BY HASH (tenant);
{
    "".join(
        f"CREATE TABLE searched_vectors_{number} PARTITION OF searched_vectors "
        f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number}) WITH (toast_tuple_target = 8160);"
        for number in range(PARTITIONS)
    )
}
CREATE INDEX searched_vectors_by_document ON searched_vectors (tenant, document_id);

CREATE FUNCTION search_vector() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    made vector := vector_of(new.vector);
BEGIN
    IF made IS NOT NULL THEN
        INSERT INTO searched_vectors (tenant, chunk, document_id, vector)
        SELECT new.tenant, new.chunk, document_id, made FROM chunks
        WHERE chunks.tenant = new.tenant AND number = new.chunk
        ON CONFLICT (tenant, chunk) DO UPDATE SET vector = excluded.vector;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER searched_vector AFTER INSERT OR UPDATE OF vector ON vectors
    FOR EACH ROW EXECUTE FUNCTION search_vector();

CREATE TABLE vector_search (one integer PRIMARY KEY CHECK (one = 1), filled boolean NOT NULL);
INSERT INTO vector_search (one, filled) VALUES (1, false);
"""  # noqa: S608 - constants

VECTOR_TABLES: Final[list[str]] = [_VECTORS]
"""Migrations of the component `COMPONENT`."""

_FILL = """
    WITH portion AS (SELECT chunk, vector FROM vectors WHERE chunk > ? ORDER BY chunk LIMIT ?),
    missing AS (
        SELECT chunk, document_id, vector_of(vector) AS made FROM portion JOIN chunks ON number = chunk
        WHERE NOT EXISTS (SELECT 1 FROM searched_vectors AS there WHERE there.chunk = portion.chunk) OFFSET 0
    ),
    filled AS (
        INSERT INTO searched_vectors (chunk, document_id, vector) SELECT * FROM missing WHERE made IS NOT NULL
    )
    SELECT count(*) AS seen, max(chunk) AS last FROM portion
"""


def prepare(server: PostgresServer, on_progress: Callable[[int], None] = lambda done: None) -> None:
    """Let vectors be searched in a database: its extension, its table, and in that every vector that is stored.

    An interrupted call goes on with the next one. Others may serve the database meanwhile.

    Args:
        on_progress: told from time to time how many vectors were looked at.

    Raises:
        UnsuitableDatabase: the extension is not there, or too old.
        IncompatibleDatabase, DatabaseUnavailable
    """
    with server.connected() as connection:
        if (problem := extension_problem(connection, create=True)) is not None:
            raise UnsuitableDatabase(problem)
        drop_of_strangers(connection)
    server.add_tables(COMPONENT, VECTOR_TABLES)
    if not server.execute("SELECT filled FROM vector_search")[0]["filled"]:
        done = 0
        for tenant in server.execute("SELECT id FROM tenants ORDER BY id"):
            done = _fill(server, tenant["id"], done, on_progress)
        server.execute("UPDATE vector_search SET filled = true")


def _fill(server: PostgresServer, tenant_id: str, done: int, on_progress: Callable[[int], None]) -> int:
    database = server.database(tenant_id)
    last = 0
    while True:
        with database.write() as connection:  # the tenant's other writes wait: none comes in between
            row: Any = connection.execute(_FILL, (last, _FILLED_AT_ONCE)).fetchone()
        if not row["seen"]:
            return done
        last = row["last"]
        done += row["seen"]
        on_progress(done)


def extension_problem(connection: psycopg.Connection[PostgresRow], *, create: bool = False) -> str | None:
    """What keeps vectors from being searched in a database, and what to do; None when nothing does.

    Args:
        create: add the extension where it is not in the database yet; else only try whether that can be done.
    """
    found = connection.execute(
        "SELECT extversion AS version FROM pg_extension WHERE extname = 'vector' UNION ALL "
        "SELECT default_version FROM pg_available_extensions WHERE name = 'vector' AND installed_version IS NULL"
    ).fetchone()
    if found is None:
        return (
            "LOREBASE_VECTOR_SEARCH=database needs the extension pgvector, which the database server does not have: "
            "install it there (the packages are called postgresql-NN-pgvector), or set LOREBASE_VECTOR_SEARCH=memory."
        )
    version = tuple(map(int, re.findall(r"\d+", found["version"])[:3]))
    if version < _OLDEST:
        return (
            f"pgvector {found['version']} is too old for LOREBASE_VECTOR_SEARCH=database, which needs 0.5.0 or newer: "
            "install a newer one on the database server and have a superuser run ALTER EXTENSION vector UPDATE, or set "
            "LOREBASE_VECTOR_SEARCH=memory."
        )
    try:
        with connection.transaction(force_rollback=not create):
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.errors.InsufficientPrivilege:
        return (
            "The extension pgvector is not in this database, and the role may not add it: have a superuser run "
            "CREATE EXTENSION vector there, or set LOREBASE_VECTOR_SEARCH=memory."
        )
    return None
