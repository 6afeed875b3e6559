"""The audit log: a chain of hashes that shows what was changed, and entries for what keys did and were refused."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing

import httpx
import pytest

from app.audit import BEGINNING, AuditEntry, AuditLog
from app.local_server import LocalServer
from ingest import Database
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest
from tests.databases import rows_in_files


@pytest.fixture
def log(database: Database) -> AuditLog:
    return AuditLog(database)


def entry(number: int, status: int = 200) -> AuditEntry:
    return AuditEntry("a-key", "DELETE /documents/{document_id}", {"document_id": str(number)}, status, f"r{number}")


def test_entries_are_chained_and_listed_newest_first(log: AuditLog) -> None:
    assert log.verify().head == BEGINNING
    for number in range(5):
        log.add(entry(number))
    listed, total = log.page(2, 1)
    assert (total, [each.number for each in listed]) == (5, [4, 3])
    verdict = log.verify()
    assert (verdict.entries, verdict.broken_at) == (5, None)
    assert verdict.head == log.page(1, 0)[0][0].sha256


def test_entries_from_many_threads_make_one_chain(log: AuditLog) -> None:
    threads = [threading.Thread(target=lambda: [log.add(entry(n)) for n in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (log.verify().entries, log.verify().broken_at) == (40, None)


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ("UPDATE audit SET key_id = 'another' WHERE number = 2", 2),
        ("UPDATE audit SET at = at + 1 WHERE number = 3", 3),
        ("UPDATE audit SET object = '{}' WHERE number = 1", 1),
        ("DELETE FROM audit WHERE number = 2", 3),
        ("DELETE FROM audit WHERE number = 1", 2),
        ("UPDATE audit SET sha256 = 'x' WHERE number = 4", 4),
    ],
)
def test_a_changed_or_missing_entry_is_found(log: AuditLog, database: Database, change: str, at: int) -> None:
    for number in range(4):
        log.add(entry(number))
    with database.write() as connection:
        connection.execute(change)
    assert log.verify().broken_at == at


def test_the_same_refusal_is_told_of_once_a_minute(log: AuditLog) -> None:
    for _ in range(5):
        log.add_refusal(entry(1, 403))
    log.add_refusal(entry(1, 401))
    assert log.page(10, 0)[1] == 2


@pytest.mark.e2e
def test_every_change_is_told_of_with_who_and_what_and_nothing_of_the_content(
    server: LocalServer, admin: httpx.Client, tenant: httpx.Client
) -> None:
    own = tenant.get("/key").json()
    secret = "zanzibar-4711"
    document = ingest(tenant, f"The password is {secret}. {LIGHTHOUSE}")[0]["id"]
    asked = ask(tenant, f"What is {secret}?")["request_id"]
    assert tenant.post("/feedback", json={"request_id": asked, "correction": secret}).status_code == 204
    deleted = tenant.delete(f"/documents/{document}", headers={"X-Request-ID": "removal-1"})
    assert deleted.status_code == 204
    assert tenant.delete(f"/documents/{secret}").status_code == 404
    assert admin.patch(f"/tenants/{own['tenant_id']}", json={"limits": {"documents": 9}}).status_code == 200

    listed = tenant.get("/audit")
    entries = listed.json()["entries"]
    told = [(each["action"], each["status"]) for each in reversed(entries)]
    assert told == [
        ("POST /tenants", 201),
        ("POST /ingest", 200),
        ("POST /feedback", 204),
        ("DELETE /documents/{document_id}", 204),
        ("DELETE /documents/{document_id}", 404),
        ("PATCH /tenants/{tenant_id}", 200),
    ]
    gone = entries[2]
    assert (gone["key_id"], gone["object"], gone["request_id"]) == (
        own["key_id"],
        {"document_id": document},
        "removal-1",
    )
    assert set(entries[4]["object"]) == {"job_id"}
    assert entries[0]["key_id"] == entries[5]["key_id"] == admin.get("/key").json()["key_id"]
    assert secret not in listed.text
    assert "lb_" not in listed.text
    assert admin.get(f"/tenants/{own['tenant_id']}/audit").json()["total"] == len(entries)
    verified = tenant.get("/audit/verification").json()
    assert verified == {"valid": True, "entries": 6, "head": entries[0]["sha256"], "broken_at": None}


@pytest.mark.e2e
def test_deleting_many_tells_which(server: LocalServer, tenant: httpx.Client) -> None:
    ids = [each["id"] for each in ingest(tenant, "One.", "Two.")]
    assert tenant.post("/documents/delete", json={"ids": [*ids, "none"]}).json()["deleted"] == 2
    entry = tenant.get("/audit").json()["entries"][0]
    assert entry["object"]["deleted"] == "2"
    assert set(entry["object"]["document_ids"].split()) == set(ids)


@pytest.mark.e2e
def test_refused_uses_of_a_tenants_keys_are_told_of(server: LocalServer, tenant: httpx.Client) -> None:
    keys = f"/tenants/{tenant.get('/key').json()['tenant_id']}/keys"
    made = tenant.post(keys, json={"scopes": ["ask"]}).json()
    headers = {"Authorization": f"Bearer {made['api_key']}"}
    assert_problem(tenant.get("/audit", headers=headers), 403, "missing_scope")
    assert tenant.delete(f"{keys}/{made['id']}").status_code == 204
    assert_problem(tenant.post("/ask", json={"question": "x"}, headers=headers), 401)
    deadline = time.monotonic() + 10
    while (entries := tenant.get("/audit").json()["entries"])[0]["status"] != 401 and time.monotonic() < deadline:
        time.sleep(0.02)  # it is told of after the answer
    refused = [(e["action"], e["status"]) for e in entries if e["key_id"] == made["id"]]
    assert refused == [("POST /ask", 401), ("GET /audit", 403)]
    assert entries[1]["object"]["key_id"] == entries[3]["object"]["made_key_id"] == made["id"]


@rows_in_files
@pytest.mark.e2e
def test_an_entry_is_written_before_the_answer_is_sent(server: LocalServer, tenant: httpx.Client) -> None:
    tenant_id = tenant.get("/key").json()["tenant_id"]
    path = server.data / "tenants" / tenant_id / "lorebase.db"
    for number in range(5):
        tenant.put("/templates/t", json={"system": str(number)})
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            kept = connection.execute("SELECT count(*) FROM audit WHERE action = 'PUT /templates/{name}'").fetchone()[0]
        assert kept == number + 1
        time.sleep(0.01)
