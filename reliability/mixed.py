"""Hours of use, compressed: many clients do everything at once, and what the server holds does not grow.

Searches, questions (whole, streamed, and left by the client), documents that come, change and go, adapters that are
promoted and rolled back, lists, wrong keys and unknown ids. Memory, open files and threads are looked at all the while;
at the end no question is left in the engine.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from app.local_server import LocalServer, local_server
from reliability.acknowledged import made_text
from reliability.outcome import Outcome
from reliability.raw_http import left_behind

_ADAPTER = Path(__file__).parent.parent / "examples" / "adapters" / "finance"
_DOCUMENTS = 12  # of a tenant, about
_SAMPLES = 200
_WARM = 0.5  # of the samples, before memory is held against anything
_GROWTH_MIB = 16.0
_GROWTH = 0.05
_SETTLE_SECONDS = 30.0
_LISTS = ("/documents", "/jobs?limit=5", "/adapters", "/usage", "/audit?limit=5", "/readyz", "/")


@dataclass
class _Tenant:
    """What a client knows of its tenant; each has one, so that what is asked for is there."""

    client: httpx.Client
    chance: random.Random
    documents: list[str] = field(default_factory=list)

    def text(self) -> str:
        return made_text(self.chance)[:2000]

    def one(self) -> str:
        return self.chance.choice(self.documents) if self.documents else "0" * 32


def run(*, seed: int = 1, requests: int = 100_000, clients: int = 8) -> Outcome:
    """Send so many requests, and look at the server's process while they are answered.

    Args:
        clients: at once, each with a tenant of its own.
    """
    outcome = Outcome()
    with local_server() as server, _tenants(server, clients, seed) as tenants:
        looked = _Looked(server.process.pid)
        numbers = iter(range(requests))
        taking = threading.Lock()
        done: Counter[str] = Counter()
        began = time.monotonic()

        def work(tenant: _Tenant) -> None:
            while True:
                with taking:
                    number = next(numbers, None)
                    if number is None:
                        return
                    if number % max(1, requests // _SAMPLES) == 0:
                        looked.look()
                        if number % max(1, requests // 20) == 0:
                            print(f"{number} of {requests}: {looked.memory[-1]:.0f} MiB", flush=True)
                name, act, allowed = _act(tenant.chance)
                done[name] += 1
                try:
                    status = act(tenant, server)
                except httpx.HTTPError as error:
                    outcome.check(False, f"{name}: {error!r}")
                    continue
                outcome.check(status in allowed, f"{name}: {status} instead of {sorted(allowed)} (seed {seed})")

        threads = [threading.Thread(target=work, args=(tenant,)) for tenant in tenants]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began
        _check_rows(server, outcome)
        looked.look()
        _check_growth(looked, outcome)
    outcome.figures |= {
        "requests": sum(done.values()),
        "seconds": round(seconds),
        "questions": done["ask"] + done["stream"],
        "left": done["leave"],
        "documents": done["ingest"] + done["replace"],
    }
    outcome.check(all(done[name] for name, *_ in _ACTS), f"something was never done: {done}")
    return outcome


class _Looked:
    """What a process held, each time it was looked at."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self.memory: list[float] = []  # MiB, of its own and its share of what others use too
        self.files: list[int] = []
        self.threads: list[int] = []

    def look(self) -> None:
        told = (self._folder / "smaps_rollup").read_text()
        found = re.search(r"^Pss:\s+(\d+) kB", told, re.MULTILINE)
        self.memory.append(int(found[1]) / 1024 if found else 0.0)
        self.files.append(len(os.listdir(self._folder / "fd")))
        self.threads.append(len(os.listdir(self._folder / "task")))


def _check_growth(looked: _Looked, outcome: Outcome) -> None:
    """Hold the last tenth against the first one after the warm-up."""
    warm, tenth = int(len(looked.memory) * _WARM), max(1, len(looked.memory) // 10)
    for name, values, room in (
        ("memory_mib", looked.memory, _GROWTH_MIB),
        ("open_files", looked.files, 8),
        ("threads", looked.threads, 4),
    ):
        then = statistics.median(values[warm : warm + tenth])
        now = statistics.median(values[-tenth:])
        outcome.figures |= {f"{name}_half_way": round(then, 1), f"{name}_at_the_end": round(now, 1)}
        outcome.check(now <= then * (1 + _GROWTH) + room, f"{name} grew from {then:.1f} to {now:.1f}")


def _check_rows(server: LocalServer, outcome: Outcome) -> None:
    """No question stays in the engine when nobody waits for one."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    admin = {"Authorization": f"Bearer {server.admin_key}"}
    while True:
        told = httpx.get(f"{server.url}/metrics", headers=admin, timeout=60).text
        rows = sum(map(float, re.findall(r'^lorebase_engine_rows\{state="\w+"\} (\S+)$', told, re.MULTILINE)))
        if not rows or time.monotonic() > deadline:
            outcome.check(not rows, f"{rows} questions stayed in the engine")
            return
        time.sleep(0.1)


@contextmanager
def _tenants(server: LocalServer, count: int, seed: int) -> Iterator[list[_Tenant]]:
    """Tenants with documents, and an adapter that can be promoted."""
    with httpx.Client(base_url=server.url, timeout=120) as admin:
        admin.headers["Authorization"] = f"Bearer {server.admin_key}"
        made = []
        for number in range(count):
            key = admin.post("/tenants", json={"name": f"mixed {number}"}).raise_for_status().json()["api_key"]
            client = httpx.Client(base_url=server.url, timeout=120, headers={"Authorization": f"Bearer {key}"})
            tenant = _Tenant(client, random.Random(f"{seed} {number}"))
            files = [("files", (path.name, path.read_bytes())) for path in sorted(_ADAPTER.glob("adapter_*"))]
            for _ in range(2):
                client.post("/adapters/own/versions", files=files).raise_for_status()
            client.post("/adapters/own/promote", json={"version": 1}).raise_for_status()
            for _ in range(_DOCUMENTS):
                _ingest(tenant, server)
            made.append(tenant)
        yield made
        for tenant in made:
            tenant.client.close()


def _search(tenant: _Tenant, _: LocalServer) -> int:
    return tenant.client.post("/search", json={"query": tenant.text()[:60], "top_k": 5}).status_code


def _ask(tenant: _Tenant, _: LocalServer) -> int:
    asked = {"question": f"Where does {tenant.text()[4:20]} lie?", "top_k": 1}
    return tenant.client.post("/ask", json=asked).status_code


def _stream(tenant: _Tenant, _: LocalServer) -> int:
    asked = {"question": f"Where does {tenant.text()[4:20]} lie?", "top_k": 1, "stream": True}
    with tenant.client.stream("POST", "/ask", json=asked) as response:
        ended = "event: done" in "".join(response.iter_text())
    return response.status_code if ended else 0


def _leave(tenant: _Tenant, server: LocalServer) -> int:
    asked = json.dumps({"question": "Where does it lie?", "top_k": 5, "stream": tenant.chance.random() < 0.5})
    where = urlsplit(server.url)
    left_behind(
        (where.hostname or "", where.port or 80),
        f"POST /ask HTTP/1.1\r\nHost: x\r\nAuthorization: {tenant.client.headers['Authorization']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(asked)}\r\n\r\n{asked}".encode(),
        tenant.chance.choice((0.0, 0.005, 0.03)),
    )
    return 0


def _ingest(tenant: _Tenant, _: LocalServer) -> int:
    sent = tenant.client.post("/ingest", params={"wait": "true"}, json={"documents": [{"text": tenant.text()}]})
    if sent.status_code == 200:
        tenant.documents.append(sent.json()["documents"][0]["id"])
    return sent.status_code


def _replace(tenant: _Tenant, _: LocalServer) -> int:
    return tenant.client.put(f"/documents/{tenant.one()}", json={"text": tenant.text()}).status_code


def _delete(tenant: _Tenant, _: LocalServer) -> int:
    document = tenant.one()
    if document in tenant.documents:
        tenant.documents.remove(document)
    if len(tenant.documents) < _DOCUMENTS:  # about as many stay
        _ingest(tenant, _)
    return tenant.client.delete(f"/documents/{document}").status_code


def _list(tenant: _Tenant, _: LocalServer) -> int:
    return tenant.client.get(tenant.chance.choice(_LISTS)).status_code


def _promote(tenant: _Tenant, _: LocalServer) -> int:
    return tenant.client.post("/adapters/own/promote", json={"version": tenant.chance.choice((1, 2))}).status_code


def _wrong_key(tenant: _Tenant, _: LocalServer) -> int:
    wrong = {"Authorization": f"Bearer lb_{tenant.chance.getrandbits(128):x}"}
    return tenant.client.post("/ask", json={"question": "Who?"}, headers=wrong).status_code


def _unknown(tenant: _Tenant, _: LocalServer) -> int:
    return tenant.client.get(f"/documents/{tenant.chance.getrandbits(128):032x}/text").status_code


Act = tuple[str, Callable[[_Tenant, LocalServer], int], set[int]]
_ACTS: list[Act] = [
    ("search", _search, {200}), ("ask", _ask, {200}), ("stream", _stream, {200}), ("leave", _leave, {0}),
    ("ingest", _ingest, {200}), ("replace", _replace, {202}), ("delete", _delete, {204, 404}), ("list", _list, {200}),
    ("promote", _promote, {200}), ("wrong key", _wrong_key, {401}), ("unknown id", _unknown, {404}),
]  # fmt: skip
_WEIGHTS = (40, 3, 2, 2, 2, 2, 2, 35, 2, 5, 5)


def _act(chance: random.Random) -> Act:
    return chance.choices(_ACTS, _WEIGHTS)[0]
