"""One tenant's database and corpus, as most tests of this package need them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.corpus import Corpus
from ingest.database import Database, SqliteDatabase
from ingest.schema import DOCUMENT_MIGRATIONS
from tests.ingest.hashing_embedder import HashingEmbedder


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = SqliteDatabase(tmp_path / "tenant.sqlite", {"documents": DOCUMENT_MIGRATIONS})
    yield database
    database.close()


@pytest.fixture
def corpus(database: Database) -> Corpus:
    return Corpus(database, HashingEmbedder())
