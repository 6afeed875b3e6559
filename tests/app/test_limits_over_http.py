"""Limits of a tenant over HTTP: told in headers and `/usage`, held under concurrency, set by the admin."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.local_server import LocalServer
from tests.adapters.reader_lora import write_lora
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

pytestmark = pytest.mark.e2e


class Limited:
    """A tenant whose limits the test sets."""

    def __init__(self, id_: str, client: httpx.Client, admin: httpx.Client) -> None:
        self.id, self.client, self._admin = id_, client, admin

    def limit(self, **limits: int | str | None) -> None:
        response = self._admin.patch(f"/tenants/{self.id}", json={"limits": limits})
        assert response.status_code == 200, response.text

    def add(self, text: str) -> httpx.Response:
        return self.client.post("/ingest", json={"documents": [{"text": text}]})


@pytest.fixture
def limited(server: LocalServer, admin: httpx.Client) -> Iterator[Limited]:
    made = admin.post("/tenants", json={"name": f"limited {uuid.uuid4().hex[:8]}"}).json()
    headers = {"Authorization": f"Bearer {made['api_key']}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        yield Limited(made["id"], client, admin)


def test_without_limits_no_header_speaks_of_them(limited: Limited) -> None:
    response = limited.client.get("/documents")
    assert not [name for name in response.headers if name.startswith("ratelimit")]
    assert set(limited.client.get("/usage").json()["limits"].values()) == {None}


def test_requests_over_the_rate_are_answered_429_with_when_to_come_again(limited: Limited) -> None:
    limited.limit(requests_per_minute=5)
    answers = [limited.client.get("/documents") for _ in range(6)]
    assert [a.status_code for a in answers] == [200] * 5 + [429]
    assert answers[0].headers["ratelimit-policy"] == '"requests";q=5;w=60'
    assert [a.headers["ratelimit"].split(";t=")[0] for a in answers] == [
        f'"requests";r={r}' for r in (4, 3, 2, 1, 0, 0)
    ]
    refused = assert_problem(answers[-1], 429, "rate_limited")
    assert (refused["quota"], refused["limit"]) == ("requests_per_minute", 5)
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 12
    limited.limit(requests_per_minute=None)
    assert limited.client.get("/documents").status_code == 200


def test_a_rate_is_refused_before_the_body_is_sent(limited: Limited, server: LocalServer) -> None:
    limited.limit(requests_per_minute=1)
    assert limited.client.get("/documents").status_code == 200
    where = urlsplit(server.url)
    key = limited.client.headers["authorization"]
    head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 429")


def test_of_many_documents_at_once_no_more_are_stored_than_may_be(limited: Limited) -> None:
    limited.limit(documents=5)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(limited.add, [f"Document number {n}." for n in range(12)]))
    assert sorted(a.status_code for a in answers) == [202] * 5 + [403] * 7
    assert limited.client.get("/documents").json()["total"] == 5
    refused = assert_problem(next(a for a in answers if a.status_code == 403), 403, "quota_exceeded")
    assert (refused["quota"], refused["limit"]) == ("documents", 5)
    assert "Delete documents" in refused["detail"]
    kept = limited.client.get("/documents").json()["documents"][0]["id"]
    assert limited.client.delete(f"/documents/{kept}").status_code == 204
    assert limited.add("One more.").status_code == 202


def test_bytes_are_those_that_are_held_once_a_replacement_is_done(limited: Limited) -> None:
    limited.limit(bytes=100)
    id_ = ingest(limited.client, "x" * 90)[0]["id"]
    assert_problem(limited.add("y" * 11), 403, "quota_exceeded")
    assert limited.add("x" * 90).status_code == 202  # the same content is there already
    grown = limited.client.put(f"/documents/{id_}", json={"documents": [{"text": "z" * 101}]})
    assert assert_problem(grown, 403, "quota_exceeded")["quota"] == "bytes"
    fits = {"documents": [{"text": "z" * 100}]}
    assert limited.client.put(f"/documents/{id_}", params={"wait": "true"}, json=fits).status_code == 200
    assert limited.client.get("/usage").json()["holds"]["bytes"] == 100


def test_tokens_of_the_day_are_counted_and_then_spent(limited: Limited) -> None:
    ingest(limited.client, LIGHTHOUSE)
    used = ask(limited.client, "Who built the lighthouse?")["usage"]
    tokens = used["prompt_tokens"] + used["completion_tokens"]
    today = limited.client.get("/usage").json()["today"]
    assert (today["tokens"], today["questions"]) == (tokens, 1)
    limited.limit(tokens_per_day=tokens + 1)
    answered = limited.client.post("/ask", json={"question": "Who built the lighthouse?"})
    assert answered.status_code == 200
    assert answered.headers["ratelimit"].startswith('"tokens";r=1;t=')
    for path, body in [
        ("/ask", {"question": "Who?"}),
        ("/v1/chat/completions", {"model": "base", "messages": [{"role": "user", "content": "Who?"}]}),
        ("/evaluate", {"questions": [{"question": "Who?", "answers": ["x"]}]}),
    ]:
        response = limited.client.post(path, json=body)
        refused = assert_problem(response, 429, "quota_exceeded")
        assert refused["quota"] == "tokens_per_day"
        assert 0 < int(response.headers["retry-after"]) <= 86_400
    assert limited.client.post("/search", json={"query": "lighthouse"}).status_code == 200


def test_adapter_versions_and_training_have_limits(limited: Limited, tmp_path: Path) -> None:
    folder = write_lora(tmp_path / "a").folder
    files = [("files", (p.name, p.read_bytes())) for p in sorted(folder.iterdir())]
    limited.limit(adapter_versions=1, training_minutes_per_day=0)
    assert limited.client.post("/adapters/one/versions", files=files).status_code == 201
    refused = assert_problem(limited.client.post("/adapters/two/versions", files=files), 403, "quota_exceeded")
    assert (refused["limit"], refused["used"]) == (1, 1)
    rows = b'{"question": "Why?", "answer": "so", "passages": ["so it is"]}'
    dataset = limited.client.post("/datasets", files={"file": ("set.jsonl", rows)}).json()["id"]
    train = ("/adapters/two/train", {"dataset": dataset})
    assert_problem(limited.client.post(train[0], json=train[1]), 403, "quota_exceeded")
    limited.limit(adapter_versions="unlimited")
    late = limited.client.post(train[0], json=train[1])
    assert assert_problem(late, 429, "quota_exceeded")["quota"] == "training_minutes_per_day"
    assert limited.client.get("/jobs").json()["total"] == 0


def test_the_admin_sees_limits_and_usage_and_a_tenant_sets_none(limited: Limited, admin: httpx.Client) -> None:
    limited.limit(documents=3, bytes="unlimited")
    shown = admin.get(f"/tenants/{limited.id}").json()
    assert (shown["limits"]["documents"], shown["limits"]["bytes"]) == (3, None)
    assert shown["overrides"] == {"documents": 3, "bytes": "unlimited"}
    own, theirs = limited.client.get("/usage").json(), admin.get(f"/tenants/{limited.id}/usage").json()
    assert own["holds"] == theirs["holds"]
    assert theirs["today"]["requests"] >= 1
    assert_problem(limited.client.patch(f"/tenants/{limited.id}", json={"limits": {"documents": 9}}), 403, "forbidden")
    assert_problem(admin.patch(f"/tenants/{uuid.uuid4().hex}", json={"limits": {}}), 404, "not_found")
    for bad in ({"limits": {"documents": -1}}, {"limits": {"requests_per_minute": 0}}, {"limits": {"cpu": 1}}, {}):
        assert_problem(admin.patch(f"/tenants/{limited.id}", json=bad), 422, "invalid_request")
