"""Vectors searched by pgvector: exact, then by a graph of the tenant's own; never fewer passages, never another's."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import psycopg
import pytest

from ingest.corpus import Corpus
from ingest.errors import UnsuitableDatabase
from ingest.live_index import IndexOptions
from ingest.postgres import PostgresDatabase, PostgresServer, drop_graphs_of, graphs, nearest, prepare
from ingest.postgres.database_index import DatabaseIndex
from ingest.postgres.nearest import GraphFacts
from ingest.records import FoundPassage, NewDocument
from ingest.reembedding import reembed
from ingest.retrieval import RetrievalOptions
from tests.databases import ALL_TABLES, fresh_database, in_database
from tests.ingest.hashing_embedder import HashingEmbedder
from tests.ingest.test_corpus import InProcessParser
from tests.ingest.test_live_index import text_of

DENSE = RetrievalOptions(mode="dense")
LIMIT = 100
EMBEDDER = HashingEmbedder(64)


class Tenant:
    """A corpus as one process has it, with a graph past 100 chunks, built in a thread of its own."""

    def __init__(self, database: PostgresDatabase, embedder: HashingEmbedder = EMBEDDER) -> None:
        self.database = database
        self.background = ThreadPoolExecutor(1)
        options = IndexOptions(LIMIT, self.background, in_database=True)
        self.corpus = Corpus(database, embedder, index=options)
        assert isinstance(self.corpus._index, DatabaseIndex)
        self.index = self.corpus._index

    def ingest(self, numbers: Sequence[int]) -> list[str]:
        with self.database.write() as connection:
            added = [
                self.corpus.add(
                    connection,
                    NewDocument(
                        None, "n", text_of(number).encode(), {"number": number}, "ab"[number % 2], is_text=True
                    ),
                )
                for number in numbers
            ]
        ids = [document.id for document in added]
        assert set(self.corpus.process_many(ids, InProcessParser()).values()) == {"ready"}
        return ids

    def found(self, number: int, top_k: int = 5, **more: Any) -> list[str]:
        return [passage.text for passage in self.corpus.search(text_of(number), top_k, **more)]

    @property
    def graph(self) -> bool:
        """Whether there is one, whole and noted."""
        with self.database.beside() as connection:
            there = graphs._graphs(connection, str(self.database.tenant_id))
        with self.database.read() as reading:
            noted = nearest.look(reading).graph
        assert (noted is not None and noted.width is not None) == bool(there)
        return list(there.values()) == [True]

    def settle(self) -> None:
        """Search, and let what that begins come to its end."""
        self.found(1)
        self.index.wait()

    def close(self) -> None:
        self.corpus.close()
        self.background.shutdown()


@pytest.fixture
def tenant(vector_postgres: PostgresServer) -> Iterator[Tenant]:
    tenant = Tenant(vector_postgres.database(uuid.uuid4().hex))
    yield tenant
    tenant.close()


@pytest.fixture
def grown(tenant: Tenant) -> Tenant:
    """With 150 documents and a graph."""
    return grow(tenant)


@pytest.fixture(scope="module")
def standing(vector_postgres: PostgresServer) -> Iterator[Tenant]:
    """Such a tenant that no test changes."""
    tenant = grow(Tenant(vector_postgres.database(uuid.uuid4().hex)))
    yield tenant
    tenant.close()


def grow(tenant: Tenant) -> Tenant:
    tenant.ingest(range(150))
    tenant.settle()
    assert tenant.graph
    return tenant


def exactly(tenant: Tenant, number: int, count: int, documents: Sequence[str] | None = None) -> list[float]:
    """The scores of an exact search."""
    with tenant.database.read() as connection:
        vector = EMBEDDER.encode([text_of(number)])[0]
        return nearest.exact(connection, str(tenant.database.tenant_id), vector, count, documents)[1]


def scores(found: Sequence[FoundPassage]) -> list[float]:
    return [passage.score for passage in found]


def test_a_small_corpus_is_searched_exactly(tenant: Tenant) -> None:
    tenant.ingest(range(LIMIT))
    tenant.settle()
    assert not tenant.graph
    assert all(tenant.found(number)[0] == text_of(number) for number in range(0, LIMIT, 9))


def test_a_corpus_that_outgrows_the_limit_gets_a_graph_in_the_background(tenant: Tenant) -> None:
    tenant.ingest(range(LIMIT + 1))
    assert tenant.found(7)[0] == text_of(7)  # whether the graph is there yet or not
    tenant.index.wait()
    assert tenant.graph
    assert all(tenant.found(number)[0] == text_of(number) for number in range(LIMIT + 1))
    tenant.ingest([1000])  # what comes later is in it at once
    assert tenant.found(1000)[0] == text_of(1000)


def test_a_graph_finds_what_an_exact_search_finds_and_drops_no_rows_for_other_tenants(
    standing: Tenant, vector_postgres: PostgresServer
) -> None:
    stranger = Tenant(vector_postgres.database(uuid.uuid4().hex))
    stranger.ingest(range(150))  # the same texts: every one of them is as near
    stranger.settle()
    tenant_id = str(standing.database.tenant_id)
    with standing.database.read() as connection:
        nearest.look(connection)
        connection.execute(
            "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"
        )
        for number in range(0, 150, 5):
            vector = EMBEDDER.encode([text_of(number)])[0]
            numbers, found = nearest.through_graph(connection, tenant_id, vector, 10)
            assert found == pytest.approx(nearest.exact(connection, tenant_id, vector, 10)[1])
            assert len(set(numbers)) == 10
        plan = connection.execute(
            "EXPLAIN SELECT chunk FROM searched_vectors WHERE tenant = '"
            f"{tenant_id}' AND vector_dims(vector) = 64 ORDER BY vector::vector(64) <#> ?::vector LIMIT 10",
            (nearest.written(vector),),
        )
        assert f"graph_{tenant_id}_64" in " ".join(str(line[0]) for line in plan)
    stranger.close()


def test_filters_and_collections_are_exact_beside_a_graph(standing: Tenant) -> None:
    with standing.database.read() as connection:
        rows = connection.execute("SELECT id, collection, metadata FROM documents").fetchall()
    in_a = [row["id"] for row in rows if row["collection"] == "a"]
    few = [row["id"] for row in rows if row["metadata"] in ('{"number": 3}', '{"number": 77}', '{"number": 120}')]
    most = [row["id"] for row in rows if row["metadata"] != '{"number": 8}']
    search = standing.corpus.search
    for number in (8, 33, 100):
        query = text_of(number)
        assert scores(search(query, 40, collection="a", options=DENSE)) == pytest.approx(
            exactly(standing, number, 40, in_a)
        )
        found = search(query, 40, {"number": {"in": [3, 77, 120]}}, options=DENSE)
        assert scores(found) == pytest.approx(exactly(standing, number, 40, few))
        assert len(found) == 3
        found = search(query, 40, {"number": {"ne": 8}}, options=DENSE)
        assert scores(found) == pytest.approx(exactly(standing, number, 40, most))
        assert len(found) == 40
    assert search(text_of(1), 5, {"number": 4711}, options=DENSE) == []


def test_there_are_never_fewer_passages_than_there_could_be(grown: Tenant) -> None:
    gone = grown.ingest(range(200, 230))
    for document_id in gone:
        grown.corpus.delete(document_id)
    assert len(grown.found(205, 150)) == 150
    assert len(grown.found(205, 1500)) == 150
    assert not {text_of(number) for number in range(200, 230)} & set(grown.found(205, 150))


def test_a_corpus_that_shrinks_is_searched_exactly_again(grown: Tenant) -> None:
    documents, _ = grown.corpus.documents(limit=90)
    grown.corpus.delete_all([document.id for document in documents])
    grown.settle()
    assert not grown.graph
    assert len(grown.found(1, 100)) == 60


def test_a_graph_that_was_not_finished_is_found_and_built_anew(tenant: Tenant, vector_postgres: PostgresServer) -> None:
    tenant.ingest(range(LIMIT + 20))
    with vector_postgres.connected() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE searched_vectors IN ROW EXCLUSIVE MODE")  # what a build waits for
        tenant.found(1)
        with tenant.database.beside() as connection:
            deadline = time.monotonic() + 30
            while not graphs._graphs(connection, str(tenant.database.tenant_id)):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        tenant.close()  # the process ends in the midst of it
        other.execute("ROLLBACK")
        with tenant.database.beside() as connection:
            assert list(graphs._graphs(connection, str(tenant.database.tenant_id)).values()) == [False]
    again = Tenant(tenant.database)
    assert again.found(7)[0] == text_of(7)
    again.index.wait()
    assert again.graph
    again.close()


def test_uploads_go_on_while_a_graph_is_built(tenant: Tenant, vector_postgres: PostgresServer) -> None:
    tenant.ingest(range(LIMIT + 20))
    with vector_postgres.connected() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE searched_vectors IN ROW EXCLUSIVE MODE")
        tenant.found(1)
        tenant.ingest([500])
        assert tenant.found(500)[0] == text_of(500)
        assert tenant.index._work is not None
        assert not tenant.index._work.done()
        other.execute("ROLLBACK")
    tenant.index.wait()
    assert tenant.graph
    assert tenant.found(500)[0] == text_of(500)


def test_one_process_at_a_time_builds_a_graph(tenant: Tenant) -> None:
    tenant.ingest(range(LIMIT + 20))
    tenant_id = str(tenant.database.tenant_id)
    with tenant.database.beside() as one, tenant.database.beside() as other:
        one.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (f"lorebase graph {tenant_id}",))
        assert not graphs.tend(other, tenant_id, EMBEDDER.fingerprint, 64, LIMIT)
    assert not tenant.graph


def test_a_graph_that_found_too_little_is_not_tried_again_before_much_has_changed(tenant: Tenant) -> None:
    tenant.ingest(range(LIMIT + 20))
    with tenant.database.beside() as connection:
        graphs._note(connection, GraphFacts(EMBEDDER.fingerprint, LIMIT + 20, None))
    tenant.settle()
    assert not tenant.graph
    assert tenant.found(7)[0] == text_of(7)
    assert not graphs.is_due(2 * LIMIT, "e", GraphFacts("e", LIMIT + 20, None), LIMIT)
    assert graphs.is_due(3 * LIMIT, "e", GraphFacts("e", LIMIT + 20, None), LIMIT)


def test_vectors_too_long_for_an_index_are_searched_exactly(vector_postgres: PostgresServer) -> None:
    tenant = Tenant(vector_postgres.database(uuid.uuid4().hex), HashingEmbedder(2048))
    tenant.ingest(range(LIMIT + 1))
    tenant.settle()
    assert not tenant.graph
    assert tenant.found(7)[0] == text_of(7)
    tenant.close()


def test_another_embedder_makes_another_graph(grown: Tenant) -> None:
    new = HashingEmbedder(96, "new")
    assert reembed(grown.database, new)
    again = Tenant(grown.database, new)
    assert again.found(7)[0] == text_of(7)
    again.index.wait()
    assert again.graph
    assert all(again.found(number)[0] == text_of(number) for number in range(0, 150, 9))
    again.close()


def test_without_a_tenant_there_are_no_vectors_and_no_tenant_sees_anothers(
    standing: Tenant, vector_postgres: PostgresServer
) -> None:
    tenant_id, vector = str(standing.database.tenant_id), EMBEDDER.encode([text_of(1)])[0]
    with vector_postgres.connected() as connection:
        for table in ("searched_vectors", *(f"searched_vectors_{number}" for number in range(32))):
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)
    for database in (vector_postgres.database(None), vector_postgres.database(uuid.uuid4().hex)):
        with database.read() as reading:
            assert nearest.exact(reading, tenant_id, vector, 5) == ([], [])
            assert nearest.through_graph(reading, tenant_id, vector, 5) == ([], [])
    stranger = vector_postgres.database(uuid.uuid4().hex)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), stranger.write() as writing:
        writing.execute(
            "INSERT INTO searched_vectors (tenant, chunk, document_id, vector) VALUES (?, 1, 'd', '[1]')", (tenant_id,)
        )


def test_an_erased_tenant_leaves_no_vector_and_no_graph(grown: Tenant, vector_postgres: PostgresServer) -> None:
    tenant_id = str(grown.database.tenant_id)
    grown.close()
    vector_postgres.erase(tenant_id)
    with vector_postgres.connected() as connection:
        drop_graphs_of(connection, tenant_id)
    with grown.database.beside() as connection:
        assert graphs._graphs(connection, tenant_id) == {}
        assert connection.execute("SELECT count(*) FROM searched_vectors").fetchone() == (0,)


def test_vectors_that_were_there_before_are_made_ready_a_portion_at_a_time(postgres_superuser: str) -> None:
    with (
        fresh_database(postgres_superuser, extension=True) as url,
        closing(PostgresServer(url, ALL_TABLES)) as server,
    ):
        ids = sorted(uuid.uuid4().hex for _ in range(3))
        with server.database(None).write() as connection:
            connection.executemany(
                "INSERT INTO tenants (id, name, created_at) VALUES (?, ?, 0)", [(each, each) for each in ids]
            )
        before = Corpus(server.database(ids[0]), EMBEDDER)
        other = Corpus(server.database(ids[2]), EMBEDDER)
        for corpus in (before, other):
            with corpus._database.write() as connection:
                new = [NewDocument(None, "n", text_of(n).encode(), is_text=True) for n in range(30)]
                added = [corpus.add(connection, each).id for each in new]
            corpus.process_many(added, InProcessParser())
        before.delete(before.search(text_of(3), 1)[0].document_id)

        def stop(done: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare(server, stop)
        seen: list[int] = []
        prepare(server, seen.append)
        assert seen == [29, 59]
        for corpus in (before, other):
            in_there = Corpus(corpus._database, EMBEDDER, index=IndexOptions(in_database=True))
            for number in (4, 17):
                found, kept = (each.search(text_of(number), 50, options=DENSE) for each in (in_there, corpus))
                assert [each.chunk_id for each in found][:1] == [each.chunk_id for each in kept][:1]
                assert scores(found) == pytest.approx(scores(kept), abs=1e-6)
        prepare(server, lambda _: pytest.fail("all of them are there"))


def test_what_pgvector_searches_is_what_was_stored_to_the_last_bit(tenant: Tenant) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**32, 4000, dtype=np.uint32).view(np.float32)  # of every size, tiny ones too
    numbers = numbers[np.isfinite(numbers)][:3000]
    with tenant.database.beside() as connection:
        rows = [(part.astype("<f4").tobytes(), part) for part in np.split(numbers, 30)]
        for stored, part in rows:
            (made,) = connection.execute("SELECT vector_of(%s)::text", (stored,)).fetchone() or ("",)
            assert np.array(made[1:-1].split(","), dtype=np.float64).astype(np.float32).tolist() == part.tolist()
        broken = np.array([1.0, np.nan], dtype="<f4").tobytes()
        assert connection.execute("SELECT vector_of(%s)", (broken,)).fetchone() == (None,)


def test_a_database_without_the_extension_is_refused_with_what_to_do(postgres_superuser: str) -> None:
    with fresh_database(postgres_superuser) as url, closing(PostgresServer(url, ALL_TABLES)) as server:
        with pytest.raises(UnsuitableDatabase, match=r"superuser run CREATE EXTENSION vector"):
            prepare(server)
        name = url.split("/")[3].split("?")[0]
        with in_database(postgres_superuser, name) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute("UPDATE pg_extension SET extversion = '0.4.4' WHERE extname = 'vector'")
        with pytest.raises(UnsuitableDatabase, match=r"pgvector 0\.4\.4 is too old.*0\.5\.0 or newer"):
            prepare(server)
        with server.connected() as checking:
            assert checking.execute("SELECT to_regclass('searched_vectors')").fetchone() == (None,)


def test_searches_from_many_threads_find_the_same(standing: Tenant) -> None:
    wanted = {number: standing.found(number) for number in range(0, 150, 15)}
    found: dict[int, list[str]] = {}

    def search(number: int) -> None:
        found[number] = standing.found(number)

    threads = [threading.Thread(target=search, args=(number,)) for number in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted
