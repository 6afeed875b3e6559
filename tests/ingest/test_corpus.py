"""One tenant's documents: durable when acknowledged, found when ready, gone when deleted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.corpus import Corpus
from ingest.database import Database, SqliteDatabase
from ingest.errors import (
    DocumentNotReady,
    IndexMismatch,
    InvalidDocument,
    InvalidFilter,
    UnknownDocument,
    UnreadableDocument,
)
from ingest.live_index import IndexOptions
from ingest.parsing.dispatch import parse
from ingest.parsing.document import ParsedDocument
from ingest.records import AddedDocument, NewDocument
from ingest.schema import DOCUMENT_MIGRATIONS
from ingest.splitting import SplitConfig
from tests.ingest.hashing_embedder import HashingEmbedder

LEAVE = "Employees are granted twenty-five days of paid holiday each year."
PAY = "Salaries are transferred to bank accounts on the last working day."


class InProcessParser:
    """Parses in this process; ``before`` runs first, to make things happen meanwhile."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.before = before

    def parse(self, name: str, content: bytes) -> ParsedDocument:
        self.before()
        return parse(name, content)


class SlowStartEmbedder(HashingEmbedder):
    """Lets the test act between embedding and commit."""

    def __init__(self, during: Callable[[], None]) -> None:
        super().__init__()
        self.during = during

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.during()
        return super().encode(texts)


def add(corpus: Corpus, text: str, **fields: Any) -> AddedDocument:
    values: dict[str, Any] = {"title": None, "name": "note.txt", "is_text": True} | fields
    with corpus._database.write() as connection:
        return corpus.add(connection, NewDocument(content=text.encode(), **values))


def ingest(corpus: Corpus, text: str, **fields: Any) -> str:
    added = add(corpus, text, **fields)
    assert corpus.process(added.id, InProcessParser()) == "ready"
    return added.id


def test_an_ingested_document_is_found(corpus: Corpus) -> None:
    ingest(corpus, PAY, title="Pay")
    leave = ingest(corpus, LEAVE, title="Leave")
    found = corpus.search("How many days of holiday?", 5)
    assert [passage.title for passage in found] == ["Leave", "Pay"]
    assert found[0].document_id == leave
    assert found[0].text == LEAVE == corpus.text(leave)[found[0].start : found[0].end]
    assert found[0].score > found[1].score


def test_text_given_as_text_is_kept_to_the_letter(corpus: Corpus) -> None:
    text = "  One\r\n\r\nTwo\ttabs \u00a0 and \ufeff marks\u2028é e\u0301 \U0001f600\n\n\n"
    document_id = ingest(corpus, text)
    assert corpus.text(document_id) == text
    chunks, total = corpus.chunks(document_id)
    assert total == len(chunks) > 0
    assert all(chunk.text == text[chunk.start : chunk.end] for chunk in chunks)


def test_passages_of_a_long_document_are_slices_of_its_text(corpus: Corpus) -> None:
    text = "\n\n".join(f"Paragraph {n} speaks of subject{n} 😀. " * 12 for n in range(30))
    document_id = ingest(corpus, text)
    for passage in corpus.search("subject7 subject8", 10):
        assert passage.text == text[passage.start : passage.end]
    assert corpus.document(document_id).chunks == corpus.counts().chunks >= 30


def test_a_new_document_is_pending_and_has_no_text_yet(corpus: Corpus) -> None:
    added = add(corpus, LEAVE, title="Leave")
    assert (added.status, added.duplicate, added.title) == ("pending", False, "Leave")
    assert corpus.document(added.id).status == "pending"
    assert corpus.search("holiday", 5) == []
    with pytest.raises(DocumentNotReady):
        corpus.text(added.id)


def test_the_same_content_is_one_document_in_its_collection(corpus: Corpus) -> None:
    first = ingest(corpus, LEAVE)
    again = add(corpus, LEAVE, title="Another title")
    assert again == AddedDocument(first, "note.txt", "ready", duplicate=True)
    assert add(corpus, LEAVE, collection="other").id != first
    assert corpus.process(first, InProcessParser()) == "ready"
    assert corpus.counts().documents == 2


def test_a_file_and_a_text_of_the_same_bytes_are_two_documents(corpus: Corpus) -> None:
    assert add(corpus, LEAVE, is_text=False).id != add(corpus, LEAVE, is_text=True).id


def test_an_unreadable_file_fails_with_its_reason_and_can_be_tried_again(corpus: Corpus) -> None:
    added = add(corpus, "\x00\x01binary", name="x.txt", is_text=False)
    assert corpus.process(added.id, InProcessParser()) == "failed"
    document = corpus.document(added.id)
    assert document.status == "failed"
    assert "a binary file" in (document.error or "")
    again = add(corpus, "\x00\x01binary", name="y.txt", is_text=False, title="Second try")
    assert (again.id, again.status, again.duplicate) == (added.id, "pending", True)
    assert (corpus.document(added.id).title, corpus.document(added.id).error) == ("Second try", None)


@pytest.mark.parametrize("content", [b"", b" \n ", b"\xff\xfe\xff", b"a\x00b"])
def test_text_that_is_none_fails_with_a_reason(corpus: Corpus, database: Database, content: bytes) -> None:
    with database.write() as connection:
        added = corpus.add(connection, NewDocument(title=None, name="t", content=content, is_text=True))
    assert corpus.process(added.id, InProcessParser()) == "failed"
    assert corpus.document(added.id).error


def test_a_document_takes_the_title_its_file_gives(corpus: Corpus) -> None:
    titled = ingest(corpus, "# Handbook\n\nSome words.", name="h.md", is_text=False)
    given = ingest(corpus, "# Handbook\n\nOther words.", name="h.md", is_text=False, title="Given")
    assert corpus.document(titled).title == "Handbook"
    assert corpus.document(given).title == "Given"
    assert corpus.chunks(titled)[0][0].section == "Handbook"


def test_the_title_helps_to_find_but_is_not_part_of_the_text(corpus: Corpus) -> None:
    ingest(corpus, PAY)
    ingest(corpus, LEAVE, title="Vacation policy")
    found = corpus.search("vacation policy", 1)
    assert found[0].text == LEAVE


def test_a_deleted_document_is_in_no_answer(corpus: Corpus) -> None:
    leave, pay = ingest(corpus, LEAVE), ingest(corpus, PAY)
    assert len(corpus.search("days", 5)) == 2
    corpus.delete(leave)
    assert [passage.document_id for passage in corpus.search("holiday", 5)] == [pay]
    for call in (corpus.document, corpus.text, corpus.chunks, corpus.delete):
        with pytest.raises(UnknownDocument):
            call(leave)
    assert corpus.counts().chunks == 1


@pytest.mark.parametrize("document_id", ["", "x", "' OR 1=1", "\ud800", "0" * 32, "a\x00", "A" * 32])
def test_a_malformed_id_is_unknown(corpus: Corpus, document_id: str) -> None:
    for call in (corpus.document, corpus.text, corpus.chunks, corpus.delete):
        with pytest.raises(UnknownDocument):
            call(document_id)
    assert corpus.process(document_id, InProcessParser()) == "gone"


def test_deleting_wins_over_processing(corpus: Corpus, database: Database) -> None:
    added = add(corpus, LEAVE, is_text=False)
    parser = InProcessParser(before=lambda: corpus.delete(added.id))
    assert corpus.process(added.id, parser) == "gone"
    late = Corpus(database, SlowStartEmbedder(lambda: corpus.delete(second.id)))
    second = add(corpus, PAY)
    assert late.process(second.id, InProcessParser()) == "gone"
    third = add(corpus, "\x00", is_text=False)
    assert corpus.process(third.id, InProcessParser(before=lambda: corpus.delete(third.id))) == "gone"
    assert corpus.counts().documents == corpus.counts().chunks == 0


def test_processing_stops_when_asked_and_goes_on_later(database: Database) -> None:
    corpus = Corpus(database, HashingEmbedder(), SplitConfig(size=60))
    added = add(corpus, "Many words make many chunks of this text. " * 1000)
    seen: list[tuple[int, int]] = []
    outcome = corpus.process(added.id, InProcessParser(), lambda: len(seen) > 1, lambda *done: seen.append(done))
    assert outcome == "stopped"
    assert seen[0][0] == 0 < seen[1][0] < seen[1][1]
    assert corpus.document(added.id).status == "pending"
    assert corpus.process(added.id, InProcessParser(), on_progress=lambda *done: seen.append(done)) == "ready"
    assert seen[-1][0] == seen[-1][1] == corpus.counts().chunks


def test_everything_acknowledged_is_there_after_opening_again(tmp_path: Path) -> None:
    migrations = {"documents": DOCUMENT_MIGRATIONS}
    first = SqliteDatabase(tmp_path / "tenant.sqlite", migrations)
    corpus = Corpus(first, HashingEmbedder())
    ready, pending = ingest(corpus, LEAVE), add(corpus, PAY).id
    before = corpus.search("holiday", 5)
    first.close()
    second = SqliteDatabase(tmp_path / "tenant.sqlite", migrations)
    corpus = Corpus(second, HashingEmbedder())
    assert corpus.search("holiday", 5) == before
    assert (corpus.document(ready).status, corpus.document(pending).status) == ("ready", "pending")
    assert corpus.process(pending, InProcessParser()) == "ready"
    second.close()


def test_an_index_kept_up_to_date_equals_one_built_anew(corpus: Corpus, index_options: IndexOptions) -> None:
    corpus.search("build it first", 1)
    ids = [ingest(corpus, f"Document {n} about topic{n % 5} and {LEAVE}") for n in range(12)]
    for document_id in ids[::3]:
        corpus.delete(document_id)
    kept = corpus.search("topic3 holiday", 20)
    assert (corpus.index_bytes() == 0) is index_options.in_database
    corpus.release()
    assert corpus.index_bytes() == 0
    assert corpus.search("topic3 holiday", 20) == kept
    assert len(kept) == 8


def test_filters_are_exact_however_rare_a_match_is(corpus: Corpus) -> None:
    for number in range(40):
        ingest(corpus, f"{LEAVE} Holiday rule number {number}.", metadata={"year": number, "tags": ["all"]})
    rare = ingest(corpus, "Nothing in common at all.", metadata={"year": 99})
    assert [found.document_id for found in corpus.search("holiday", 3, {"year": 99})] == [rare]
    assert len(corpus.search("holiday", 100, {"year": {"lt": 7}})) == 7
    assert len(corpus.search("holiday", 100, {"tags": "all"})) == 40
    assert corpus.search("holiday", 5, {"year": -1}) == []
    with pytest.raises(InvalidFilter):
        corpus.search("holiday", 5, {"year": {"about": 3}})


def test_collections_are_searched_apart_or_together(corpus: Corpus) -> None:
    one, two = ingest(corpus, LEAVE, collection="one"), ingest(corpus, PAY, collection="two")
    assert [found.document_id for found in corpus.search("holiday", 5, collection="two")] == [two]
    assert [found.document_id for found in corpus.search("holiday", 5, collection="one")] == [one]
    assert len(corpus.search("holiday", 5)) == 2
    assert corpus.search("holiday", 5, collection="three\ud800") == []
    assert corpus.search("holiday", 5, {"year": 1}, collection="one") == []


def test_documents_are_listed_newest_first_in_pages(corpus: Corpus) -> None:
    ids = [add(corpus, f"text {n}", collection="even" if n % 2 == 0 else "odd").id for n in range(5)]
    corpus.process(ids[0], InProcessParser())
    page, total = corpus.documents(limit=2, offset=1)
    assert ([document.id for document in page], total) == ([ids[3], ids[2]], 5)
    assert [document.id for document in corpus.documents(collection="odd")[0]] == [ids[3], ids[1]]
    assert [document.id for document in corpus.documents(status="ready")[0]] == [ids[0]]
    assert corpus.documents(collection="\ud800") == ([], 0)


def test_a_document_is_described_in_full(corpus: Corpus) -> None:
    document = corpus.document(ingest(corpus, LEAVE, metadata={"a": [1, {"b": None}], "é": "ü"}))
    assert document.metadata == {"a": [1, {"b": None}], "é": "ü"}
    assert (document.media_type, document.bytes, document.characters) == ("text/plain", len(LEAVE), len(LEAVE))
    assert (document.chunks, document.pages, document.error, document.collection) == (1, 0, None, "default")
    assert document.created_at.endswith("+00:00")


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "\ud800"},
        {"title": "a\x00"},
        {"name": "x" * 2000},
        {"collection": " "},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": object()}},
        {"metadata": {"a": "\udfff"}},
        {"metadata": {"a": "x" * 70_000}},
        {"metadata": {1: 2}},
        {"metadata": []},
    ],
)
def test_what_cannot_be_stored_is_refused(corpus: Corpus, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument):
        add(corpus, LEAVE, **fields)
    assert corpus.counts().documents == 0


def test_vectors_of_two_embedders_are_never_mixed(
    corpus: Corpus, database: Database, index_options: IndexOptions
) -> None:
    ingest(corpus, LEAVE)
    other = Corpus(database, HashingEmbedder(name="other"), index=index_options)
    with pytest.raises(IndexMismatch, match="another model"):
        other.search("holiday", 5)
    added = add(other, PAY)
    with pytest.raises(IndexMismatch):
        other.process(added.id, InProcessParser())
    for document in corpus.documents()[0]:
        corpus.delete(document.id)
    ingest(other, PAY)
    assert len(other.search("salaries", 5)) == 1


def test_an_error_inside_the_callers_transaction_takes_the_document_along(corpus: Corpus, database: Database) -> None:
    def acknowledge() -> None:
        with database.write() as connection:
            corpus.add(connection, NewDocument(title=None, name="a", content=b"a", is_text=True))
            raise UnreadableDocument

    with pytest.raises(UnreadableDocument):
        acknowledge()
    assert corpus.counts().documents == 0


def test_nothing_is_asked_for_and_nothing_comes(corpus: Corpus) -> None:
    assert corpus.search("anything", 5) == []
    ingest(corpus, LEAVE)
    assert corpus.search("anything", 0) == []
    assert len(corpus.search("anything", 1_000_000)) == 1


def test_searches_stay_right_while_documents_come_and_go(corpus: Corpus) -> None:
    stay = ingest(corpus, f"{LEAVE} stay")
    finished, problems = threading.Event(), []

    def churn(worker: int) -> None:
        for number in range(12):
            corpus.delete(ingest(corpus, f"{LEAVE} worker{worker} number{number}"))

    def search() -> None:
        while not finished.is_set():
            gone = ingest(corpus, f"{LEAVE} {threading.get_ident()}")
            corpus.delete(gone)
            ids = [found.document_id for found in corpus.search("holiday days each year", 50)]
            if stay not in ids or gone in ids or len(ids) != len(set(ids)):
                problems.append(ids)

    writers = [threading.Thread(target=churn, args=(worker,)) for worker in range(2)]
    readers = [threading.Thread(target=search) for _ in range(2)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    finished.set()
    for thread in readers:
        thread.join()
    assert problems == []
    assert [found.document_id for found in corpus.search("holiday", 50)] == [stay]
