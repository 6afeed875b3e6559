"""Data folders that have lost something: what the service answers, what commands say, and what stays."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from adapters import UNLISTED, AdapterFacts, AdapterRegistry
from adapters.errors import RegistryDamaged
from app.local_server import LocalServer, free_port, local_server
from app.service import Service
from app.settings import Settings
from app.storage import DATABASE, open_in_folder
from ingest import DamagedData
from tests.app.terminal.console import lorebase
from tests.app.texts import LIGHTHOUSE, assert_problem, ingest

ID = "a" * 32


def made_newer(path: Path) -> None:
    """Let a database pass for one that a later version wrote."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE schema_version SET version = version + 5")
        connection.commit()


def garbled(path: Path) -> None:
    path.write_bytes(b"garbage" * 2000)


def a_folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def with_registry(folder: Path, content: str) -> None:
    (folder / "adapters").mkdir()
    (folder / "adapters" / "registry.json").write_text(content)


def lose_database(folder: Path) -> None:
    with_registry(folder, "{}")
    (folder / DATABASE).unlink()


def a_file_instead(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("x")


TENANT_DAMAGES: dict[str, tuple[Callable[[Path], object], int, str, str]] = {
    "database lost": (lose_database, 503, "damaged", "is lost, while its other files are there"),
    "database empty": (
        lambda folder: (with_registry(folder, "{}"), (folder / DATABASE).write_bytes(b"")),
        503, "damaged", "is lost, while its other files are there",
    ),
    "database a folder": (
        lambda folder: a_folder_instead(folder / DATABASE),
        503, "damaged", "is lost, while its other files are there",
    ),
    "database garbage": (lambda folder: garbled(folder / DATABASE), 503, "damaged", "restore a backup"),
    "database newer": (lambda folder: made_newer(folder / DATABASE), 503, "newer_database", "the newer version"),
    "list cut off": (lambda folder: with_registry(folder, '{"adapters": {"no'), 503, "damaged", "list of this tenant"),
    "list of another form": (lambda folder: with_registry(folder, "[]"), 503, "damaged", "list of this tenant"),
    "file for the adapters": (
        lambda folder: (folder / "adapters").write_text("x"),
        503, "damaged", "folder is damaged",
    ),
    "file for the tenant": (a_file_instead, 503, "damaged", "folder is damaged"),
}  # fmt: skip


@dataclass(frozen=True)
class Damaged:
    """A server over a folder in which tenants are damaged, each in its own way, before it starts."""

    server: LocalServer
    keys: dict[str, str]
    folders: dict[str, Path]

    def client(self, damage: str) -> httpx.Client:
        return httpx.Client(base_url=self.server.url, headers={"Authorization": f"Bearer {self.keys[damage]}"})


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    data = tmp_path_factory.mktemp("damaged") / "data"
    service = Service(Settings(data=data, port=free_port()))
    made = {damage: service.directory.create(damage) for damage in TENANT_DAMAGES}
    service.stop()
    folders = {damage: data / "tenants" / tenant.id for damage, (tenant, _) in made.items()}
    for damage, folder in folders.items():
        folder.mkdir(parents=True)
        open_in_folder(folder.name, folder).close()
        TENANT_DAMAGES[damage][0](folder)
    with local_server(data=data) as server:
        yield Damaged(server, {damage: key for damage, (_, key) in made.items()}, folders)


@pytest.mark.e2e
@pytest.mark.parametrize("damage", TENANT_DAMAGES)
def test_a_tenants_damaged_folder_is_told_to_it_and_left_as_it_is(damaged: Damaged, damage: str) -> None:
    _, status, code, told = TENANT_DAMAGES[damage]
    folder = damaged.folders[damage]
    left = [path for path in (folder, *folder.rglob("*")) if not path.name.endswith(("-wal", "-shm"))]
    with damaged.client(damage) as client:
        for answer in (
            client.post("/ask", json={"question": "Where?"}),
            client.get("/documents"),
            client.get("/adapters"),
        ):
            assert told in assert_problem(answer, status, code)["detail"]
    assert [path for path in left if not path.exists()] == []


@pytest.mark.e2e
def test_beside_damaged_tenants_others_are_answered_and_their_jobs_are_done(damaged: Damaged) -> None:
    with httpx.Client(
        base_url=damaged.server.url, headers={"Authorization": f"Bearer {damaged.server.default_key}"}, timeout=60
    ) as sound:
        ingest(sound, LIGHTHOUSE)
        answer = sound.post("/ask", json={"question": "When was the lighthouse at Skerry Point built?"})
    assert answer.json()["answer"] == "1874"


def test_a_new_tenants_empty_folder_gets_its_database_and_a_lost_one_does_not(tmp_path: Path) -> None:
    open_in_folder(ID, tmp_path).close()
    (tmp_path / "adapters").mkdir()
    open_in_folder(ID, tmp_path).close()
    for path in tmp_path.glob(f"{DATABASE}*"):
        path.unlink()
    with pytest.raises(DamagedData, match=f"database of tenant {tmp_path.name} is lost"):
        open_in_folder(ID, tmp_path)
    assert not (tmp_path / DATABASE).exists()


def test_versions_whose_list_is_lost_are_set_aside_and_never_swept(tmp_path: Path) -> None:
    def check(_: Path) -> AdapterFacts:
        return AdapterFacts("0" * 64, 1, 8, frozenset(), "lora")

    AdapterRegistry(tmp_path).add("north", b"{}", b"weights", check)
    (tmp_path / "registry.json").write_text("cut")
    with pytest.raises(RegistryDamaged):
        AdapterRegistry(tmp_path)
    [folder] = (path for path in tmp_path.iterdir() if path.is_dir())
    (tmp_path / "registry.json").unlink()
    AdapterRegistry(tmp_path).add("south", b"{}", b"weights", check)
    AdapterRegistry(tmp_path)
    kept = tmp_path / (folder.name + UNLISTED)
    assert (kept / "adapter_model.safetensors").read_bytes() == b"weights"


def test_one_tenants_damaged_list_keeps_no_other_tenants_adapters_out_of_memory(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, port=free_port())
    service = Service(settings)
    [tenant] = service.directory.tenants()
    folder = tmp_path / "tenants" / tenant.id
    folder.mkdir(parents=True)
    with_registry(folder, "[]")
    assert service.workspaces.pinned() == []
    service.stop()


CENTRAL_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "lost": (Path.unlink, "is missing or empty"),
    "garbage": (garbled, "cannot be read (file is not a database)"),
    "newer": (made_newer, "the newer version"),
    "folder": (a_folder_instead, "is a folder, where a file should be"),
}
COMMANDS = (
    ("serve",),
    ("ask", "Where?", "--data", "data"),
    ("ingest", "note.txt", "--data", "data"),
    ("tenants", "list", "--data", "data"),
    ("backup", "kept.tar"),
    ("reindex",),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a tenant that has a database."""
    service = Service(Settings(data=tmp_path / "data", port=free_port()))
    [tenant] = service.directory.tenants()
    service.stop()
    folder = tmp_path / "data" / "tenants" / tenant.id
    folder.mkdir(parents=True)
    open_in_folder(tenant.id, folder).close()
    (tmp_path / "note.txt").write_text("x")
    return tmp_path / "data"


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.parametrize("damage", CENTRAL_DAMAGES)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_on_a_folder_without_its_central_database_ends_with_one_sentence(
    data: Path, damage: str, command: tuple[str, ...]
) -> None:
    break_it, told = CENTRAL_DAMAGES[damage]
    break_it(data / DATABASE)
    ended = lorebase(*command, cwd=data.parent, LOREBASE_DATA="data", LOREBASE_PORT=str(free_port()))
    assert ended.code not in (0, None)
    [line] = [line for line in ended.error.splitlines() if not line.startswith("serving ")]
    assert line.startswith("error: ")
    assert told in line
    assert DATABASE in line
    assert not (data.parent / "kept.tar").exists()
    assert (data / DATABASE).exists() is (damage != "lost")
