"""The adapters of a service in a store: whose the store is, what is brought there, and what is left over and goes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from adapters import AdapterFacts, AdapterRegistry, open_object_store
from adapters.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, sha256_of
from adapters.errors import AdapterStoreUnavailable
from app.adapter_diagnosis import look_at_store
from app.adapter_store import MARKER, AdapterStore, AdapterStoreMismatch, fetch_registered, store_of_service
from app.backup import backup, restore
from app.migration import to_folder, to_postgresql
from app.settings import Settings
from app.storage import FolderStorage, PostgresStorage, Storage
from app.tenants import TenantDirectory
from ingest import SqliteDatabase
from tests.databases import fresh_database

BUDGET = 10**9


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The folder that is the store."""
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


class Host:
    """A service's data folder and its store, as one process has them open."""

    def __init__(self, data: Path, shared: Path, storage: Storage) -> None:
        self.data, self.storage = data, storage
        self.directory = TenantDirectory(storage.central)
        self.store = AdapterStore(open_object_store(shared.as_uri()), storage.central, data, BUDGET)

    def settle(self) -> None:
        """What a start does."""
        self.store.claim()
        self.store.settle(
            lambda: [tenant.id for tenant in self.directory.tenants()],
            lambda tenant_id, folder: self.storage.registry_state(tenant_id, folder).read(),
            alone=not self.storage.is_remote,
        )

    def tenant(self, name: str) -> str:
        """The id of a new tenant, with a database."""
        tenant_id = self.directory.create(name)[0].id
        self.folder(tenant_id).parent.mkdir(parents=True)
        self.storage.open_tenant(tenant_id, self.folder(tenant_id).parent).close()
        self.folder(tenant_id).mkdir()
        return tenant_id

    def folder(self, tenant_id: str) -> Path:
        return self.data / "tenants" / tenant_id / "adapters"

    def registry(self, tenant_id: str, *, stored: bool = True) -> AdapterRegistry:
        folder = self.folder(tenant_id)
        files = self.store.files_of(tenant_id, folder) if stored else None
        return AdapterRegistry(folder, tenant_id, self.storage.registry_state(tenant_id, folder), files)


@contextmanager
def host(data: Path, shared: Path) -> Iterator[Host]:
    data.mkdir(exist_ok=True)
    with closing(FolderStorage(data)) as storage:
        yield Host(data, shared, storage)


def accept(folder: Path) -> AdapterFacts:
    weights = folder / ADAPTER_WEIGHTS
    return AdapterFacts(sha256_of(weights), weights.stat().st_size, 8)


def weights_of(registry: AdapterRegistry, wanted: str) -> bytes:
    selection = registry.select(wanted)
    assert selection is not None
    with selection.ref.at_hand() as folder:
        return (folder / ADAPTER_WEIGHTS).read_bytes()


def objects(shared: Path) -> set[str]:
    return {path.relative_to(shared).as_posix() for path in shared.rglob("*") if path.is_file()}


def test_a_store_belongs_to_one_service_and_a_service_to_its_store(tmp_path: Path, shared: Path) -> None:
    with host(tmp_path / "one", shared) as one, host(tmp_path / "two", shared) as two:
        for _ in range(2):
            one.settle()
        with pytest.raises(AdapterStoreMismatch, match="belongs to another service"):
            two.settle()
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(AdapterStoreMismatch, match=f"has no {MARKER}.*copy all objects"):
            Host(one.data, other, one.storage).settle()
        assert objects(other) == set()
        (other / MARKER).write_bytes((shared / MARKER).read_bytes())
        Host(one.data, other, one.storage).settle()
        with pytest.raises(AdapterStoreMismatch, match=f"are in {other.as_uri()}: set LOREBASE_ADAPTER_STORE"):
            store_of_service(None, one.storage.central, one.data, BUDGET)
        assert store_of_service(None, two.storage.central, two.data, BUDGET) is None


def test_a_start_that_broke_off_before_the_store_was_told_goes_on(tmp_path: Path, shared: Path) -> None:
    with host(tmp_path / "one", shared) as one:
        shared.rename(tmp_path / "away")
        with pytest.raises(AdapterStoreUnavailable):
            one.settle()
        (tmp_path / "away").rename(shared)
        with one.storage.central.write() as connection:  # it had got as far as this
            connection.execute("INSERT INTO adapter_store (one, id, place, claimed) VALUES (1, 'x', 'somewhere', 0)")
        one.settle()
        assert b'"x"' in (shared / MARKER).read_bytes()


def test_what_lies_in_the_data_folder_is_brought_into_the_store_at_the_first_start(
    tmp_path: Path, shared: Path
) -> None:
    with host(tmp_path / "one", shared) as one:
        tenant_id = one.tenant("a")
        version = one.registry(tenant_id, stored=False).add("law", b"{}", b"weights", accept)
        one.settle()
        prefix = f"tenants/{tenant_id}/{version.folder}"
        assert objects(shared) == {MARKER, f"{prefix}/{ADAPTER_CONFIG}", f"{prefix}/{ADAPTER_WEIGHTS}"}
        (shared / prefix / ADAPTER_WEIGHTS).unlink()  # what the store lost is put back from a copy
        one.settle()
        (one.folder(tenant_id) / version.folder / ADAPTER_WEIGHTS).unlink()
        assert weights_of(one.registry(tenant_id), "law@1") == b"weights"


def test_a_copy_that_was_changed_is_not_brought_into_the_store(
    tmp_path: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with host(tmp_path / "one", shared) as one:
        tenant_id = one.tenant("a")
        version = one.registry(tenant_id, stored=False).add("law", b"{}", b"weights", accept)
        (one.folder(tenant_id) / version.folder / ADAPTER_WEIGHTS).write_bytes(b"WEIGHTS")
        one.settle()
        assert objects(shared) == {MARKER}
        assert "2 files of adapters are missing" in caplog.text


def test_what_a_crash_left_in_the_store_goes_at_the_next_start(tmp_path: Path, shared: Path) -> None:
    with host(tmp_path / "one", shared) as one:
        tenant_id = one.tenant("a")
        one.settle()
        one.registry(tenant_id).add("law", b"{}", b"weights", accept)
        whole = objects(shared)
        half = shared / "tenants" / tenant_id / ("f" * 32)
        half.mkdir()
        (half / ADAPTER_WEIGHTS).write_bytes(b"left by a crash")
        one.settle()
        assert objects(shared) == whole


def test_a_removed_tenant_s_objects_go_also_where_a_crash_came_between(tmp_path: Path, shared: Path) -> None:
    with host(tmp_path / "one", shared) as one:
        gone, stays = one.tenant("gone"), one.tenant("stays")
        one.settle()
        for tenant_id in (gone, stays):
            one.registry(tenant_id).add("law", b"{}", b"weights", accept)
        one.store.mark_removed(gone)
        one.store.mark_removed(stays)  # a removal that never came to be
        one.directory.remove(gone)
        one.settle()
        assert not any(key.startswith(f"tenants/{gone}") for key in objects(shared))
        assert not one.folder(gone).parent.exists()  # as on a host that was not there
        assert weights_of(one.registry(stays), "law@1") == b"weights"
        one.store.mark_removed(stays)
        one.store.erase_tenant(stays)
        assert objects(shared) == {MARKER, f"removed/{gone}", f"removed/{stays}"}


def test_objects_of_tenants_that_the_database_never_knew_are_left_alone(
    tmp_path: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A database of an earlier day, put back, knows fewer tenants than there are."""
    with host(tmp_path / "one", shared) as one:
        one.settle()
        tenant_id = one.tenant("a")
        one.registry(tenant_id).add("law", b"{}", b"weights", accept)
        there = objects(shared)
        one.directory.remove(tenant_id)
        one.settle()
        assert objects(shared) == there
        assert "tenants that the database does not know" in caplog.text


def test_a_backup_holds_the_adapters_and_is_restored_into_any_store(tmp_path: Path, shared: Path) -> None:
    with host(tmp_path / "one", shared) as one:
        tenant_id = one.tenant("a")
        one.settle()
        version = one.registry(tenant_id).add("law", b"{}", b"weights", accept)
        (one.folder(tenant_id) / version.folder / ADAPTER_WEIGHTS).unlink()  # a copy that is not whole
        (one.folder(tenant_id) / f".{version.folder}.part").mkdir()
        one.registry(tenant_id).add("sea", b"{}", b"salt", accept)

        @contextmanager
        def no_rows(_: str) -> Iterator[SqliteDatabase | None]:
            yield None

        objects_of_one = open_object_store(shared.as_uri())
        assert isinstance(one.storage.central, SqliteDatabase)
        pieces = backup(
            one.data, one.storage.central, no_rows,
            complete=lambda tenant_id, folder: fetch_registered(objects_of_one, tenant_id, folder),
        )  # fmt: skip
        archive = io.BytesIO(b"".join(pieces))
    assert restore(archive, tmp_path / "plain") == 1
    assert restore(archive, tmp_path / "again") == 1
    with closing(FolderStorage(tmp_path / "plain")) as storage:
        plain = Host(tmp_path / "plain", shared, storage)
        assert weights_of(plain.registry(tenant_id, stored=False), "law@1") == b"weights"
        with pytest.raises(AdapterStoreMismatch, match=f"goes on from its backup, delete {MARKER}"):
            plain.settle()
    new = tmp_path / "new"
    new.mkdir()
    with host(tmp_path / "again", new) as again:
        again.settle()
        assert len(objects(new)) == 5
        assert weights_of(again.registry(tenant_id), "sea@1") == b"salt"


def test_hosts_with_folders_of_their_own_share_a_store_through_postgresql_and_back(
    postgres_superuser: str, tmp_path: Path, shared: Path
) -> None:
    with fresh_database(postgres_superuser) as url:
        with host(tmp_path / "one", shared) as before:
            tenant_id = before.tenant("a")
            before.settle()
            version = before.registry(tenant_id).add("law", b"{}", b"weights", accept)
        to_postgresql(tmp_path / "one", url)
        (tmp_path / "two").mkdir()
        place = shared.as_uri()
        with (
            closing(PostgresStorage(url, tmp_path / "one", store=place)) as first,
            closing(PostgresStorage(url, tmp_path / "two", store=place)) as second,
        ):
            one, two = Host(tmp_path / "one", shared, first), Host(tmp_path / "two", shared, second)
            one.settle()
            two.settle()
            here, there = one.registry(tenant_id), two.registry(tenant_id)
            assert weights_of(there, "law@1") == b"weights"
            there.add("law", b"{}", b"other", accept)
            assert here.refresh()
            assert weights_of(here, "law@2") == b"other"
            here.remove_version("law", 1)
            assert there.refresh()
            assert not (two.folder(tenant_id) / version.folder).exists()
            # What is young may be another process's that adds it just now.
            young, old = (shared / "tenants" / tenant_id / name for name in ("e" * 32, "f" * 32))
            for folder in (young, old):
                folder.mkdir()
                (folder / ADAPTER_WEIGHTS).write_bytes(b"x")
            os.utime(old / ADAPTER_WEIGHTS, (0, 0))
            two.settle()
            assert (young / ADAPTER_WEIGHTS).exists()
            assert not old.exists()
        to_folder(tmp_path / "one", url)
        with host(tmp_path / "one", shared) as after:
            after.settle()
            assert weights_of(after.registry(tenant_id), "law@2") == b"other"


def test_the_doctor_says_what_is_wrong_with_the_store(tmp_path: Path, shared: Path) -> None:
    data = tmp_path / "one"
    settings = Settings(data=data, adapter_store=shared.as_uri())

    def told() -> list[tuple[str, str]]:
        return [(found.state, found.detail) for found in look_at_store(settings)]

    with host(data, shared) as one:
        tenant_id = one.tenant("a")
        one.settle()
        version = one.registry(tenant_id).add("law", b"{}", b"weights", accept)
    assert told() == [("ok", f"{shared.as_uri()} has every file that is registered")]
    key = f"tenants/{tenant_id}/{version.folder}/{ADAPTER_WEIGHTS}"
    (shared / key).unlink()
    assert told() == [("wrong", f"{shared.as_uri()} lacks {key}")]
    (shared / MARKER).write_text('{"service": "another"}')
    assert ("wrong", f"{shared.as_uri()} belongs to another service, or to none") in told()
    shared.rename(tmp_path / "away")
    [(state, detail)] = told()
    assert (state, "there is no folder" in detail) == ("wrong", True)
