"""Feedback over HTTP: given on any answer of one's own, listed, exported, replaced; and the policy that keeps texts."""

from __future__ import annotations

import json
import uuid

import httpx
import pytest

from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

pytestmark = pytest.mark.e2e
QUESTION = "What turned the lamp until 1962?"


def test_feedback_holds_what_was_asked_answered_and_read(tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE)
    first = ask(tenant, QUESTION, min_confidence=0)
    body = {"request_id": first["request_id"], "rating": -1, "correction": "clockwork"}
    assert tenant.post("/feedback", json=body).status_code == 204
    page = tenant.get("/feedback").json()
    (kept,) = page["feedback"]
    assert (page["total"], kept["rating"], kept["correction"]) == (1, -1, "clockwork")
    assert (kept["question"], kept["answer"], kept["adapter"]) == (QUESTION, first["answer"], None)
    assert kept["confidence"] == first["confidence"]
    assert [p["text"] for p in kept["passages"]] == [p["text"] for p in first["passages"]]
    cited = {"start": first["citations"][0]["start"], "quote": first["citations"][0]["quote"]}
    assert cited.items() <= kept["citations"][0].items()
    (line,) = tenant.get("/feedback/export").text.splitlines()
    assert json.loads(line) == kept
    assert tenant.post("/feedback", json={"request_id": first["request_id"], "rating": 1}).status_code == 204
    assert [(f["rating"], f["correction"]) for f in tenant.get("/feedback").json()["feedback"]] == [(1, None)]
    assert tenant.delete(f"/feedback/{first['request_id']}").status_code == 204
    assert tenant.get("/feedback").json()["feedback"] == []


def test_streamed_and_chat_answers_can_be_rated_too(tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE)
    streamed = tenant.post("/ask", json={"question": QUESTION, "stream": True})
    message = {"model": "base", "messages": [{"role": "user", "content": QUESTION}]}
    chat = tenant.post("/v1/chat/completions", json=message).json()
    for request_id in (streamed.headers["x-request-id"], chat["id"]):
        assert tenant.post("/feedback", json={"request_id": request_id, "rating": 1}).status_code == 204
    assert tenant.get("/feedback", params={"rating": 1}).json()["total"] == 2
    assert tenant.get("/feedback", params={"rating": -1}).json()["total"] == 0


def test_another_tenants_answer_is_as_unknown_as_any(tenant: httpx.Client, other_tenant: httpx.Client) -> None:
    ingest(other_tenant, LIGHTHOUSE)
    foreign = ask(other_tenant, QUESTION)["request_id"]
    other_tenant.post("/feedback", json={"request_id": foreign, "rating": 1})
    answers = [
        tenant.request(method, path.format(each), json=body and {**body, "request_id": each})
        for method, path, body in (("POST", "/feedback", {"rating": -1}), ("DELETE", "/feedback/{}", None))
        for each in (foreign, uuid.uuid4().hex, "nothing")
    ]
    bodies = [assert_problem(answer, 404, "not_found") for answer in answers]
    own = [body.pop("request_id") for body in bodies]  # of each problem, not of the answer
    assert len(set(own)) == len(bodies)
    assert all(body == bodies[0] for body in bodies)
    assert tenant.get("/feedback").json()["total"] == 0
    assert [f["rating"] for f in other_tenant.get("/feedback").json()["feedback"]] == [1]


@pytest.mark.parametrize(
    "body",
    [
        {"rating": 1},
        {"request_id": "x"},
        {"request_id": "x", "rating": 0},
        {"request_id": "x", "rating": True},
        {"request_id": "x", "rating": "1"},
        {"request_id": "x", "rating": 1, "correction": " \n"},
        {"request_id": "x", "correction": "x" * 16_001},
        {"request_id": "x\0", "rating": 1},
        {"request_id": "x", "rating": 1, "comment": "?"},
    ],
)
def test_feedback_that_says_nothing_clear_is_refused(tenant: httpx.Client, body: dict[str, object]) -> None:
    assert_problem(tenant.post("/feedback", json=body), 422, "invalid_request")


def test_a_tenant_may_decide_that_no_texts_are_kept(tenant: httpx.Client) -> None:
    assert tenant.get("/policy").json()["keep_answers"] is True
    assert tenant.put("/policy", json={"keep_answers": False}).json()["keep_answers"] is False
    ingest(tenant, LIGHTHOUSE)
    answer = ask(tenant, QUESTION)
    assert tenant.post("/feedback", json={"request_id": answer["request_id"], "rating": 1}).status_code == 204
    (kept,) = tenant.get("/feedback").json()["feedback"]
    assert (kept["question"], kept["answer"], kept["passages"]) == (None, None, [])
    assert kept["confidence"] == answer["confidence"]
    assert_problem(tenant.put("/policy", json={"keep_anwsers": False}), 422, "invalid_request")
