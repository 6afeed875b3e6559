"""Two real server processes on one database: whichever is asked, the answer is the same, and the work of one that dies
goes on in the other."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.adapters.reader_lora import write_lora
from tests.app.test_isolation import upload
from tests.app.test_postgres_over_http import serve, settled
from tests.app.test_restart import running
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest
from tests.databases import fresh_database

pytestmark = pytest.mark.e2e
ADMIN = "the-admin-key-of-these-tests"
AS_ADMIN = {"Authorization": f"Bearer {ADMIN}"}
PATIENCE_S = 20.0  # well before what was not told of is looked at all the same


class Two(NamedTuple):
    """Two replicas, and what they were started with."""

    a: httpx.Client
    b: httpx.Client
    data: Path
    settings: dict[str, str]


@pytest.fixture(scope="module")
def two(postgres_superuser: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    data = tmp_path_factory.mktemp("replicas")
    with fresh_database(postgres_superuser) as url, ExitStack() as servers:
        settings = {"LOREBASE_DATABASE_URL": url, "LOREBASE_ADMIN_KEY": ADMIN, "LOREBASE_LOG_LEVEL": "warning"}
        clients = [servers.enter_context(running(data, **settings))[1] for _ in range(2)]
        yield Two(*clients, data, settings)


def within(seconds: float, seen: Callable[[], bool]) -> bool:
    """Whether something is seen within so many seconds."""
    deadline = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def tenant(client: httpx.Client, name: str) -> tuple[str, dict[str, str]]:
    """A new tenant's id, and headers with its key."""
    made = client.post("/tenants", json={"name": name}, headers=AS_ADMIN)
    assert made.status_code == 201, made.text
    return made.json()["id"], {"Authorization": f"Bearer {made.json()['api_key']}"}


def long_job(client: httpx.Client, documents: int = 30) -> str:
    texts = [
        {"text": f"House {i} of {time.time()} has a number. " + "It is painted red. " * 300} for i in range(documents)
    ]
    response = client.post("/ingest", json={"documents": texts})
    assert response.status_code == 202, response.text
    return str(response.json()["job_id"])


def test_what_one_replica_ingests_replaces_or_deletes_the_other_answers_so_at_once(two: Two) -> None:
    a, b = two.a, two.b
    assert b.post("/search", json={"query": "harbour"}).status_code == 200  # its index is loaded
    document = ingest(a, LIGHTHOUSE)[0]["id"]
    assert ask(b, "When was the lighthouse built?")["answer"] == "1874"
    new = b.put(f"/documents/{document}", json={"text": LIGHTHOUSE.replace("1874", "1921")})
    assert settled(a, new.json()["job_id"]) == "succeeded"
    for client in (a, b):
        assert ask(client, "When was the lighthouse built?")["answer"] == "1921"
    assert a.delete(f"/documents/{document}").status_code == 204
    assert all(
        each["document_id"] != document for each in b.post("/search", json={"query": "lighthouse"}).json()["passages"]
    )


def test_a_promotion_is_soon_seen_by_the_other_replica(two: Two, tmp_path: Path) -> None:
    a, b = two.a, two.b
    ingest(a, LIGHTHOUSE)
    for client, rank in ((a, 4), (b, 2)):
        assert upload(client, "sea", write_lora(tmp_path / f"rank{rank}", rank=rank).folder).status_code == 201

    def serves(client: httpx.Client) -> int:
        return int(ask(client, "When was the lighthouse built?", adapter="sea")["adapter"]["version"])

    assert a.post("/adapters/sea/promote", json={"version": 1}).status_code == 200
    assert within(PATIENCE_S, lambda: b.get("/adapters/sea").json()["active"] == 1)
    assert serves(b) == 1
    assert b.post("/adapters/sea/promote", json={"version": 2}).status_code == 200
    assert within(PATIENCE_S, lambda: a.get("/adapters/sea").json()["active"] == 2)
    assert serves(a) == 2
    assert a.post("/adapters/sea/rollback").json()["version"] == 1
    assert b.post("/adapters/sea/promote", json={"version": 2}).json()["version"] == 2


def test_keys_policies_limits_and_tenants_are_the_same_in_both(two: Two) -> None:
    a, b = two.a, two.b
    tenant_id, own = tenant(a, "short-lived")
    key = a.post(f"/tenants/{tenant_id}/keys", json={"name": "second"}, headers=AS_ADMIN).json()
    second = {"Authorization": f"Bearer {key['api_key']}"}
    assert b.get("/documents", headers=second).status_code == 200
    assert a.delete(f"/tenants/{tenant_id}/keys/{key['id']}", headers=AS_ADMIN).status_code == 204
    assert_problem(b.get("/documents", headers=second), 401, "unauthorized")

    assert b.get("/policy", headers=own).json()["keep_answers"] is True
    assert a.put("/policy", json={"keep_answers": False}, headers=own).status_code == 200
    assert within(PATIENCE_S, lambda: b.get("/policy", headers=own).json()["keep_answers"] is False)

    ingest_one = {"json": {"documents": [{"text": "One."}]}, "headers": own, "params": {"wait": "true"}}
    assert b.post("/ingest", **ingest_one).status_code == 200  # type: ignore[arg-type]
    limits = a.patch(f"/tenants/{tenant_id}", json={"limits": {"documents": 1}}, headers=AS_ADMIN)
    assert limits.status_code == 200, limits.text

    def refused() -> bool:
        text = f"Two {time.monotonic()}."
        return b.post("/ingest", json={"documents": [{"text": text}]}, headers=own).status_code == 403

    assert within(PATIENCE_S, refused)

    assert a.delete(f"/tenants/{tenant_id}", headers=AS_ADMIN).status_code == 204
    assert_problem(b.get("/documents", headers=own), 401, "unauthorized")
    assert within(PATIENCE_S, lambda: not (two.data / "tenants" / tenant_id).exists())


def test_a_rate_is_shared_and_feedback_is_taken_at_the_other_replica(two: Two) -> None:
    tenant_id, own = tenant(two.a, "slow")
    ingest(two.a, LIGHTHOUSE)
    answered = ask(two.a, "When was the lighthouse built?")
    assert two.b.post("/feedback", json={"request_id": answered["request_id"], "rating": 1}).status_code == 204
    assert two.a.patch(
        f"/tenants/{tenant_id}", json={"limits": {"requests_per_minute": 6}}, headers=AS_ADMIN
    ).is_success
    assert within(PATIENCE_S, lambda: "RateLimit" in two.b.get("/documents", headers=own).headers)
    statuses = [client.get("/documents", headers=own).status_code for _ in range(4) for client in (two.a, two.b)]
    assert statuses == [200] * 5 + [429] * 3
    refused = two.a.get("/documents", headers=own)
    assert assert_problem(refused, 429, "rate_limited")["limit"] == 6
    assert 5 <= int(refused.headers["Retry-After"]) <= 10


def test_a_request_sent_to_both_replicas_with_one_key_is_done_once(two: Two) -> None:
    documents = {"documents": [{"text": f"Barn {i} is old. " + "It is painted red. " * 300} for i in range(10)]}
    found: list[httpx.Response] = []

    def send(client: httpx.Client) -> None:
        key = {"Idempotency-Key": "the-same-key"}
        found.append(client.post("/ingest", params={"wait": "true"}, json=documents, headers=key))

    threads = [threading.Thread(target=send, args=(client,)) for client in (two.a, two.b)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [response.status_code for response in found] == [200, 200]
    assert len({response.json()["job_id"] for response in found}) == 1
    assert sorted(response.headers.get("Idempotency-Replayed", "") for response in found) == ["", "true"]


def test_a_job_is_followed_and_cancelled_at_any_replica(two: Two) -> None:
    a, b = two.a, two.b
    job_id = long_job(a, 60)
    told: list[dict[str, Any]] = []

    def stages() -> set[str | None]:
        told.append(b.get(f"/jobs/{job_id}").json())
        return {each["stage"] for each in told}

    assert within(30, lambda: "embedding" in stages())
    cancelled = b.post(f"/jobs/{job_id}/cancel").json()
    assert cancelled["state"] == "cancelled"
    with a.stream("GET", f"/jobs/{job_id}/events") as events:
        assert "event: end" in "".join(events.iter_text())
    listed = a.get("/documents", params={"status": "pending"}).json()
    assert listed["total"] == 0


def test_the_jobs_of_a_killed_replica_go_on_in_the_other_ones(two: Two) -> None:
    ingest(two.a, LIGHTHOUSE)
    questions = [{"question": f"When was lighthouse {i} built?", "answers": ["1874"]} for i in range(30)]
    with running(two.data, **two.settings) as (process, client):
        evaluation = client.post("/evaluate", json={"questions": questions}).json()["job_id"]
        job_id = long_job(client, 15)
        for each in (job_id, evaluation):
            assert within(30, lambda: client.get(f"/jobs/{each}").json()["progress"]["done"] > 0)  # noqa: B023
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    states = {two.a.get(f"/jobs/{each}").json()["state"] for each in (job_id, evaluation)}
    assert states == {"running"}
    assert [settled(two.b, each) for each in (job_id, evaluation)] == ["succeeded"] * 2
    found = two.a.get(f"/jobs/{job_id}").json()["documents"]
    assert {each["status"] for each in found} == {"ready"}
    assert len(found) == 15


@pytest.mark.long
def test_a_replica_that_stood_still_goes_on_without_disturbing_the_one_that_took_over(two: Two) -> None:
    with running(two.data, **two.settings) as (process, client):
        job_id = long_job(client, 40)
        assert within(30, lambda: client.get(f"/jobs/{job_id}").json()["progress"]["done"] > 0)
        process.send_signal(signal.SIGSTOP)
        assert settled(two.a, job_id) == "succeeded"
        process.send_signal(signal.SIGCONT)
        assert within(PATIENCE_S, lambda: client.get("/readyz").status_code == 200)
        for each in (client, two.b):
            documents = each.get(f"/jobs/{job_id}").json()["documents"]
            assert [document["status"] for document in documents] == ["ready"] * 40
        assert settled(client, long_job(client, 3)) == "succeeded"


@pytest.mark.long
def test_what_wants_the_database_alone_is_refused_while_replicas_serve(two: Two, tmp_path: Path) -> None:
    refused = serve(tmp_path, "reindex", LOREBASE_DATABASE_URL=two.settings["LOREBASE_DATABASE_URL"])
    assert (refused.returncode != 0, "Traceback" in refused.stderr) == (True, False)
    assert "Stop all that do first" in " ".join(refused.stderr.split())
