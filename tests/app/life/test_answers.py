"""Answers kept for feedback: joined exactly, bounded, gone with their document; and what a disk may do meanwhile."""

from __future__ import annotations

import time

import pytest

from app.background_writer import BackgroundWriter
from app.life.answers import AnswerStore, Retention, UnknownAnswer
from app.schemas import AdapterUsed, AskRequest, AskResponse, Citation, PassageResponse, Usage
from ingest import Database

TEXT = "The lamp was turned by a clockwork. An electric motor turns it now."


@pytest.fixture(autouse=True)
def documents(database: Database) -> None:
    with database.write() as connection:
        for document_id in ("lamp", "other"):
            connection.execute(
                "INSERT INTO documents (id, collection, name, is_text, metadata, sha256, bytes, status, created_at, "
                "updated_at) VALUES (?, 'default', 'n', 1, '{}', ?, 1, 'ready', '', '')",
                (document_id, document_id),
            )


def store(database: Database, retention: Retention = Retention(), texts: bool = True) -> AnswerStore:  # noqa: B008
    return AnswerStore(database, retention, lambda: texts, lambda _: None)


def passage(document_id: str | None, start: int = 100) -> PassageResponse:
    return PassageResponse(
        chunk_id=f"chunk of {document_id}", document_id=document_id, title="Lamps", text=TEXT, score=0.5, page=3,
        section=None, start=start, end=start + len(TEXT),
    )  # fmt: skip


def answered(request_id: str, *documents: str | None, cited: int = 0) -> tuple[AskRequest, AskResponse]:
    passages = [passage(document_id) for document_id in documents or ("other", "lamp")]
    quote = "An electric motor turns it now."
    start = 100 + TEXT.index(quote)
    citation = Citation(
        index=1, document_id=passages[cited].document_id, chunk_id=passages[cited].chunk_id, title="Lamps", page=3,
        section=None, quote=quote, start=start, end=start + len(quote), score=2.0,
    )  # fmt: skip
    response = AskResponse(
        request_id=request_id, answer="An electric motor", abstained=False, confidence=0.75, citations=[citation],
        passages=passages, adapter=AdapterUsed(name="sea", version=2, sha256="ab"),
        usage=Usage(prompt_tokens=1, completion_tokens=1), timings_ms={},
    )  # fmt: skip
    return AskRequest(question="What turns the lamp?"), response


def test_feedback_is_joined_to_the_very_answer(database: Database) -> None:
    answers = store(database)
    answers.note(*answered("one", "other", "lamp", cited=1))
    answers.rate("one", -1, "A motor")
    (rated,), total = answers.page(10, 0)
    assert total == 1
    assert (rated.rating, rated.correction, rated.question) == (-1, "A motor", "What turns the lamp?")
    assert (rated.adapter, rated.version, rated.sha256, rated.confidence) == ("sea", 2, "ab", 0.75)
    assert [p.document_id for p in rated.passages] == ["other", "lamp"]
    assert [p.cited for p in rated.passages] == [False, True]
    assert rated.passages[1].text == TEXT
    assert (rated.citations[0].passage, rated.citations[0].quote) == (1, "An electric motor turns it now.")


def test_the_last_word_counts_and_an_unknown_answer_has_none(database: Database) -> None:
    answers = store(database)
    answers.note(*answered("one"))
    answers.rate("one", -1, "A motor")
    answers.rate("one", 1, None)
    (rated,), total = answers.page(10, 0)
    assert (total, rated.rating, rated.correction) == (1, 1, None)
    assert answers.page(10, 0, rating=-1) == ([], 0)
    assert answers.page(10, 0, adapter="land") == ([], 0)
    for unknown in ("two", "", "'; DROP TABLE answers"):
        with pytest.raises(UnknownAnswer):
            answers.rate(unknown, 1, None)
    answers.forget("one")
    assert list(answers.export()) == []


def test_a_deleted_document_takes_its_words_out_of_what_is_kept(database: Database) -> None:
    answers = store(database)
    answers.note(*answered("cites it", "other", "lamp", cited=1))
    answers.note(*answered("only read it", "other", "lamp", cited=0))
    answers.write_waiting()
    answers.note(*answered("comes too late", "lamp"))
    with database.write() as connection:
        connection.execute("DELETE FROM documents WHERE id = 'lamp'")
    for request_id in ("cites it", "only read it", "comes too late"):
        answers.rate(request_id, -1, None)
    kept = {rated.request_id: rated for rated in answers.export()}
    assert [p.document_id for p in kept["cites it"].passages] == ["other"]
    assert (kept["cites it"].answer, kept["cites it"].citations) == (None, ())
    assert kept["only read it"].answer == "An electric motor"
    assert len(kept["only read it"].citations) == 1
    assert (kept["comes too late"].answer, kept["comes too late"].passages) == (None, ())


def test_without_texts_only_figures_are_kept(database: Database) -> None:
    answers = store(database, texts=False)
    answers.note(*answered("one"))
    answers.rate("one", 1, None)
    (rated,) = answers.export()
    assert (rated.question, rated.answer, rated.passages, rated.citations) == (None, None, (), ())
    assert (rated.adapter, rated.version, rated.confidence, rated.rating) == ("sea", 2, 0.75, 1)


def test_nothing_is_kept_where_nothing_shall_be(database: Database) -> None:
    answers = store(database, Retention(answers=0))
    answers.note(*answered("one"))
    with pytest.raises(UnknownAnswer):
        answers.rate("one", 1, None)


def test_what_is_kept_is_bounded_by_count_and_age_and_rated_answers_stay_longer(database: Database) -> None:
    answers = store(database, Retention(answers=10, days=1, feedback=2))
    for i in range(4):
        answers.note(*answered(f"rated {i}"))
        answers.rate(f"rated {i}", 1, None)
    for i in range(300):
        answers.note(*answered(f"unrated {i}"))
    answers.write_waiting()
    assert [rated.request_id for rated in answers.export()] == ["rated 2", "rated 3"]
    with database.read() as connection:
        left = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        passages = connection.execute("SELECT count(*) FROM answer_passages").fetchone()[0]
    assert left == 2 + 10
    assert passages == 2 * left
    with database.write() as connection:
        connection.execute("UPDATE answers SET at = at - 90000")
    for i in range(256):
        answers.note(*answered(f"later {i}"))
    answers.write_waiting()
    with pytest.raises(UnknownAnswer):
        answers.rate("unrated 299", 1, None)
    assert len(list(answers.export())) == 2


def test_the_writer_keeps_what_is_noted_and_ends_in_order(database: Database) -> None:
    writer = BackgroundWriter("answer-writer", 0.2)
    answers = AnswerStore(database, Retention(), lambda: True, writer.wake)
    answers.note(*answered("one"))
    for _ in range(100):
        with database.read() as connection:
            if connection.execute("SELECT count(*) FROM answers").fetchone()[0] == 1:
                break
        time.sleep(0.05)
    else:
        pytest.fail("the answer was not written")
    answers.note(*answered("two"))
    writer.stop()
    answers.write_waiting()  # as closing the workspace does
    answers.rate("two", 1, None)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # of the other kind: test_postgres_over_http
def test_an_answer_that_cannot_be_written_now_waits(database: Database) -> None:
    answers = store(database)
    with database.write() as connection:
        connection.execute("ALTER TABLE answers RENAME TO elsewhere")
    answers.note(*answered("one"))
    assert not answers.write_waiting()
    with database.write() as connection:
        connection.execute("ALTER TABLE elsewhere RENAME TO answers")
    answers.rate("one", 1, None)
    assert len(list(answers.export())) == 1
