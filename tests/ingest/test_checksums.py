"""What a disk changed by itself is found when it is read: vectors are made again, texts are refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ingest import checksums
from ingest.corpus import Corpus
from ingest.database import Database, SqliteDatabase
from ingest.errors import DamagedData
from ingest.schema import DOCUMENT_MIGRATIONS
from tests.ingest.hashing_embedder import HashingEmbedder
from tests.ingest.test_corpus import ingest


def change(database: Database, statement: str, *values: object) -> None:
    with database.write() as connection:
        connection.execute(statement, values)


@pytest.mark.parametrize("damaged", [bytes(256 * 4), b"short"], ids=["of the same length", "shorter"])
def test_a_damaged_vector_is_made_again_from_its_text(database: Database, corpus: Corpus, damaged: bytes) -> None:
    for word in ("anchor", "beacon"):
        ingest(corpus, f"The {word} lies here.")
    with database.read() as connection:
        before = connection.execute("SELECT vector FROM vectors ORDER BY chunk").fetchall()
    change(database, "UPDATE vectors SET vector = ?", damaged)
    assert "beacon" in Corpus(database, HashingEmbedder()).search("beacon", 1)[0].text
    with database.read() as connection:
        after = connection.execute("SELECT vector FROM vectors ORDER BY chunk").fetchall()
    assert [row["vector"] for row in after] == [row["vector"] for row in before]


def test_a_damaged_text_is_never_answered(database: Database, corpus: Corpus) -> None:
    document_id = ingest(corpus, "The lamp is lit at six.")
    change(database, "UPDATE chunks SET text = replace(text, 'six', 'ten')")
    with pytest.raises(DamagedData, match=document_id):
        corpus.search("lamp", 1)


def test_text_that_is_no_text_is_damage(database: Database, corpus: Corpus) -> None:
    if not isinstance(database, SqliteDatabase):
        pytest.skip("PostgreSQL itself refuses text that is none")
    ingest(corpus, "The lamp is lit at six.")
    change(database, "UPDATE chunks SET text = CAST(x'ff41' AS TEXT), section = CAST(x'bc' AS TEXT)")
    with pytest.raises((DamagedData, sqlite3.OperationalError)):
        corpus.search("lamp", 1)


def test_rows_of_before_get_their_checksums(tmp_path: Path) -> None:
    path = tmp_path / "tenant.sqlite"
    before = SqliteDatabase(
        path, {"documents": DOCUMENT_MIGRATIONS[: DOCUMENT_MIGRATIONS.index(checksums.add_to_existing)]}
    )
    ingest(Corpus(before, HashingEmbedder()), "The lamp is lit at six.")
    with before.write() as connection:
        connection.execute("UPDATE vectors SET sum = NULL")
        connection.execute("UPDATE chunks SET sum = NULL")
    before.close()
    after = SqliteDatabase(path, {"documents": DOCUMENT_MIGRATIONS})
    with after.read() as connection:
        assert connection.execute("SELECT count(sum) FROM vectors").fetchone()[0] == 1
        assert connection.execute("SELECT count(sum) FROM chunks").fetchone()[0] == 1
    assert Corpus(after, HashingEmbedder()).search("lamp", 1)
    after.close()
