"""One tenant's corpus, as most tests of this package need it: on either kind of database (`tests.databases`)."""

from __future__ import annotations

import pytest

from ingest.corpus import Corpus
from ingest.database import Database
from tests.ingest.hashing_embedder import HashingEmbedder


@pytest.fixture
def corpus(database: Database) -> Corpus:
    return Corpus(database, HashingEmbedder())
