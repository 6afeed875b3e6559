"""Keyword search: words are found in any form and script, nothing of a query is syntax, deletes leave no trace."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from uuid import uuid4

import pytest

from ingest import keyword_index
from ingest.corpus import Corpus
from ingest.database import Database, SqliteDatabase, is_sqlite
from ingest.postgres import PostgresServer
from ingest.records import NewDocument
from ingest.retrieval import RetrievalOptions
from ingest.schema import DOCUMENT_MIGRATIONS
from tests.ingest.hashing_embedder import HashingEmbedder
from tests.ingest.test_corpus import InProcessParser

KEYWORD = RetrievalOptions(mode="keyword")


def ingest(corpus: Corpus, text: str, title: str | None = None, collection: str = "default") -> str:
    with corpus._database.write() as connection:
        new = NewDocument(title, "text", text.encode(), collection=collection, is_text=True)
        added = corpus.add(connection, new)
    assert corpus.process(added.id, InProcessParser()) == "ready"
    return added.id


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("The committee discussed several holidays.", "holiday discussion"),
        ("A café in Zürich.", "cafe ZURICH"),
        ("他的职业是医生，住在北京。", "职业"),
        ("他的职业是医生，住在北京。", "他住在哪里？北京吗"),
        ("他的职业是医生，住在北京。", "医"),
        ("東京タワーは高さ333メートルです。", "タワー"),
        ("서울에서 회의가 열렸다.", "서울"),
        ("Our Python服务 runs.", "服务"),
        ("An eﬃcient plan", "efficient"),
        ("ＡＢＣ１２ form", "abc12"),
        ("हिन्दी में लिखा", "हिन्दी"),
        ("Серверы в Москве", "москве"),
        ("The WHO said so.", "WHO"),
        ("To be or not to be.", "to be or not to be"),
        ("state-of-the-art methods", "state-of-the-art"),
        ("C3PO's manual_v2 file", "what's in manual_v2?"),
    ],
)
def test_words_are_found_in_any_script(corpus: Corpus, text: str, query: str) -> None:
    ingest(corpus, "Something else entirely: 完全不同的事情。")
    wanted = ingest(corpus, text)
    found = corpus.search(query, 1, options=KEYWORD)
    assert [passage.document_id for passage in found] == [wanted]
    assert found[0].scores.keyword == found[0].score > 0


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '""',
        "a OR",
        "NEAR(",
        "text:holiday",
        "-holiday",
        "hol*",
        "(",
        "^x",
        "{a b}",
        "' OR 1=1 --",
        "\ud800",
        "?!",
        "",
    ],
)
def test_nothing_of_a_query_is_syntax(corpus: Corpus, query: str) -> None:
    ingest(corpus, "Some holiday text.")
    corpus.search(query, 5, options=KEYWORD)
    corpus.search(query, 5)


def test_a_very_long_question_is_answered(corpus: Corpus) -> None:
    ingest(corpus, "word7 stands here")
    assert corpus.search(" ".join(f"word{n}" for n in range(3000)), 5, options=KEYWORD)


def test_a_title_counts(corpus: Corpus) -> None:
    ingest(corpus, "Nothing of that word in here.", title="Pensions")
    assert [p.title for p in corpus.search("pension", 3, options=KEYWORD)] == ["Pensions"]


def test_only_passages_that_share_a_word_are_found(corpus: Corpus) -> None:
    ingest(corpus, "apples and pears")
    assert corpus.search("steam engine", 3, options=KEYWORD) == []


def test_deleted_documents_leave_the_index_consistent(corpus: Corpus, database: Database) -> None:
    gone = ingest(corpus, "The turbine hall. 涡轮机", title="Turbines")
    stays = ingest(corpus, "The turbine maker.")
    corpus.delete(gone)
    assert [p.document_id for p in corpus.search("turbine", 3, options=KEYWORD)] == [stays]
    assert corpus.search("涡轮", 3, options=KEYWORD) == []
    with database.write() as connection:
        if is_sqlite(connection):
            connection.execute("INSERT INTO keywords (keywords, rank) VALUES ('integrity-check', 1)")
        else:
            assert tuple(connection.execute("SELECT chunks, terms FROM keyword_totals").fetchone()) == (1, 3)
            words = connection.execute("SELECT term FROM keywords ORDER BY term")
            assert [row["term"] for row in words] == ["maker", "the", "turbin"]


def test_both_kinds_of_database_score_alike(tmp_path: Path, postgres: PostgresServer) -> None:
    texts = [
        ("Turbines", "The turbines turn; a turbine hall holds four of them."),
        (None, "Café crème, naïve façades and an eﬃcient plan for the hall."),
        ("东京", "東京タワーは高さ333メートルです。他的职业是医生。"),
        (None, "Relational, conditional, generalizations; the running runners ran. turbine turbine turbine"),
        ("manual_v2", "state-of-the-art x2 HALL hall's ABC12 ＡＢＣ１２ हिन्दी में लिखा Серверы в Москве"),
    ]
    queries = [
        "turbine hall",
        "cafe facade",
        "医",
        "タワー 职业",
        "generalization relation",
        "state of art",
        "в москве",
    ]
    found = []
    for database in (
        SqliteDatabase(tmp_path / "tenant.sqlite", {"documents": DOCUMENT_MIGRATIONS}), postgres.database(uuid4().hex)
    ):  # fmt: skip
        corpus = Corpus(database, HashingEmbedder())
        for title, text in texts:
            ingest(corpus, text, title)
        found.append(
            [[(p.text, pytest.approx(p.score)) for p in corpus.search(q, 5, options=KEYWORD)] for q in queries]
        )
        with database.read() as connection:
            found[-1].append([("ceiling", pytest.approx(keyword_index.ceiling(connection, q))) for q in queries])
        database.close()
    assert all(found[0])
    assert found[0] == found[1]


def test_documents_of_before_the_keyword_index_are_indexed_when_their_database_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    SqliteDatabase(path, {"documents": DOCUMENT_MIGRATIONS[:1]}).close()
    with sqlite3.connect(path) as old:
        old.execute(
            "INSERT INTO documents (id, collection, title, name, is_text, metadata, sha256, bytes, chunks, status, "
            "created_at, updated_at) VALUES (?, 'default', 'Turbines', 'a', 1, '{}', 'x', 1, 1, 'ready', '', '')",
            ("a" * 32,),
        )
        old.execute(
            'INSERT INTO chunks (document_id, position, start, "end", text) VALUES (?, 0, 0, 9, ?)',
            ("a" * 32, "hall 涡轮机"),
        )
    old.close()
    database = SqliteDatabase(path, {"documents": DOCUMENT_MIGRATIONS})
    corpus = Corpus(database, HashingEmbedder())
    for query in ("turbine", "hall", "涡轮"):
        assert [p.document_id for p in corpus.search(query, 3, options=KEYWORD)] == ["a" * 32]
    corpus.delete("a" * 32)
    with database.write() as connection:
        connection.execute("INSERT INTO keywords (keywords, rank) VALUES ('integrity-check', 1)")
    database.close()


def test_a_score_never_exceeds_the_ceiling_of_its_query(corpus: Corpus, database: Database) -> None:
    for number in range(20):
        ingest(corpus, f"report {number} about turbines " + "valve " * number)
    with database.read() as connection:
        numbers, scores = keyword_index.search(connection, "valve report 7", 30)
        ceiling = keyword_index.ceiling(connection, "valve report 7")
        assert 0 < max(scores) <= ceiling
        again = keyword_index.scores(connection, "valve report 7", numbers[:5])
        assert again == dict(zip(numbers[:5], scores[:5], strict=True))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("What is the height of the lighthouse?", ["height", "lighthouse"]),
        ("Who runs the WHO?", ["runs", "WHO"]),
        ("what is it", []),
        ("the café's opening, the café", ["café", "opening"]),
        ("東京 tower", ["tower"]),
    ],
)
def test_the_telling_words_of_a_query_are_those_that_say_what_it_is_about(query: str, words: list[str]) -> None:
    assert keyword_index.telling_words(query) == words
