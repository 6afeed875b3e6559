"""Rows moved into PostgreSQL and back: all of them, alike, and never in two places at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters import AdapterFacts, AdapterRegistry
from app import migration
from app.migration import KEPT, NUMBERED, TABLES, MigrationFailed, to_folder, to_postgresql
from app.storage import DATABASE, TENANT_MIGRATIONS, FolderStorage, PostgresStorage, StorageMismatch
from app.tenants import TenantDirectory
from ingest import Corpus, Database, DatabaseInUse, NewDocument, ParserProcess, RetrievalOptions, SqliteDatabase
from ingest.postgres import PostgresServer
from tests.app.test_postgres_over_http import serve
from tests.app.test_restart import running
from tests.app.test_tenant_export import facts, lived_in
from tests.databases import fresh_database
from tests.ingest.hashing_embedder import HashingEmbedder


@pytest.fixture
def url(postgres_superuser: str) -> Iterator[str]:
    with fresh_database(postgres_superuser) as url:
        yield url


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with two tenants that have documents, and one that has nothing."""
    data = tmp_path / "data"
    data.mkdir()
    with closing(FolderStorage(data)) as storage, closing(ParserProcess()) as parser:
        directory = TenantDirectory(storage.central)
        for name in ("one", "two", "empty"):
            tenant, _ = directory.create(name, f"the key of tenant {name}")
            folder = data / "tenants" / tenant.id
            folder.mkdir(parents=True)
            if name == "empty":
                continue
            with closing(storage.open_tenant(tenant.id, folder)) as own:
                corpus = Corpus(own, HashingEmbedder())
                for text in (f"The lamp of {name} is lit at six.", f"Nobody knows {name}; 灯塔在北边。"):
                    add(own, corpus, parser, text)
            AdapterRegistry(folder / "adapters").add("law", b"{}", b"weights", lambda _: AdapterFacts("ab", 7, 4))
    return data


def add(database: Database, corpus: Corpus, parser: ParserProcess, text: str) -> str:
    with database.write() as connection:
        added = corpus.add(connection, NewDocument("Lamps", "n", text.encode(), {"year": 1.5}, is_text=True))
    corpus.process(added.id, parser)
    return added.id


def found(database: Database) -> list[tuple[str, str, float]]:
    corpus = Corpus(database, HashingEmbedder())
    hits = [
        corpus.search(q, 5, options=RetrievalOptions(mode=m)) for q in ("lamp", "灯塔") for m in ("keyword", "hybrid")
    ]
    return [(hit.chunk_id, hit.text, pytest.approx(hit.score)) for each in hits for hit in each]


def test_every_table_is_copied_or_derived(tmp_path: Path, postgres: PostgresServer) -> None:
    derived = {"keywords", "keyword_lengths", "keyword_totals", "next_vectors", "index_changes"}
    with postgres.connected() as connection:
        rows = connection.execute(
            "SELECT relname, attname, attidentity <> '' AS numbered FROM pg_class c JOIN pg_attribute a ON attrelid = "
            "c.oid WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND attnum > 0"
        ).fetchall()
    there = {row["relname"] for row in rows if row["attname"] == "tenant"}
    assert there == {*TABLES, *derived, "adapter_registry"}
    assert {(row["relname"], row["attname"]) for row in rows if row["numbered"]} == set(NUMBERED)
    with closing(SqliteDatabase(tmp_path / "t.db", TENANT_MIGRATIONS)) as database, database.read() as connection:
        names = {row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {name for name in names if not name.startswith(("keywords", "sqlite_"))} == {
        *TABLES,
        "owner",
        "schema_version",
    }


def test_rows_go_there_and_back_and_count_in_one_place(data: Path, url: str, tmp_path: Path) -> None:
    with closing(FolderStorage(data)) as storage:
        ids = [tenant.id for tenant in TenantDirectory(storage.central).tenants()]
        before = {}
        for tenant_id in ids[:2]:
            with closing(storage.open_tenant(tenant_id, data / "tenants" / tenant_id)) as own:
                before[tenant_id] = found(own)
    assert all(before.values())
    told: list[tuple[int, int]] = []
    moved = to_postgresql(data, url, lambda done, total: told.append((done, total)))
    assert (moved.tenants, moved.kept, told[-1]) == (3, 0, (3, 3))
    assert not list(data.rglob(DATABASE))
    assert len(list(data.rglob(DATABASE + KEPT))) == 3
    with pytest.raises(StorageMismatch, match="migrate --back"):
        FolderStorage(data)
    with closing(PostgresStorage(url, data)) as there, closing(ParserProcess()) as parser:
        with pytest.raises(DatabaseInUse):
            to_folder(data, url)
        directory = TenantDirectory(there.central)
        assert [tenant.id for tenant in directory.tenants()] == ids
        assert directory.keys.principal("the key of tenant one") is not None
        for tenant_id in ids[:2]:
            own = there.open_tenant(tenant_id, data / "tenants" / tenant_id)
            assert found(own) == before[tenant_id]
            added = add(own, Corpus(own, HashingEmbedder()), parser, "Something new.")
            assert Corpus(own, HashingEmbedder()).counts().ready == 3
            Corpus(own, HashingEmbedder()).delete(added)
            adapters = data / "tenants" / tenant_id / "adapters"
            registry = AdapterRegistry(adapters, state=there.registry_state(tenant_id, adapters))
            assert registry.promote("law", 1).sha256 == "ab"
    to_folder(data, url)
    with closing(FolderStorage(data)) as storage:
        for tenant_id in ids[:2]:
            with closing(storage.open_tenant(tenant_id, data / "tenants" / tenant_id)) as own:
                assert found(own) == before[tenant_id]
            assert AdapterRegistry(data / "tenants" / tenant_id / "adapters").get("law").active == 1


def test_an_interrupted_move_goes_on_and_changes_nothing_before_its_end(
    data: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(Exception):
        pass

    def end_at_the_second(done: int, _: int) -> None:
        if done == 1:
            raise Ended

    with pytest.raises(Ended):
        to_postgresql(data, url, end_at_the_second)
    FolderStorage(data).close()
    moved = to_postgresql(data, url)
    assert (moved.tenants, moved.kept) == (3, 1)
    with pytest.raises(Ended):
        to_folder(data, url, end_at_the_second)
    PostgresStorage(url, data).close()
    assert to_folder(data, url).kept == 1


def test_what_is_not_copied_as_it_is_is_found(data: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = migration._copy

    def forgetful(reading, writing, table, columns):  # type: ignore[no-untyped-def]
        copy(reading, writing, table, columns)
        if table == "chunks":
            writing.execute("UPDATE chunks SET page = 7 WHERE position = 0")

    with monkeypatch.context() as patched:
        patched.setattr(migration, "_copy", forgetful)
        with pytest.raises(MigrationFailed, match="chunks was not copied as it is"):
            to_postgresql(data, url)
    FolderStorage(data).close()
    assert to_postgresql(data, url).kept == 0


def test_a_database_with_tenants_of_its_own_is_refused(data: Path, url: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with closing(PostgresStorage(url, tmp_path / "other")) as other:
        TenantDirectory(other.central).create("a stranger")
    with pytest.raises(StorageMismatch, match="1 tenants of its own"):
        to_postgresql(data, url)
    with pytest.raises(StorageMismatch, match="does not belong"):
        to_folder(data, url)
    FolderStorage(data).close()


@pytest.mark.e2e
@pytest.mark.long
def test_a_service_goes_on_where_its_rows_are(tmp_path: Path, url: str) -> None:
    data = tmp_path / "data"
    with running(data) as (_, client):
        lived_in(client, tmp_path)
        before = facts(client)
        refused = serve(data, "migrate", "--to", url)
        assert (refused.returncode, "Another Lorebase process" in refused.stderr) == (1, True)
    done = serve(data, "migrate", "--to", url, "--json")
    assert (done.returncode, json.loads(done.stdout)["tenants"]) == (0, 1), done.stderr
    with running(data, LOREBASE_DATABASE_URL=url) as (_, client):
        assert facts(client) == before
    done = serve(data, "migrate", "--back", url, "--json")
    assert done.returncode == 0, done.stderr
    with running(data) as (_, client):
        assert facts(client) == before
