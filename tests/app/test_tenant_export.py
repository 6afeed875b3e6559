"""A tenant taken out is whole on an empty machine; one that is erased leaves no byte in the data folder."""

from __future__ import annotations

import hashlib
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.backup import restore
from app.keys_file import KEYS_FILE
from app.local_server import LocalServer
from app.service import Service
from app.settings import Settings
from app.terminal.backing_up import write_backup
from app.terminal.failures import CommandFailed
from reliability.backups import holding
from tests.adapters.reader_lora import write_lora
from tests.app.test_isolation import upload
from tests.app.test_restart import running
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest
from tests.databases import rows_in_files

pytestmark = pytest.mark.e2e
CANARY = "zanzibar7f3a"


def lived_in(client: httpx.Client, folder: Path, word: str = CANARY) -> None:
    """Let a tenant have some of everything."""
    ingest(client, f"The secret word of the harbour is {word}.", LIGHTHOUSE)
    replaced = ingest(client, f"Old {word}.")[0]["id"]
    body = {"documents": [{"text": f"New {word}, with a title.", "title": f"{word} title"}]}
    assert client.put(f"/documents/{replaced}", params={"wait": "true"}, json=body).status_code == 200
    client.post("/ingest", json={"documents": [{"text": f"Under a key: {word}"}]}, headers={"Idempotency-Key": word})
    assert upload(client, "own", write_lora(folder / "adapter").folder).status_code == 201
    assert client.put(f"/templates/{word}", json={"system": f"{word} is the system text."}).status_code == 200
    rows = f'{{"question": "What is {word}?", "answer": "so"}}'.encode()
    assert client.post("/datasets", files={"file": (f"{word}.jsonl", rows)}).status_code == 201
    asked = ask(client, f"What is {word}?", min_confidence=0)["request_id"]
    assert client.post("/feedback", json={"request_id": asked, "correction": word}).status_code == 204
    tenant_id = client.get("/key").json()["tenant_id"]
    assert client.post(f"/tenants/{tenant_id}/keys", json={"name": word, "scopes": ["ask"]}).status_code == 201


def facts(client: httpx.Client) -> dict[str, Any]:
    """Counts and hashes of what a tenant has."""
    deadline = time.monotonic() + 60
    while (listed := client.get("/documents?status=pending").json())["total"] and time.monotonic() < deadline:
        time.sleep(0.1)
    listed = client.get("/documents").json()
    texts = {d["id"]: client.get(f"/documents/{d['id']}/text").content for d in listed["documents"]}
    chunks = {d["id"]: client.get(f"/documents/{d['id']}/chunks").json() for d in listed["documents"]}
    return {
        "documents": listed,
        "texts": {id_: hashlib.sha256(text).hexdigest() for id_, text in texts.items()},
        "chunks": chunks,
        "found": client.post("/search", json={"query": "the secret word", "top_k": 10}).json(),
        "adapters": [[v["sha256"] for v in a["versions"]] for a in client.get("/adapters").json()["adapters"]],
        "datasets": client.get("/datasets").json(),
        "templates": client.get("/templates").json(),
        "feedback": client.get("/feedback").json(),
        "holds": client.get("/usage").json()["holds"],
    }


@rows_in_files
def test_an_export_is_the_tenant_alone_and_whole_on_an_empty_machine(
    admin: httpx.Client, tenant: httpx.Client, other_tenant: httpx.Client, tmp_path: Path
) -> None:
    lived_in(tenant, tmp_path)
    ingest(other_tenant, "The other tenant keeps a bluewhale.")
    before, own = facts(tenant), tenant.get("/key").json()
    others = [t for t in admin.get("/tenants").json()["tenants"] if t["id"] != own["tenant_id"]]
    assert len(others) >= 2
    archive = tenant.get(f"/tenants/{own['tenant_id']}/export")
    assert archive.status_code == 200
    head = tenant.get("/audit").json()["entries"][0]
    assert head["action"] == "GET /tenants/{tenant_id}/export"
    told = {word for t in others for word in (t["id"], t["name"])} - {"default"}  # which is a collection's name too
    assert not [word for word in ("bluewhale", *told) if word.encode() in archive.content]
    assert_problem(other_tenant.get(f"/tenants/{own['tenant_id']}/export"), 404, "not_found")

    target = tmp_path / "restored"
    (tmp_path / "export.tar").write_bytes(archive.content)
    with (tmp_path / "export.tar").open("rb") as file:
        assert restore(file, target) == 1
    with running(target, LOREBASE_DEFAULT_KEY="", LOREBASE_ADMIN_KEY="the-new-machines-admin-key") as (_, client):
        client.headers["Authorization"] = tenant.headers["authorization"]
        assert facts(client) == before
        assert client.get("/key").json() == own
        verified = client.get("/audit/verification").json()
        assert verified["valid"]
        assert head["sha256"] in client.get("/audit").text
        admin = {"Authorization": "Bearer the-new-machines-admin-key"}
        assert [t["id"] for t in client.get("/tenants", headers=admin).json()["tenants"]] == [own["tenant_id"]]


@rows_in_files
def test_of_an_erased_tenant_no_byte_is_left_in_the_data_folder(
    server: LocalServer, admin: httpx.Client, tmp_path: Path
) -> None:
    name = f"erased-{uuid.uuid4().hex}"
    word = f"word{uuid.uuid4().hex}"
    made = admin.post("/tenants", json={"name": name}).json()
    headers = {"Authorization": f"Bearer {made['api_key']}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        lived_in(client, tmp_path, word)
        key_id = client.get("/key").json()["key_id"]
        digest = hashlib.sha256(made["api_key"].encode()).hexdigest()
        assert admin.patch(f"/tenants/{made['id']}", json={"limits": {"documents": 99}}).status_code == 200
        assert admin.get("/backup").status_code == 200
        client.post("/ingest", json={"documents": [{"text": f"{word} {n} " * 50} for n in range(50)]})
        told = (word, name, made["id"], key_id, digest, made["api_key"])
        assert {found[1] for found in holding(server.data, *told)} == set(told) - {made["api_key"]}
        assert admin.delete(f"/tenants/{made['id']}").status_code == 204
        assert holding(server.data, *told) == []
        assert client.get("/documents").status_code == 401
    assert holding(server.data, word) == []


def test_erasing_the_first_tenant_takes_its_key_out_of_the_keys_file(tmp_path: Path) -> None:
    service = Service(Settings(data=tmp_path / "data"))
    admin_key, key = service.new_keys["LOREBASE_ADMIN_KEY"], service.new_keys["LOREBASE_DEFAULT_KEY"]
    (only,) = service.directory.tenants()
    assert service.remove_tenant(only.id)
    kept = (tmp_path / "data" / KEYS_FILE).read_text()
    assert admin_key in kept
    assert key not in kept
    assert (tmp_path / "data" / KEYS_FILE).stat().st_mode & 0o777 == 0o600
    assert holding(tmp_path / "data", only.id, key) == []
    service.stop()


def test_the_command_takes_out_one_tenant_and_knows_which_there_are(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    service = Service(settings)
    wanted = service.directory.create("wanted")[0].id
    service.stop()
    write_backup(settings, tmp_path / "one.tar", wanted)
    with (tmp_path / "one.tar").open("rb") as file:
        assert restore(file, tmp_path / "one") == 1
    with pytest.raises(CommandFailed, match="no tenant"):
        write_backup(settings, tmp_path / "none.tar", "0" * 32)
    assert not (tmp_path / "none.tar").exists()
