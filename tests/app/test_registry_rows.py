"""A tenant's adapters in several processes: each changes what all have made of them, and none undoes another's."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

import pytest

from adapters import AdapterFacts, AdapterRegistry, FileState
from adapters.errors import NoEarlierVersion
from app.registry_rows import RowState
from ingest.postgres import PostgresServer


@pytest.fixture
def tenant_id() -> str:
    return uuid.uuid4().hex


def opened(postgres: PostgresServer, tenant_id: str, folder: Path) -> AdapterRegistry:
    """The registry as one process has it."""
    return AdapterRegistry(folder, state=RowState(postgres.database(tenant_id), FileState(folder)))


def accept(folder: Path) -> AdapterFacts:
    weights = (folder / "adapter_model.safetensors").read_bytes()
    return AdapterFacts(sha256=weights.hex(), bytes=len(weights), rank=4)


def test_what_one_process_changes_another_takes_over(postgres: PostgresServer, tenant_id: str, tmp_path: Path) -> None:
    one, other = opened(postgres, tenant_id, tmp_path), opened(postgres, tenant_id, tmp_path)
    one.add("law", b"{}", b"a", accept)
    one.promote("law", 1)
    one.set_default("law")
    assert other.names() == []
    assert other.refresh()
    assert (other.default, other.select(None)) == ("law", one.select(None))
    assert not other.refresh()
    assert not one.refresh()
    stranger = opened(postgres, uuid.uuid4().hex, tmp_path / "stranger")
    assert stranger.names() == []


def test_a_change_begins_from_what_others_have_stored(postgres: PostgresServer, tenant_id: str, tmp_path: Path) -> None:
    one, other = opened(postgres, tenant_id, tmp_path), opened(postgres, tenant_id, tmp_path)
    made: list[int] = []

    def add(registry: AdapterRegistry, content: bytes) -> None:
        for _ in range(5):
            made.append(registry.add("law", b"{}", content, accept).version)

    threads = [threading.Thread(target=add, args=each) for each in ((one, b"a"), (other, b"b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == list(range(1, 11))
    one.promote("law", 3)
    other.promote("law", 4)
    assert one.rollback("law").version == 3
    with pytest.raises(NoEarlierVersion):
        other.rollback("law")
    assert set(opened(postgres, tenant_id, tmp_path).get("law").versions) == set(range(1, 11))


def test_a_file_counts_until_the_first_change(postgres: PostgresServer, tenant_id: str, tmp_path: Path) -> None:
    before = AdapterRegistry(tmp_path)
    before.add("law", b"{}", b"a", accept)
    now = opened(postgres, tenant_id, tmp_path)
    assert now.names() == ["law"]
    now.promote("law", 1)
    assert before.get("law").active is None
    assert opened(postgres, tenant_id, tmp_path).get("law").active == 1


def test_what_cannot_be_stored_is_not_in_memory_either(
    postgres: PostgresServer, tenant_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = opened(postgres, tenant_id, tmp_path)
    registry.add("law", b"{}", b"a", accept)
    registry.add("law", b"{}", b"b", accept)
    registry.promote("law", 1)
    with monkeypatch.context() as patched:
        patched.setattr("app.registry_rows.write_state", lambda *_: (_ for _ in ()).throw(OSError("no more")))
        with pytest.raises(OSError, match="no more"):
            registry.promote("law", 2)
    assert registry.get("law").active == 1
    assert registry.promote("law", 2).version == 2


def test_what_another_process_is_just_adding_is_not_swept(
    postgres: PostgresServer, tenant_id: str, tmp_path: Path
) -> None:
    one = opened(postgres, tenant_id, tmp_path)

    def look_meanwhile(folder: Path) -> AdapterFacts:
        opened(postgres, tenant_id, tmp_path)
        return accept(folder)

    one.add("law", b"{}", b"a", look_meanwhile)
    left = tmp_path / "left-by-a-crash"
    left.mkdir()
    os.utime(left, (0, 0))
    opened(postgres, tenant_id, tmp_path)
    selected = one.select("law@1")
    assert selected is not None
    assert selected.ref.folder.is_dir()
    assert not left.exists()
