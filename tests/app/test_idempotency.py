"""A request sent twice under an `Idempotency-Key` is done once."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from app.idempotency import (
    IdempotencyStore,
    Interrupted,
    KeptAnswer,
    KeyReused,
    Underway,
    claiming,
    steady_clock,
)
from app.jobs import JobStore
from ingest import Database
from ingest.postgres import PostgresServer
from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

ANSWER = KeptAnswer(202, [("content-type", "application/json")], b"{}")


def test_a_kept_answer_is_given_again_and_another_request_refused(database: Database) -> None:
    store = IdempotencyStore(database, 60)
    assert store.claim("k", "this") is None
    store.keep("k", ANSWER)
    again = IdempotencyStore(database, 60).claim("k", "this")
    assert again is not None
    assert (again.status, again.body) == (202, b"{}")
    with pytest.raises(KeyReused):
        store.claim("k", "that")
    assert store.claim("other", "that") is None


def test_a_key_is_forgotten_in_time(database: Database) -> None:
    store = IdempotencyStore(database, 0.0)
    assert store.claim("k", "this") is None
    store.keep("k", ANSWER)
    assert store.claim("k", "that") is None


def test_a_clock_that_is_set_makes_no_key_forgotten() -> None:
    wall, monotonic = [1000.0], [5.0]
    now = steady_clock(lambda: wall[0], lambda: monotonic[0])
    assert now() == 1000.0
    wall[0] += 90_000.0
    monotonic[0] += 2.0
    assert now() == 1002.0


def test_what_ended_before_anything_was_begun_is_done_again(database: Database) -> None:
    assert IdempotencyStore(database, 60).claim("k", "this") is None
    assert IdempotencyStore(database, 60).claim("k", "this") is None


def test_what_ended_after_a_job_was_begun_names_it_and_begins_no_other(database: Database) -> None:
    store, jobs = IdempotencyStore(database, 60), JobStore(database)
    assert store.claim("k", "this") is None
    with claiming("k"), database.write() as connection:
        job_id = jobs.add(connection, {})
    store.release("k")
    with pytest.raises(Interrupted) as interrupted:
        IdempotencyStore(database, 60).claim("k", "this")
    assert interrupted.value.job_id == job_id


def test_what_another_process_has_under_way_is_waited_for_unless_it_is_gone(postgres: PostgresServer) -> None:
    database = postgres.database(uuid.uuid4().hex)
    one, other = (IdempotencyStore(database, 60, replica=name) for name in ("one", "other"))
    assert one.claim("k", "this") is None
    with pytest.raises(Underway) as underway:
        other.claim("k", "this")
    assert underway.value.replica == "one"
    with pytest.raises(KeyReused):
        other.claim("k", "that")
    assert other.claim("k", "this", instead_of="one") is None
    with pytest.raises(Underway):
        one.claim("k", "this", instead_of="a third")
    other.keep("k", ANSWER)
    kept = one.claim("k", "this")
    assert kept is not None
    assert (kept.status, kept.body) == (202, b"{}")


def test_a_job_that_was_rolled_back_was_not_begun(database: Database) -> None:
    store, jobs = IdempotencyStore(database, 60), JobStore(database)
    assert store.claim("k", "this") is None

    def add_and_fail() -> None:
        with claiming("k"), database.write() as connection:
            jobs.add(connection, {})
            connection.execute("no SQL")

    with pytest.raises((sqlite3.OperationalError, psycopg.errors.SyntaxError)):
        add_and_fail()
    assert store.claim("k", "this") is None


@pytest.mark.e2e
def test_the_same_request_twice_at_once_is_one_job_and_one_answer(tenant: httpx.Client) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"documents": [{"text": LIGHTHOUSE}]}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: tenant.post("/ingest", json=body, headers=headers), range(6)))
    assert {a.status_code for a in answers} == {202}
    assert len({a.content for a in answers}) == 1
    assert sorted(a.headers.get("idempotency-replayed", "") for a in answers) == [""] + ["true"] * 5
    assert tenant.get("/jobs").json()["total"] == 1
    actions = [e["action"] for e in tenant.get("/audit").json()["entries"]]
    assert actions.count("POST /ingest") == 1
    other = tenant.post("/ingest", json={"documents": [{"text": "Another."}]}, headers=headers)
    assert_problem(other, 422, "idempotency_key_reused")
    assert_problem(tenant.post("/datasets/build", json={}, headers=headers), 422, "idempotency_key_reused")
    assert tenant.get("/jobs").json()["total"] == 1


@pytest.mark.e2e
def test_a_form_is_the_same_whatever_its_boundary(tenant: httpx.Client) -> None:
    headers = {"Idempotency-Key": "upload-1"}
    files = {"files": ("a.txt", b"The harbour bell was cast in 1881.")}
    first, second = (tenant.post("/ingest", files=files, headers=headers) for _ in range(2))
    assert first.request.headers["content-type"] != second.request.headers["content-type"]
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    changed = {"files": ("a.txt", b"The harbour bell was cast in 1882.")}
    assert_problem(tenant.post("/ingest", files=changed, headers=headers), 422, "idempotency_key_reused")


@pytest.mark.e2e
def test_a_refused_request_frees_its_key(tenant: httpx.Client) -> None:
    headers = {"Idempotency-Key": "again"}
    assert_problem(tenant.post("/ingest", json={"documents": []}, headers=headers), 422, "invalid_request")
    assert tenant.post("/ingest", json={"documents": [{"text": "x"}]}, headers=headers).status_code == 202
    for bad in ("", "x" * 201, "a b"):
        refused = tenant.post("/ingest", json={"documents": [{"text": "x"}]}, headers={"Idempotency-Key": bad})
        assert_problem(refused, 422, "invalid_idempotency_key")


@pytest.mark.e2e
def test_answers_without_a_body_are_given_again_too(tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE)
    body = {"request_id": ask(tenant, "Who built the lighthouse?")["request_id"], "rating": 1}
    answers = [tenant.post("/feedback", json=body, headers={"Idempotency-Key": "thumb"}) for _ in range(2)]
    assert [(a.status_code, a.content) for a in answers] == [(204, b"")] * 2
    assert answers[1].headers["idempotency-replayed"] == "true"


@pytest.mark.e2e
def test_one_tenants_key_is_nothing_to_another(tenant: httpx.Client, other_tenant: httpx.Client) -> None:
    headers = {"Idempotency-Key": "shared"}
    for client, text in ((tenant, "One."), (other_tenant, "Two.")):
        response = client.post("/ingest", json={"documents": [{"text": text}]}, headers=headers)
        assert response.status_code == 202
        assert "idempotency-replayed" not in response.headers


@pytest.mark.e2e
def test_a_body_over_the_limit_is_refused_under_a_key_too(tenant: httpx.Client) -> None:
    def much() -> Iterator[bytes]:
        for _ in range(80):
            yield b"x" * 64 * 1024

    headers = {"Idempotency-Key": "large", "Content-Type": "application/json"}
    assert_problem(tenant.post("/ingest", content=much(), headers=headers), 413, "too_large")
