"""A backup taken beside running work is whole when restored; what is not whole is refused and leaves nothing."""

from __future__ import annotations

import io
import re
import sqlite3
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from app.backup import DATABASE, MANIFEST, InvalidBackup, backup, is_complete, restore, sweep_staging
from app.settings import Settings
from app.tenants import CENTRAL_MIGRATIONS, TenantDirectory
from app.terminal.backing_up import write_backup
from app.terminal.failures import CommandFailed
from ingest import Database, SqliteDatabase
from tests.adapters.reader_lora import write_lora
from tests.app.terminal.console import lorebase
from tests.app.test_isolation import upload
from tests.app.test_restart import running
from tests.app.texts import LIGHTHOUSE, ask, ingest

NOTES = {"notes": ["CREATE TABLE notes (body TEXT NOT NULL)"]}


class Folder:
    """A data folder with tenants that each hold notes and a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.central = SqliteDatabase(path / DATABASE, CENTRAL_MIGRATIONS)
        self.directory = TenantDirectory(self.central)

    def add(self, name: str) -> str:
        tenant, _ = self.directory.create(name)
        folder = self.path / "tenants" / tenant.id
        (folder / "adapters" / "v1").mkdir(parents=True)
        (folder / "index").mkdir()
        (folder / "adapters" / "v1" / "weights.safetensors").write_text(f"weights of {name}")
        (folder / "index" / "graph").write_text("derived")
        with closing(SqliteDatabase(folder / DATABASE, NOTES)) as database, database.write() as connection:
            connection.execute("INSERT INTO notes VALUES (?)", (f"note of {name}",))
        return tenant.id

    @contextmanager
    def open_tenant(self, tenant_id: str) -> Iterator[Database | None]:
        path = self.path / "tenants" / tenant_id / DATABASE
        if not path.is_file():
            yield None
            return
        with closing(SqliteDatabase(path, NOTES)) as database:
            yield database

    def archive(self) -> bytes:
        return b"".join(backup(self.path, self.central, self.open_tenant))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "data")
    (made.path / "keys.env").write_text("LOREBASE_ADMIN_KEY=secret")
    yield made
    made.central.close()


def notes(data: Path, tenant_id: str) -> list[str]:
    with closing(sqlite3.connect(data / "tenants" / tenant_id / DATABASE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [row[0] for row in connection.execute("SELECT body FROM notes")]


def test_what_is_restored_is_what_was_there_without_keys_and_indexes(folder: Folder, tmp_path: Path) -> None:
    ids = [folder.add("north"), folder.add("south")]
    empty = folder.directory.create("never used")[0].id
    assert restore(io.BytesIO(folder.archive()), tmp_path / "new") == 3
    assert [notes(tmp_path / "new", i) for i in ids] == [["note of north"], ["note of south"]]
    weights = tmp_path / "new" / "tenants" / ids[0] / "adapters" / "v1" / "weights.safetensors"
    assert weights.read_text() == "weights of north"
    assert not (tmp_path / "new" / "keys.env").exists()
    assert not (tmp_path / "new" / "tenants" / ids[0] / "index").exists()
    with closing(TenantDirectory(SqliteDatabase(tmp_path / "new" / DATABASE, CENTRAL_MIGRATIONS))) as directory:
        assert {t.id for t in directory.tenants()} == {*ids, empty}
        assert set(directory.unfinished()) == {*ids, empty}  # any may have been at work


def test_a_tenant_made_during_a_backup_is_in_it_and_one_erased_during_it_is_not(folder: Folder, tmp_path: Path) -> None:
    erased, kept = folder.add("erased"), folder.add("kept")
    pieces = backup(folder.path, folder.central, folder.open_tenant)
    first = [next(pieces)]
    made = folder.add("made")
    assert folder.directory.remove(erased)
    assert restore(io.BytesIO(b"".join([*first, *pieces])), tmp_path / "new") == 2
    assert (notes(tmp_path / "new", kept), notes(tmp_path / "new", made)) == (["note of kept"], ["note of made"])
    assert not (tmp_path / "new" / "tenants" / erased).exists()


def test_a_backup_leaves_nothing_in_the_data_folder_not_even_when_it_is_broken_off(folder: Folder) -> None:
    folder.add("north")
    before = sorted(p.name for p in folder.path.iterdir())
    pieces = backup(folder.path, folder.central, folder.open_tenant)
    next(pieces)
    pieces.close()
    assert sorted(p.name for p in folder.path.iterdir()) == before
    (folder.path / "backup-left-by-a-crash").mkdir()
    sweep_staging(folder.path)
    assert sorted(p.name for p in folder.path.iterdir()) == before


@pytest.mark.parametrize("length", [0, 600, 5_000, -20_480, -12_000])
def test_an_archive_cut_off_anywhere_is_refused_and_leaves_no_folder(
    folder: Folder, tmp_path: Path, length: int
) -> None:
    folder.add("north")
    (tmp_path / "cut").write_bytes(folder.archive()[:length])
    assert not is_complete(tmp_path / "cut")
    with (tmp_path / "cut").open("rb") as archive, pytest.raises(InvalidBackup, match=r"incomplete|cannot be read"):
        restore(archive, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut", "data"]


def test_a_changed_byte_is_found(folder: Folder, tmp_path: Path) -> None:
    folder.add("north")
    damaged = folder.archive().replace(b"weights of north", b"weights of nobod")
    with pytest.raises(InvalidBackup, match=r"damaged: tenants/.*weights"):
        restore(io.BytesIO(damaged), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "tenants/../../x", "tenants/" + "0" * 32 + "/../x"])
def test_an_archive_that_names_a_place_outside_is_refused(tmp_path: Path, name: str) -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(InvalidBackup, match="no backup"):
        restore(written, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_never_restored_into(folder: Folder, tmp_path: Path) -> None:
    archive = folder.archive()
    with pytest.raises(InvalidBackup, match="not empty"):
        restore(io.BytesIO(archive), folder.path)
    (tmp_path / "empty").mkdir()
    assert restore(io.BytesIO(archive), tmp_path / "empty") == 0


@pytest.mark.e2e
def test_a_backup_taken_while_documents_come_in_answers_after_it_is_restored(tmp_path: Path) -> None:
    with running(tmp_path / "data", LOREBASE_LOG_LEVEL="warning") as (_, client):  # else its log fills the pipe
        ingest(client, LIGHTHOUSE)
        assert upload(client, "north", write_lora(tmp_path / "a").folder).status_code == 201
        acknowledged: list[str] = []
        stop = threading.Event()

        def keep_ingesting() -> None:
            while not stop.wait(0.05):
                body = {"documents": [{"text": f"Note {len(acknowledged)} of the harbour master."}]}
                acknowledged.append(client.post("/ingest", json=body).json()["documents"][0]["id"])

        writer = threading.Thread(target=keep_ingesting)
        writer.start()
        before = len(acknowledged)
        port = re.search(r":(\d+)", str(client.base_url))
        assert port is not None
        write_backup(Settings(data=tmp_path / "data", port=int(port[1])), tmp_path / "b.tar")
        stop.set()
        writer.join()
        assert client.get("/backup").status_code == 403
        assert httpx.get(f"{client.base_url}/backup").status_code == 401
    assert (tmp_path / "b.tar").stat().st_mode & 0o077 == 0
    write_backup(Settings(data=tmp_path / "data"), tmp_path / "offline.tar")
    with pytest.raises(CommandFailed, match="there already"):  # never written over
        write_backup(Settings(data=tmp_path / "data"), tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert tar.getnames()[-1] == MANIFEST
        assert not any("keys" in name for name in tar.getnames())

    done = lorebase("restore", str(tmp_path / "b.tar"), "--json", LOREBASE_DATA=str(tmp_path / "new"))
    assert (done.code, done.json["tenants"]) == (0, 1)
    with running(tmp_path / "new") as (_, client):
        assert ask(client, "How tall is the lighthouse?", min_confidence=0)["citations"]
        assert client.get("/adapters/north").json()["versions"]
        held = {d["id"] for d in client.get("/documents", params={"limit": 1000}).json()["documents"]}
        assert set(acknowledged[:before]) <= held
