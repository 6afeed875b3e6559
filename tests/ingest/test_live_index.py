"""An index through its life: exact, then with inverted lists, saved, caught up, thrown away when in doubt."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingest.corpus import Corpus
from ingest.database import Database, SqliteDatabase
from ingest.live_index import IndexOptions, LiveIndex
from ingest.records import NewDocument
from ingest.schema import DOCUMENT_MIGRATIONS
from ingest.splitting import SplitConfig
from tests.ingest.hashing_embedder import HashingEmbedder
from tests.ingest.test_corpus import InProcessParser

WORDS = [f"word{number}" for number in range(300)]


def text_of(number: int) -> str:
    rng = np.random.default_rng(number)
    return f"Document {number} " + " ".join(rng.choice(WORDS[number % 10 :: 10], 8))


class Tenant:
    """A corpus with inverted lists past 100 chunks, built in a thread of its own."""

    def __init__(self, folder: Path, database: Database | None = None) -> None:
        self.folder = folder
        self.resized = 0
        self.database = database or SqliteDatabase(folder / "tenant.sqlite", {"documents": DOCUMENT_MIGRATIONS})
        self.background = ThreadPoolExecutor(1)
        self.options = IndexOptions(100, self.background, folder / "index", self._resize)
        self.corpus = Corpus(self.database, HashingEmbedder(64), SplitConfig(), index=self.options)

    @property
    def index(self) -> LiveIndex:
        return self.corpus._index

    @property
    def has_lists(self) -> bool:
        return self.index._index is not None and self.index._index.snapshot().lists is not None

    def ingest(self, numbers: Sequence[int]) -> list[str]:
        with self.database.write() as connection:
            added = [
                self.corpus.add(connection, NewDocument(None, "n", text_of(number).encode(), is_text=True))
                for number in numbers
            ]
        ids = [document.id for document in added]
        assert set(self.corpus.process_many(ids, InProcessParser()).values()) == {"ready"}
        return ids

    def found(self, number: int, top_k: int = 5) -> list[str]:
        return [passage.text for passage in self.corpus.search(text_of(number), top_k)]

    def files(self) -> list[Path]:
        return list((self.folder / "index").iterdir()) if (self.folder / "index").is_dir() else []

    def close(self) -> None:
        self.corpus.close()
        self.background.shutdown()
        self.database.close()

    def _resize(self) -> None:
        self.resized += 1


Open = Callable[[], Tenant]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_tenant(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same tenant again and again, on either kind of database."""
    if request.param == "sqlite":
        return lambda: Tenant(tmp_path)
    server, tenant_id = request.getfixturevalue("postgres"), uuid.uuid4().hex
    return lambda: Tenant(tmp_path, server.database(tenant_id))


@pytest.fixture
def tenant(open_tenant: Open) -> Iterator[Tenant]:
    tenant = open_tenant()
    yield tenant
    tenant.close()


def test_a_small_corpus_is_searched_exactly_and_saves_nothing(tenant: Tenant) -> None:
    tenant.ingest(range(100))
    assert tenant.found(7)[0] == text_of(7)
    tenant.index.wait()
    assert not tenant.has_lists
    tenant.close()
    assert tenant.files() == []


def test_a_corpus_that_outgrows_the_limit_gets_inverted_lists_in_the_background(tenant: Tenant) -> None:
    tenant.found(1)
    tenant.ingest(range(101))
    assert tenant.found(7)[0] == text_of(7)  # whether the lists are there yet or not
    tenant.index.wait()
    assert tenant.has_lists
    assert all(tenant.found(number)[0] == text_of(number) for number in range(101))
    assert len(tenant.files()) == 1
    assert tenant.resized > 0


def test_without_a_thread_for_it_every_search_stays_exact(tmp_path: Path) -> None:
    tenant = Tenant(tmp_path)
    tenant.corpus = Corpus(tenant.database, HashingEmbedder(64), index=replace(tenant.options, background=None))
    tenant.ingest(range(150))
    assert tenant.found(7)[0] == text_of(7)
    assert not tenant.has_lists
    tenant.close()


def test_after_a_restart_the_saved_lists_are_caught_up_from_the_database(open_tenant: Open) -> None:
    first = open_tenant()
    ids = first.ingest(range(200))
    first.found(0)
    first.index.wait()
    (saved,) = first.files()
    first.corpus.delete(ids[3])
    first.ingest([1000])
    first.index._saved_nodes = 10**9  # as after a crash: nothing more is saved
    first.close()
    second = open_tenant()
    second.ingest([1001])
    second.found(0)
    second.index.wait()
    assert second.has_lists
    assert second.files() == [saved]
    assert text_of(3) not in second.found(3, 20)
    assert all(second.found(number)[0] == text_of(number) for number in (5, 199, 1000, 1001))
    second.close()


@pytest.mark.parametrize("damage", ["flipped", "gone", "older"])
def test_a_file_of_lists_in_doubt_is_thrown_away_and_built_anew(tmp_path: Path, damage: str) -> None:
    first = Tenant(tmp_path)
    first.ingest(range(120))
    first.found(0)
    first.index.wait()
    (saved,) = first.files()
    if damage == "older":  # the database was restored from before these lists
        with first.database.write() as connection:
            connection.execute("UPDATE index_facts SET value = 'another' WHERE name = 'lists'")
    first.close()
    if damage == "flipped":
        content = bytearray(saved.read_bytes())
        content[len(content) // 2] ^= 1
        saved.write_bytes(content)
    elif damage == "gone":
        saved.unlink()
    second = Tenant(tmp_path)
    assert second.found(5)[0] == text_of(5)
    second.index.wait()
    assert second.has_lists
    assert [path.name for path in second.files()] != [saved.name]
    second.close()


def test_a_corpus_that_shrinks_is_searched_exactly_again(tenant: Tenant) -> None:
    ids = tenant.ingest(range(120))
    tenant.found(0)
    tenant.index.wait()
    for document_id in ids[:60]:
        tenant.corpus.delete(document_id)
    tenant.index.wait()
    assert not tenant.has_lists
    assert len(tenant.found(100, 100)) == 60


def test_lists_grown_old_by_deletions_are_built_anew(tenant: Tenant) -> None:
    ids = tenant.ingest(range(400))
    tenant.found(0)
    tenant.index.wait()
    index = tenant.index._index
    assert index is not None
    before = index.snapshot().lists
    for document_id in ids[:150]:
        tenant.corpus.delete(document_id)
    tenant.index.wait()
    assert index.snapshot().lists is not before
    assert all(tenant.found(number)[0] == text_of(number) for number in range(150, 400, 10))


def test_a_released_index_is_loaded_again_by_the_next_search(tenant: Tenant) -> None:
    tenant.ingest(range(120))
    before = tenant.found(9)
    tenant.corpus.release()
    assert tenant.corpus.index_bytes() == 0
    assert tenant.found(9) == before
