"""A tenant's index in several processes: each finds what the others have ingested, replaced or deleted, at once."""

from __future__ import annotations

import threading
import uuid

import pytest

from ingest import index_changes, replacements
from ingest.corpus import Corpus
from ingest.database import Database
from ingest.live_index import IndexOptions
from ingest.postgres import PostgresServer
from ingest.records import NewDocument, Upload
from ingest.retrieval import RetrievalOptions
from tests.ingest.hashing_embedder import HashingEmbedder
from tests.ingest.test_corpus import InProcessParser

DENSE = RetrievalOptions(mode="dense")


class Process:
    """A corpus as one process has it."""

    def __init__(self, database: Database, *, in_database: bool = False) -> None:
        self.database = database
        self.corpus = Corpus(database, HashingEmbedder(), index=IndexOptions(in_database=in_database))

    def ingest(self, text: str) -> str:
        with self.database.write() as connection:
            added = self.corpus.add(connection, NewDocument(None, "n", text.encode(), is_text=True))
        assert self.corpus.process(added.id, InProcessParser()) == "ready"
        return added.id

    def replace(self, document_id: str, text: str) -> None:
        with self.database.write() as connection:
            self.corpus.replace(connection, document_id, NewDocument(None, "n", text.encode(), is_text=True))
        upload = Upload(document_id, replaces=True)
        assert self.corpus.read([upload], InProcessParser()) == {upload: "staged"}
        assert self.corpus.embed([upload]) == {upload: "ready"}

    def found(self, query: str) -> list[str]:
        return [passage.text for passage in self.corpus.search(query, 5, options=DENSE)]


@pytest.fixture
def two(postgres: PostgresServer) -> tuple[Process, Process]:
    tenant_id = uuid.uuid4().hex
    return Process(postgres.database(tenant_id)), Process(postgres.database(tenant_id))


@pytest.fixture(params=["memory", "database", "each"])
def searching(request: pytest.FixtureRequest, vector_postgres: PostgresServer) -> tuple[Process, Process]:
    """Two that search in their memory or in the database, or one of each."""
    databases = [vector_postgres.database(tenant_id) for tenant_id in [uuid.uuid4().hex] * 2]
    one = Process(databases[0], in_database=request.param == "database")
    return one, Process(databases[1], in_database=request.param != "memory")


def test_what_one_process_changes_another_finds_at_once(searching: tuple[Process, Process]) -> None:
    one, other = searching
    assert other.found("ferry") == []
    ferry = one.ingest("The ferry leaves at eight.")
    tram = one.ingest("The tram leaves at nine.")
    assert set(other.found("ferry")) == {"The ferry leaves at eight.", "The tram leaves at nine."}
    other.replace(ferry, "The ferry leaves at ten.")
    assert set(one.found("ferry")) == {"The ferry leaves at ten.", "The tram leaves at nine."}
    one.corpus.delete(tram)
    assert other.found("tram") == ["The ferry leaves at ten."]


def test_an_index_in_memory_lets_go_of_what_another_process_deleted(two: tuple[Process, Process]) -> None:
    one, other = two
    tram = one.ingest("The tram leaves at nine.")
    assert len(other.found("tram")) == 1
    held = other.corpus.index_bytes()
    one.corpus.delete(tram)
    assert other.found("tram") == []
    assert other.corpus.index_bytes() < held


def test_an_index_that_fell_too_far_behind_is_loaded_anew(two: tuple[Process, Process]) -> None:
    one, other = two
    one.ingest("The first of them.")
    assert len(other.found("first")) == 1
    kept = [one.ingest(f"Number {n} of them.") for n in range(5)]
    one.corpus.delete(kept[0])
    with one.database.write() as connection:
        connection.execute("DELETE FROM index_changes WHERE number < (SELECT max(number) FROM index_changes)")
    assert set(other.found("Number")) == set(one.found("Number"))
    assert len(other.found("Number")) == 5


def test_a_damaged_vector_is_mended_also_where_another_process_wrote_it(two: tuple[Process, Process]) -> None:
    one, other = two
    one.ingest("The first of them.")
    assert len(other.found("first")) == 1
    one.ingest("A second one.")
    with one.database.write() as connection:
        connection.execute("UPDATE vectors SET sum = sum + 1 WHERE chunk = (SELECT max(chunk) FROM vectors)")
    assert set(other.found("second")) == {"The first of them.", "A second one."}


def test_no_search_misses_or_doubles_a_document_that_another_process_replaces(
    searching: tuple[Process, Process],
) -> None:
    one, other = searching
    document_id = one.ingest("The ferry leaves at 0.")
    seen: list[list[str]] = []
    replaced = threading.Event()

    def search() -> None:
        while not replaced.is_set():
            seen.append(other.found("ferry"))

    thread = threading.Thread(target=search)
    thread.start()
    for hour in range(1, 15):
        one.replace(document_id, f"The ferry leaves at {hour}.")
    replaced.set()
    thread.join()
    assert seen
    assert {len(each) for each in seen} == {1}
    assert other.found("ferry") == ["The ferry leaves at 14."]


def test_the_log_tells_replacements_from_other_changes_and_is_each_tenants_own(
    two: tuple[Process, Process], postgres: PostgresServer
) -> None:
    one, _ = two
    stranger = postgres.database(uuid.uuid4().hex)
    document_id = one.ingest("The ferry leaves at eight.")
    with one.database.read() as connection:
        first = index_changes.latest(connection)
    one.replace(document_id, "The ferry leaves at nine.")
    with one.database.read() as connection:
        second = index_changes.latest(connection)
        assert index_changes.documents_since(connection, first.change) == [document_id]
    assert (first.replacement, second.replacement > first.change) == (0, True)
    with stranger.read() as connection:
        assert index_changes.latest(connection) == index_changes.NOTHING
    with one.database.write() as connection:
        replacements.discard(connection, document_id)  # nothing waits: nothing changes
    with one.database.read() as connection:
        assert index_changes.latest(connection) == second
