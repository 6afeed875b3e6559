"""Over HTTP: documents replaced, retried and deleted in number; jobs listed and followed; a tenant that leaves."""

from __future__ import annotations

import json
import threading
import time

import httpx
import pytest

from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

pytestmark = pytest.mark.e2e
REBUILT = LIGHTHOUSE.replace("1874", "1891")


def log_of(days: int) -> str:
    """A text of about as many chunks."""
    return "\n\n".join(f"Log of day {n}. " + "The keeper saw no ship but wrote of it. " * 7 for n in range(days))


def replace(client: httpx.Client, document_id: object, text: str, **fields: object) -> httpx.Response:
    body = {"documents": [{"text": text, **fields}]}
    return client.put(f"/documents/{document_id}", params={"wait": "true"}, json=body)


def test_a_replaced_document_answers_with_its_new_content_under_the_same_id(tenant: httpx.Client) -> None:
    document = ingest(tenant, LIGHTHOUSE)[0]
    assert ask(tenant, "When was the lighthouse built?")["answer"] == "1874"
    response = replace(tenant, document["id"], REBUILT, title="Skerry Point")
    assert response.status_code == 200
    listed = response.json()["documents"]
    assert [(d["id"], d["status"], d["title"]) for d in listed] == [(document["id"], "ready", "Skerry Point")]
    answered = ask(tenant, "When was the lighthouse built?")
    assert answered["answer"] == "1891"
    citation, text = answered["citations"][0], tenant.get(f"/documents/{document['id']}/text").text
    assert text[citation["start"] : citation["end"]] == citation["quote"]
    assert tenant.get("/documents").json()["total"] == 1


def test_a_file_takes_a_documents_place_and_one_that_cannot_be_read_does_not(tenant: httpx.Client) -> None:
    document = ingest(tenant, LIGHTHOUSE)[0]
    path, wait = f"/documents/{document['id']}", {"wait": "true"}
    assert tenant.put(path, params=wait, files={"files": ("new.txt", REBUILT.encode())}).status_code == 200
    broken = tenant.put(path, params=wait, files={"files": ("broken.pdf", b"%PDF-1.7\nnothing")}).json()
    assert (broken["documents"][0]["status"], bool(broken["documents"][0]["error"])) == ("failed", True)
    assert tenant.get(f"/jobs/{broken['job_id']}").json()["state"] == "failed"
    shown = tenant.get(path).json()
    assert (shown["status"], shown["replacement"]["status"]) == ("ready", "failed")
    assert ask(tenant, "When was the lighthouse built?")["answer"] == "1891"
    assert tenant.post(f"{path}/retry").status_code == 202


def test_the_content_it_has_is_a_duplicate_and_anothers_is_refused(tenant: httpx.Client) -> None:
    first, second = ingest(tenant, LIGHTHOUSE, "The harbour closes at nine.")
    same = replace(tenant, first["id"], LIGHTHOUSE)
    assert (same.status_code, same.json()["documents"][0]["duplicate"]) == (200, True)
    assert first["title"] == same.json()["documents"][0]["title"]
    problem = assert_problem(replace(tenant, first["id"], "The harbour closes at nine."), 409, "same_content_elsewhere")
    assert problem["document_id"] == second["id"]


def test_a_document_may_be_sent_without_the_list_around_it(tenant: httpx.Client) -> None:
    document = ingest(tenant, LIGHTHOUSE)[0]
    response = tenant.put(f"/documents/{document['id']}", params={"wait": "true"}, json={"text": REBUILT})
    assert response.status_code == 200
    assert "1891" in tenant.get(f"/documents/{document['id']}/text").text


@pytest.mark.parametrize(
    ("request_fields", "status"),
    [
        ({"json": {"documents": []}}, 422),
        ({"json": {"documents": [{"text": "one"}, {"text": "two"}]}}, 422),
        ({"json": {"text": ""}}, 422),
        ({"files": [("files", ("a.txt", b"a")), ("files", ("b.txt", b"b"))]}, 422),
        ({"content": b"plain", "headers": {"Content-Type": "text/plain"}}, 415),
    ],
)
def test_a_malformed_replacement_is_refused_and_changes_nothing(
    tenant: httpx.Client, request_fields: dict[str, object], status: int
) -> None:
    document = ingest(tenant, LIGHTHOUSE)[0]
    assert_problem(tenant.put(f"/documents/{document['id']}", **request_fields), status)  # type: ignore[arg-type]
    shown = tenant.get(f"/documents/{document['id']}").json()
    assert (shown["status"], shown["replacement"]) == ("ready", None)
    assert_problem(tenant.put("/documents/" + "0" * 32, json={"text": "x"}), 404, "not_found")


def test_many_documents_are_deleted_at_once_exactly_as_asked(tenant: httpx.Client) -> None:
    kept = ingest(tenant, LIGHTHOUSE, metadata={"year": 2020})[0]
    others = ingest(tenant, *(f"Note {n} of the year." for n in range(4)), metadata={"year": 2024})
    body = {"ids": [others[0]["id"], "unknown"]}
    assert tenant.post("/documents/delete", json=body).json() == {"deleted": 1, "not_found": ["unknown"]}
    body = {"filter": {"year": {"gte": 2024}}, "collection": "default"}
    assert tenant.post("/documents/delete", json=body).json()["deleted"] == 3
    assert [d["id"] for d in tenant.get("/documents").json()["documents"]] == [kept["id"]]
    assert {p["document_id"] for p in tenant.post("/search", json={"query": "note"}).json()["passages"]} == {kept["id"]}


@pytest.mark.parametrize(
    "body",
    [{}, {"filter": {}}, {"ids": []}, {"ids": ["a"], "collection": "b"}, {"ids": "a"}, {"all": True},
     {"filter": {"year": {"about": 1}}}, {"status": "gone"}],
)  # fmt: skip
def test_a_deletion_that_does_not_say_what_is_refused(tenant: httpx.Client, body: dict[str, object]) -> None:
    ingest(tenant, LIGHTHOUSE)
    assert_problem(tenant.post("/documents/delete", json=body), 422)
    assert tenant.get("/documents").json()["total"] == 1


def test_a_large_document_shows_its_progress_and_jobs_are_listed(tenant: httpx.Client) -> None:
    job_id = tenant.post("/ingest", json={"documents": [{"text": log_of(100)}]}).json()["job_id"]
    with tenant.stream("GET", f"/jobs/{job_id}/events") as events:
        blocks = "".join(events.iter_text()).strip().split("\n\n")
    told = [json.loads(block.split("data: ", 1)[1]) for block in blocks if "data: " in block]
    embedding = [job for job in told if job["stage"] == "embedding" and job["chunks"]]
    assert len({job["chunks"]["done"] for job in embedding}) >= 2
    assert any(job["eta_seconds"] is not None for job in embedding)
    assert (told[-1]["state"], told[-1]["stage"], told[-1]["eta_seconds"]) == ("succeeded", None, None)
    page = tenant.get("/jobs", params={"state": "succeeded"}).json()
    assert [(job["id"], job["kind"]) for job in page["jobs"]] == [(job_id, "ingest")]
    assert "documents" not in page["jobs"][0]
    assert_problem(tenant.get("/jobs", params={"state": "lost"}), 422)
    assert_problem(tenant.post(f"/jobs/{job_id}/retry"), 409, "nothing_to_retry")


def test_another_tenant_is_served_while_a_large_document_is_ingested(
    tenant: httpx.Client, other_tenant: httpx.Client
) -> None:
    job_id = tenant.post("/ingest", json={"documents": [{"text": log_of(1000)}]}).json()["job_id"]
    assert ingest(other_tenant, LIGHTHOUSE)[0]["status"] == "ready"
    assert ask(other_tenant, "When was the lighthouse built?")["answer"] == "1874"
    assert tenant.get(f"/jobs/{job_id}").json()["state"] in ("queued", "running")
    tenant.post(f"/jobs/{job_id}/cancel")


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.6])
def test_a_tenant_can_be_removed_at_any_moment_of_its_jobs(
    admin: httpx.Client, tenant: httpx.Client, seconds: float
) -> None:
    made = admin.post("/tenants", json={"name": f"leaving after {seconds} {time.time()}"}).json()
    headers = {"Authorization": f"Bearer {made['api_key']}"}
    body = {"documents": [{"text": log_of(300)}, {"text": LIGHTHOUSE}]}
    assert tenant.post("/ingest", json=body, headers=headers).status_code == 202
    statuses: list[int] = []

    def search() -> None:
        for _ in range(20):
            statuses.append(tenant.post("/search", json={"query": "ship"}, headers=headers).status_code)

    searching = threading.Thread(target=search)
    searching.start()
    time.sleep(seconds)
    assert admin.delete(f"/tenants/{made['id']}").status_code == 204
    searching.join()
    assert set(statuses) <= {200, 401, 503}
    assert ingest(tenant, LIGHTHOUSE)[0]["status"] == "ready"
