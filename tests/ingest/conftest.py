"""One tenant's corpus, as most tests of this package need it: on either kind of database (`tests.databases`), and where
PostgreSQL itself searches the vectors."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.storage import TENANT_MIGRATIONS
from ingest.corpus import Corpus
from ingest.database import Database, SqliteDatabase
from ingest.live_index import IndexOptions
from tests.ingest.hashing_embedder import HashingEmbedder

_SERVERS = {"postgresql": "postgres", "pgvector": "vector_postgres"}


@pytest.fixture(params=["sqlite", *_SERVERS])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A tenant's database with all its tables."""
    if request.param == "sqlite":
        opened: Database = SqliteDatabase(tmp_path / "tenant.db", TENANT_MIGRATIONS)
    else:
        opened = request.getfixturevalue(_SERVERS[request.param]).database(uuid.uuid4().hex)
    yield opened
    opened.close()


@pytest.fixture
def index_options(request: pytest.FixtureRequest, database: Database) -> IndexOptions:
    """How the vectors of that database are searched."""
    return IndexOptions(in_database=request.node.callspec.params["database"] == "pgvector")


@pytest.fixture
def corpus(database: Database, index_options: IndexOptions) -> Corpus:
    return Corpus(database, HashingEmbedder(), index=index_options)
