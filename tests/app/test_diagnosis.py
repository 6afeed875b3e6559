"""What the doctor finds in a folder that was damaged on purpose, and in a machine that is set up wrongly."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.diagnosis import check_models, check_service, diagnose
from app.findings import Finding
from app.folder_diagnosis import check_adapters, check_databases, check_documents, check_folder
from app.local_server import LocalServer, free_port
from app.service import Service
from app.settings import Settings
from app.storage import DATABASE, StorageMismatch
from ingest import SqliteDatabase
from tests.adapters.reader_lora import write_lora
from tests.app.terminal.console import lorebase


def worst(findings: list[Finding]) -> Finding:
    return max(findings, key=lambda finding: ("ok", "warning", "wrong").index(finding.state))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data folder with a tenant and a registered adapter."""
    settings = Settings(data=tmp_path / "data", port=free_port())
    service = Service(settings)
    service.start()
    [tenant] = service.directory.tenants()
    workspace = service.workspaces.get(tenant.id)
    assert workspace is not None
    files = write_lora(tmp_path / "lora").folder
    config, weights = (files / name for name in ("adapter_config.json", "adapter_model.safetensors"))
    while not service.readiness()[0]:
        assert service.failure is None
    workspace.adapters.add("north", config.read_bytes(), weights.read_bytes(), service.engine.check)
    service.stop()
    return settings


@pytest.mark.model
def test_a_sound_folder_has_nothing_wrong_and_every_damage_is_found_with_its_mending(settings: Settings) -> None:
    assert [f for f in diagnose(settings) if f.state == "wrong"] == []
    (settings.data / "keys.env").chmod(0o644)
    [found] = [f for f in check_folder(settings) if f.state == "wrong"]
    assert "chmod 600" in found.mend

    [weights] = settings.data.glob("tenants/*/adapters/**/adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    found = worst(list(check_adapters(settings)))
    assert "north@1 of tenant 'default': adapter_model.safetensors is not what was registered" in found.detail
    assert "lorebase adapters rollback north" in found.mend
    weights.unlink()
    assert "adapter_model.safetensors is missing" in worst(list(check_adapters(settings))).detail
    shutil.rmtree(weights.parent)
    assert "their folder is missing" in worst(list(check_adapters(settings))).detail

    [registry] = settings.data.glob("tenants/*/adapters/registry.json")
    registry.write_text('{"cut off')
    found = worst(list(check_adapters(settings)))
    assert (found.state, "registry.json back from a backup" in found.mend) == ("wrong", True)
    assert "the list of adapters of tenant 'default' cannot be read" in found.detail
    weights.parent.mkdir()
    registry.unlink()
    found = worst(list(check_adapters(settings)))
    assert f"is lost; files of versions are there: {weights.parent.name}" in found.detail
    weights.parent.rename(weights.parent.with_name("left.unlisted"))
    registry.write_text('{"adapters": {}, "default": null, "retired": {}}')
    found = worst(list(check_adapters(settings)))
    assert (found.state, "in no list: left.unlisted" in found.detail) == ("warning", True)

    (settings.data / "tenants" / "stray").mkdir()
    assert "stray" in worst(list(check_databases(settings))).detail
    shutil.rmtree(settings.data / "tenants" / "stray")
    [database] = settings.data.glob("tenants/*/lorebase.db")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE schema_version SET version = version + 5 WHERE component = 'jobs'")
        connection.commit()
    found = worst(list(check_databases(settings)))
    assert "(of tenant 'default'): tables of a newer version: jobs" in found.detail
    for path in settings.data.glob("tenants/*/lorebase.db*"):
        path.unlink()
    found = worst(list(check_databases(settings)))
    assert "is lost: documents, jobs, answers and rules of tenant 'default'; its adapters are there" in found.detail
    assert f"copy tenants/{database.parent.name} from there" in found.mend
    database.write_bytes(b"SQLite format 3\0" + b"garbage" * 1000)
    found = worst(list(check_databases(settings)))
    assert (found.state, "restore" in found.mend) == ("wrong", True)
    shutil.rmtree(database.parent)
    with closing(sqlite3.connect(settings.data / DATABASE)) as connection:
        connection.execute("UPDATE keys SET last_used_at = 1")
        connection.commit()
    found = worst(list(check_databases(settings)))
    assert (found.state, "keys of tenant 'default' have been used" in found.detail) == ("warning", True)
    shutil.rmtree(settings.data)
    assert worst(list(check_folder(settings))).state == "ok"


def test_a_folder_that_lost_its_central_database_is_told_and_not_served(
    tmp_path: Path,
) -> None:
    settings = Settings(data=tmp_path / "data", port=free_port())
    tenant = settings.data / "tenants" / ("a" * 32)
    tenant.mkdir(parents=True)
    SqliteDatabase(tenant / DATABASE, {}).close()
    central = settings.data / DATABASE
    for lose in (lambda: central.write_bytes(b""), central.unlink):
        lose()
        found = worst(list(check_folder(settings)))
        assert (found.state, "restore" in found.mend) == ("wrong", True)
        assert [f for f in check_databases(settings) if f.state == "wrong"] == []
        with pytest.raises(StorageMismatch, match="restore a backup"):
            Service(settings)
        assert (tenant / DATABASE).is_file()


def test_a_port_that_something_else_has_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        found = worst(list(check_service(Settings(data=tmp_path, port=other.getsockname()[1]))))
    assert (found.state, "LOREBASE_PORT" in found.mend) == ("wrong", True)


def test_documents_that_failed_are_counted_with_how_to_see_why(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    (tmp_path / "tenants" / "t1").mkdir(parents=True)
    for path in (tmp_path / "lorebase.db", tmp_path / "tenants" / "t1" / "lorebase.db"):
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript("CREATE TABLE documents (status TEXT); INSERT INTO documents VALUES ('ready')")
    assert [(f.state, f.detail) for f in check_documents(settings)] == [("ok", "1 ready")]
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("INSERT INTO documents VALUES ('failed'), ('failed')")
    [found] = check_documents(settings)
    assert (found.state, found.detail) == ("warning", "1 ready, 2 failed; failed of tenants t1")


@pytest.mark.e2e
def test_a_kept_key_of_another_service_is_told(server: LocalServer, tmp_path: Path) -> None:
    port = int(server.url.rpartition(":")[2])
    (tmp_path / "keys.env").write_text("LOREBASE_DEFAULT_KEY=a-key-of-another-service\n")
    found = worst(list(check_service(Settings(data=tmp_path, port=port))))
    assert (found.name, found.state, "LOREBASE_DATA" in found.mend) == ("key", "warning", True)
    assert worst(list(check_service(Settings(data=server.data, port=port)))).state == "ok"


@pytest.mark.parametrize(
    "wrong", [{"model": "openai:x", "openai_url": "http://127.0.0.1:9/v1"}, {"embedder": "/no/such/model"}]
)
def test_a_model_that_is_not_there_is_told(tmp_path: Path, wrong: dict[str, str]) -> None:
    found = worst(list(check_models(Settings(data=tmp_path, **wrong))))
    assert (found.state, bool(found.mend)) == ("wrong", True)


def test_the_command_tells_it_all_as_json_and_fails_when_something_is_wrong(tmp_path: Path) -> None:
    done = lorebase("doctor", "--json", LOREBASE_DATA=str(tmp_path / "file" / "data"), LOREBASE_PORT=str(free_port()))
    assert done.code == 0
    told = done.json
    assert told["ok"]
    assert {check["name"] for check in told["checks"]} >= {"python", "torch", "disk", "model", "data", "service"}
    broken = lorebase("doctor", LOREBASE_PORT="many")
    assert broken.code == 1
    assert "LOREBASE_PORT" in broken.out
    assert json.dumps(told)
