"""The rows of all tenants in one PostgreSQL database, behind the same statements as a tenant's own SQLite file.

The only place that knows psycopg, which is loaded when a server is opened.
"""

from ingest.postgres.conditions import only_while
from ingest.postgres.connecting import connected
from ingest.postgres.database import PostgresDatabase, PostgresMigration, PostgresServer, ServerFacts, look
from ingest.postgres.graphs import drop_of as drop_graphs_of
from ingest.postgres.schema import DOCUMENT_TABLES
from ingest.postgres.session import PostgresSession
from ingest.postgres.vector_tables import COMPONENT as VECTOR_SEARCH
from ingest.postgres.vector_tables import VECTOR_TABLES, extension_problem, prepare

__all__ = [
    "DOCUMENT_TABLES",
    "VECTOR_SEARCH",
    "VECTOR_TABLES",
    "PostgresDatabase",
    "PostgresMigration",
    "PostgresServer",
    "PostgresSession",
    "ServerFacts",
    "connected",
    "drop_graphs_of",
    "extension_problem",
    "look",
    "only_while",
    "prepare",
]
