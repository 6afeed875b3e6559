"""A corpus embedded anew: interrupted and resumed, switched at once, never searched by a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.corpus import Corpus
from ingest.database import Database, SqliteDatabase
from ingest.errors import IndexMismatch
from ingest.reembedding import reembed
from ingest.schema import DOCUMENT_MIGRATIONS
from tests.ingest.hashing_embedder import HashingEmbedder
from tests.ingest.test_corpus import ingest

OLD, NEW = HashingEmbedder(4096, "old"), HashingEmbedder(8192, "new")


class CountingEmbedder(HashingEmbedder):
    """Counts the texts it is given; fails when told to."""

    def __init__(self) -> None:
        super().__init__(8192, "new")
        self.texts: list[str] = []
        self.fails_after = 10**9

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if len(self.texts) >= self.fails_after:
            raise KeyboardInterrupt
        self.texts += texts
        return super().encode(texts)


@pytest.fixture
def database(database: Database) -> Database:
    corpus = Corpus(database, OLD)
    for number in range(80):
        ingest(corpus, f"Subject{number} is told of here.", title=f"Title{number}")
    return database


def test_after_it_the_new_embedder_finds_what_the_old_one_found(database: Database) -> None:
    seen: list[tuple[int, int]] = []
    assert reembed(database, NEW, lambda *progress: seen.append(progress))
    assert (seen[0], seen[-1]) == ((0, 80), (80, 80))
    assert Corpus(database, NEW).search("Title7 Subject7", 1)[0].text == "Subject7 is told of here."
    with pytest.raises(IndexMismatch):
        Corpus(database, OLD).search("Subject7", 1)


def test_new_vectors_equal_those_of_an_ingestion(database: Database, tmp_path: Path) -> None:
    reembed(database, NEW)
    fresh = SqliteDatabase(tmp_path / "fresh.sqlite", {"documents": DOCUMENT_MIGRATIONS})
    corpus = Corpus(fresh, NEW)
    for number in range(80):
        ingest(corpus, f"Subject{number} is told of here.", title=f"Title{number}")
    query = "SELECT vector FROM vectors ORDER BY chunk"
    with database.read() as one, fresh.read() as other:
        assert [tuple(row) for row in one.execute(query)] == [tuple(row) for row in other.execute(query)]
    fresh.close()


def test_an_interrupted_run_goes_on_and_until_its_end_the_old_vectors_answer(database: Database) -> None:
    embedder = CountingEmbedder()
    embedder.fails_after = 64
    with pytest.raises(KeyboardInterrupt):
        reembed(database, embedder)
    assert Corpus(database, OLD).search("Subject3", 1)[0].text == "Subject3 is told of here."
    with pytest.raises(IndexMismatch, match="reindex"):
        Corpus(database, NEW).search("Subject3", 1)
    embedder.fails_after = 10**9
    assert reembed(database, embedder)
    assert len(embedder.texts) == len(set(embedder.texts)) == 80


def test_half_a_run_of_another_embedder_is_not_mixed_in(database: Database) -> None:
    asked = iter([False, True])
    assert not reembed(database, HashingEmbedder(16, "third"), should_stop=lambda: next(asked))
    assert reembed(database, NEW)
    assert Corpus(database, NEW).search("Title9 Subject9", 1)[0].text == "Subject9 is told of here."


def test_what_is_deleted_meanwhile_stays_deleted_and_what_comes_later_is_found(database: Database) -> None:
    corpus = Corpus(database, OLD)
    gone = corpus.search("Title5 Subject5", 1)[0]
    asked = iter([False, True])
    assert not reembed(database, NEW, should_stop=lambda: next(asked))
    corpus.delete(gone.document_id)
    ingest(corpus, "Subject999 is late.")
    assert reembed(database, NEW)
    found = Corpus(database, NEW).search("Subject999 is late", 200)
    assert len(found) == 80
    assert found[0].text == "Subject999 is late."
    assert gone.document_id not in {passage.document_id for passage in found}


def test_documents_can_be_deleted_and_added_after_the_switch(database: Database) -> None:
    reembed(database, NEW)
    corpus = Corpus(database, NEW)
    found = corpus.search("Title5 Subject5", 1)[0]
    corpus.delete(found.document_id)
    ingest(corpus, "Something new.")
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM vectors").fetchone()[0] == 80
    assert corpus.search("Something new", 1)[0].text == "Something new."
