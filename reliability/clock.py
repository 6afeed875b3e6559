"""A wall clock that is set while the service works, by seconds and by years, forwards and back.

Requests that are sent again under their `Idempotency-Key`, several at once and while the clock is set, are done once
and answered the same; jobs end; of two replacements the later one stays; rates refuse for no longer than they say; a
key opens what it opens until it expires, by the clock as it is.
"""

from __future__ import annotations

import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx

from app.local_server import LocalServer, local_server
from reliability.acknowledged import check_database, made_text, settle
from reliability.jumping_clock import Clock
from reliability.outcome import Outcome

_HOUR, _DAY = 3600.0, 86_400.0
_JUMPS = (1.5, -1.5, 61.0, -61.0, 2 * _HOUR, -2 * _HOUR, 25 * _HOUR, -25 * _HOUR, 400 * _DAY, -400 * _DAY)
_AT_ONCE = 4  # times that a request is sent
_PER_MINUTE = 5
_SETTLE_S = 60.0


def run(*, seed: int = 1, jumps: int = 30) -> Outcome:
    """Set the clock so many times, in the first rounds a day and a year on and back, else as the seed has it."""
    outcome, chance = Outcome(), random.Random(seed)
    chosen = [25 * _HOUR, -400 * _DAY, *(chance.choice(_JUMPS) for _ in range(jumps))][:jumps]
    with tempfile.TemporaryDirectory(prefix="lorebase-clock-") as folder:
        clock = Clock(Path(folder) / "clock")
        with local_server(environment=clock.environment, module="reliability.jumping_clock") as server:
            tenant_id, key = _tenant(server)
            with _client(server, key) as client:
                known: dict[str, str] = {}
                for jump in chosen:
                    _send_again(client, clock, clock.seconds + jump, known, outcome, chance)
                    _replace(client, clock, clock.seconds - jump / 2, known, outcome, chance)
                    _ask(client, outcome, jump)
                clock.set(0.0)
                _compare(client, known, outcome)
            _expiring(server, tenant_id, clock, outcome)
            _last_used(server, tenant_id, key, clock, outcome)
            _rated(server, clock, outcome)
            outcome.check("unexpected error" not in server.log.read_text(), "an unexpected error stands in the log")
            reasons = check_database(server.data / "tenants" / tenant_id / "lorebase.db").reasons
            outcome.check(not reasons, f"rows: {reasons}")
    return outcome


def _send_again(
    client: httpx.Client, clock: Clock, off: float, known: dict[str, str], outcome: Outcome, chance: random.Random
) -> None:
    """Send one request several times, before, while and after the clock is set: one document, one job, one answer."""
    text, headers = made_text(chance), {"Idempotency-Key": uuid.uuid4().hex}
    body = {"documents": [{"text": text}]}

    def send(_: int) -> httpx.Response:
        return client.post("/ingest", json=body, headers=headers)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        sent = pool.map(send, range(_AT_ONCE))
        time.sleep(chance.random() * 0.02)
        clock.set(off)
        answers = [*sent, send(_AT_ONCE)]
    said = {(answer.status_code, answer.text) for answer in answers}
    outcome.check(len(said) == 1 and answers[0].status_code == 202, f"at {off:+.0f} s, answered: {said}")
    replayed = sum("idempotency-replayed" in answer.headers for answer in answers)
    outcome.check(replayed == len(answers) - 1, f"at {off:+.0f} s, {replayed} of {len(answers)} were replayed")
    known[answers[0].json()["documents"][0]["id"]] = text


def _replace(
    client: httpx.Client, clock: Clock, off: float, known: dict[str, str], outcome: Outcome, chance: random.Random
) -> None:
    """Replace a document twice with the clock set in between; the jobs end, and the later text stays."""
    document_id = chance.choice(sorted(known))
    for text in (made_text(chance), made_text(chance)):
        answer = client.put(f"/documents/{document_id}", json={"text": text})
        outcome.check(answer.status_code < 300, f"replaced at {off:+.0f} s: {answer.status_code} {answer.text[:200]}")
        known[document_id] = text
        clock.set(off)
    began = time.monotonic()
    try:
        settle(client, _SETTLE_S)
    except TimeoutError:
        outcome.check(False, f"jobs hang at {off:+.0f} s")
    outcome.largest("jobs_ended_s", time.monotonic() - began)
    there = client.get(f"/documents/{document_id}/text").text
    outcome.check(there == known[document_id], f"at {off:+.0f} s the earlier of two replacements stayed")


def _ask(client: httpx.Client, outcome: Outcome, jump: float) -> None:
    answer = client.post("/ask", json={"question": "What lies at the harbour?", "min_confidence": 0})
    outcome.check(answer.status_code == 200, f"asked after {jump:+.0f} s: {answer.status_code} {answer.text[:200]}")


def _compare(client: httpx.Client, known: dict[str, str], outcome: Outcome) -> None:
    """There is what was sent, each once."""
    listed = client.get("/documents", params={"limit": 1000}).json()["documents"]
    outcome.check({d["id"] for d in listed} == known.keys(), f"{len(listed)} documents, {len(known)} were sent")
    jobs = client.get("/jobs", params={"limit": 1}).json()["total"]
    outcome.check(jobs == 3 * len(known), f"{jobs} jobs for {len(known)} documents that were replaced twice as often")
    whole = client.get("/audit/verification").json()
    outcome.check(whole["valid"], f"the audit log: {whole}")


def _expiring(server: LocalServer, tenant_id: str, clock: Clock, outcome: Outcome) -> None:
    """A key that expires in an hour."""
    until = datetime.fromtimestamp(time.time() + _HOUR, UTC).isoformat()
    with _client(server, server.admin_key) as admin:
        sent = admin.post(f"/tenants/{tenant_id}/keys", json={"name": "short", "expires_at": until})
    with _client(server, sent.raise_for_status().json()["api_key"]) as client:
        for off, status in ((0.0, 200), (2 * _HOUR, 401), (-_DAY, 200), (400 * _DAY, 401), (0.0, 200)):
            clock.set(off)
            answer = client.get("/documents")
            outcome.check(answer.status_code == status, f"a key of an hour at {off:+.0f} s: {answer.status_code}")


def _last_used(server: LocalServer, tenant_id: str, key: str, clock: Clock, outcome: Outcome) -> None:
    """When a key was last used is told by the clock as it is, also after it was ahead."""
    with _client(server, key) as client:
        for off in (2 * _HOUR, 0.0):
            clock.set(off)
            client.get("/documents").raise_for_status()
    deadline, told = time.monotonic() + _SETTLE_S, None  # it is written a moment later
    with _client(server, server.admin_key) as admin:
        while time.monotonic() < deadline:
            told = admin.get(f"/tenants/{tenant_id}/keys").json()["keys"][0]["last_used_at"]
            if told and abs(datetime.fromisoformat(told).timestamp() - time.time()) < _HOUR:
                break
            time.sleep(0.1)
    outcome.check(time.monotonic() < deadline, f"a key used now was last used at {told}")


def _rated(server: LocalServer, clock: Clock, outcome: Outcome) -> None:
    """A tenant's requests of a minute are those of a minute, and nobody is told to wait longer than one."""
    tenant_id, key = _tenant(server)
    with _client(server, server.admin_key) as admin:
        limits = {"requests_per_minute": _PER_MINUTE}
        admin.patch(f"/tenants/{tenant_id}", json={"limits": limits}).raise_for_status()
    with _client(server, key) as client:
        answers = []
        for off in (0.0, -_DAY, 400 * _DAY, -400 * _DAY, 61.0, 0.0, -61.0, 0.0):
            clock.set(off)
            answers.append(client.get("/documents"))
    passed = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    outcome.check(len(passed) in (_PER_MINUTE, _PER_MINUTE + 1), f"{len(passed)} of {_PER_MINUTE} a minute passed")
    outcome.check(len(passed) + len(refused) == len(answers), f"{[answer.status_code for answer in answers]}")
    for answer in refused:
        told = int(answer.headers["retry-after"])
        outcome.check(0 < told <= 60, f"told to come again in {told} s")


def _tenant(server: LocalServer) -> tuple[str, str]:
    with _client(server, server.admin_key) as admin:
        made = admin.post("/tenants", json={"name": uuid.uuid4().hex}).raise_for_status().json()
    return made["id"], made["api_key"]


@contextmanager
def _client(server: LocalServer, key: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        yield client
