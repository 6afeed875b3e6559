"""The rows of all tenants in one PostgreSQL database, behind the same statements as a tenant's own SQLite file.

The only place that knows psycopg, which is loaded when a server is opened.
"""

from ingest.postgres.conditions import only_while
from ingest.postgres.connecting import connected
from ingest.postgres.database import PostgresDatabase, PostgresMigration, PostgresServer, ServerFacts, look
from ingest.postgres.schema import DOCUMENT_TABLES
from ingest.postgres.session import PostgresSession

__all__ = [
    "DOCUMENT_TABLES",
    "PostgresDatabase",
    "PostgresMigration",
    "PostgresServer",
    "PostgresSession",
    "ServerFacts",
    "connected",
    "look",
    "only_while",
]
