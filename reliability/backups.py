"""Archives taken while tenants write, restored on empty folders; and a tenant that is erased while it writes.

Each tenant's requests follow one another, so what it has is a state after so many of them. What an archive holds must
be such a state of each tenant: after all that was answered before the archive was begun, and none that was sent after
it had ended. Of an erased tenant no byte may be left. Archives that were taken before are out of reach, and not meant.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from app.backup import restore
from app.local_server import LocalServer, local_server
from reliability.acknowledged import check_database, made_text, settle
from reliability.outcome import Outcome

_BEFORE = 6  # requests of each tenant before the first archive
_BESIDE = 4  # and at least, while or after one is taken
_PATIENCE_S = 60.0
_COMMAND_S = 120
State = dict[str, str]  # document id → hash of its text


@dataclass
class _Writer:
    """A tenant that ingests, replaces and deletes, one request after the other.

    Attributes:
        states: what it has after none, one, two … of its requests.
        sent, answered: when each was; ``answered[n] <= sent[n + 1]``.
    """

    tenant_id: str
    key: str
    states: list[State] = field(default_factory=lambda: [{}])
    sent: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    failed: str = ""

    def write(self, url: str, chance: random.Random, ended: threading.Event) -> None:
        with _client(url, self.key) as client:
            while not ended.is_set():
                try:
                    self._request(client, chance)
                except (httpx.HTTPError, KeyError) as error:
                    self.failed = str(error)
                    return
                time.sleep(0.02)

    def _request(self, client: httpx.Client, chance: random.Random) -> None:
        state, text = dict(self.states[-1]), made_text(chance)
        one = chance.choice(sorted(state)) if state else None
        self.sent.append(time.monotonic())
        what = chance.random()
        if one is None or what < 0.5:
            made = client.post("/ingest", json={"documents": [{"text": text}]}).raise_for_status().json()
            state[made["documents"][0]["id"]] = _hash(text)
        elif what < 0.8:
            client.put(f"/documents/{one}", json={"text": text}).raise_for_status()
            state[one] = _hash(text)
        else:
            client.delete(f"/documents/{one}").raise_for_status()
            del state[one]
        self.states.append(state)
        self.answered.append(time.monotonic())

    def between(self, began: float, ended: float) -> list[State]:
        """The states that an archive of this time may hold."""
        first = sum(at < began for at in self.answered)
        last = sum(at < ended for at in self.sent)
        return self.states[first : last + 1]


def run(*, seed: int = 1, archives: int = 6, tenants: int = 3) -> Outcome:
    """Take archives while tenants write: of everything, by request and by the command in turns, and of one tenant."""
    outcome, chance = Outcome(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="lorebase-backups-") as folder:
        taken: list[tuple[bytes, float, float, list[_Writer]]] = []
        with local_server() as server:
            writers = [_Writer(*_tenant(server)) for _ in range(tenants)]
            with _writing(server, writers, chance):
                for number in range(archives):
                    _until(partial(_have_written, writers, _BEFORE + number * _BESIDE))
                    only = writers[number % tenants] if number % 3 == 1 else None
                    began = time.monotonic()
                    archive = _by_command(server, Path(folder)) if number % 3 == 2 else _by_request(server, only)
                    taken.append((archive, began, time.monotonic(), writers if only is None else [only]))
                _erase_while_it_writes(server, outcome, chance)
            for writer in writers:
                outcome.check(not writer.failed, f"a writer failed: {writer.failed}")
        for number, (archive, began, ended, whole) in enumerate(taken):
            beside = [len(writer.between(began, ended)) - 1 for writer in whole]
            outcome.largest("requests_beside_an_archive", max(beside))
            data = Path(folder) / f"restored-{number}"
            outcome.check(restore(io.BytesIO(archive), data) >= len(whole), f"archive {number}: tenants are missing")
            with local_server(data=data) as restored:
                for writer in whole:
                    _check(restored, writer, writer.between(began, ended), outcome)
    return outcome


def _check(server: LocalServer, writer: _Writer, allowed: list[State], outcome: Outcome) -> None:
    """Once what was unfinished is done, the tenant has what it had at one moment."""
    with _client(server.url, writer.key) as client:
        settle(client)
        listed = client.get("/documents", params={"limit": 1000}).json()["documents"]
        found = {d["id"]: _hash(client.get(f"/documents/{d['id']}/text").text) for d in listed}
        outcome.check(found in allowed, f"{len(found)} documents are of none of {len(allowed)} moments")
        ready = all(document["status"] == "ready" for document in listed)
        outcome.check(ready, f"not ready: {[d for d in listed if d['status'] != 'ready'][:3]}")
        whole = client.get("/audit/verification").json()
        outcome.check(whole["valid"], f"the audit log: {whole}")
        outcome.figures["documents_compared"] = outcome.figures.get("documents_compared", 0) + len(found)
    reasons = check_database(server.data / "tenants" / writer.tenant_id / "lorebase.db").reasons
    outcome.check(not reasons, f"rows: {reasons}")


def _erase_while_it_writes(server: LocalServer, outcome: Outcome, chance: random.Random) -> None:
    """Erase a tenant that has left its words everywhere and has work under way, and look for them in every file."""
    word = f"canary{uuid.uuid4().hex}"
    tenant_id, key = _tenant(server, word)
    with _client(server.url, key) as client:
        key_id = client.get("/key").json()["key_id"]
        _live(client, word)
        told = (word, word.upper(), tenant_id, key_id, key)
        _until(lambda: {found[1] for found in holding(server.data, *told)} >= {word, tenant_id, key_id})
        client.post("/ingest", json={"documents": [{"text": f"{word} {n}. " * 200} for n in range(40)]})
        time.sleep(chance.random())  # some of them are read, some embedded, some wait
        began = time.monotonic()
        with _client(server.url, server.admin_key) as admin:
            admin.delete(f"/tenants/{tenant_id}").raise_for_status()
        outcome.largest("erased_s", time.monotonic() - began)
        outcome.check(client.get("/documents").status_code == 401, "the key of an erased tenant opens something")
    left = holding(server.data, *told)
    outcome.check(not left, f"left of an erased tenant: {left[:5]}")
    outcome.check(word not in server.log.read_text(), "a word of the tenant stands in the log")


def _live(client: httpx.Client, word: str) -> None:
    """Leave a word in every place that a tenant can write to."""
    document = {"text": f"The {word} of the harbour.", "title": f"{word} title", "metadata": {"kind": word}}
    body = {"documents": [document, {"text": f"{word} to be deleted"}], "collection": word[:32]}
    sent = client.post("/ingest", params={"wait": "true"}, json=body, headers={"Idempotency-Key": word})
    kept, deleted = sent.raise_for_status().json()["documents"]
    replaced = {"text": f"New {word}.", "title": word.upper()}
    client.put(f"/documents/{kept['id']}", params={"wait": "true"}, json=replaced).raise_for_status()
    client.delete(f"/documents/{deleted['id']}").raise_for_status()
    client.put(f"/templates/{word}", json={"system": f"{word} speaks."}).raise_for_status()
    rows = f'{{"question": "What is {word}?", "answer": "so"}}'.encode()
    client.post("/datasets", files={"file": (f"{word}.jsonl", rows)}).raise_for_status()
    question = {"question": f"What is {word}?", "min_confidence": 0, "collection": word[:32]}
    asked = client.post("/ask", json=question).raise_for_status().json()
    client.post("/feedback", json={"request_id": asked["request_id"], "correction": word}).raise_for_status()
    tenant_id = client.get("/key").json()["tenant_id"]
    client.post(f"/tenants/{tenant_id}/keys", json={"name": word, "scopes": ["ask"]}).raise_for_status()


def holding(data: Path, *words: str) -> list[tuple[str, str]]:
    """Files of a folder that hold one of the words, in UTF-8 or UTF-16, or are named by one; whatever kind of file:
    the free pages of databases and their logs are looked at like any other byte."""
    found = []
    for path in data.rglob("*"):
        try:
            content = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:  # others write here
            continue
        name = str(path.relative_to(data))
        for word in words:
            if word.encode() in content or word.encode("utf-16-le") in content or word in name:
                found.append((name, word))
    return found


@contextmanager
def _writing(server: LocalServer, writers: list[_Writer], chance: random.Random) -> Iterator[None]:
    ended = threading.Event()
    threads = [
        threading.Thread(target=writer.write, args=(server.url, random.Random(chance.random()), ended))
        for writer in writers
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _have_written(writers: list[_Writer], requests: int) -> bool:
    return all(writer.failed or len(writer.answered) >= requests for writer in writers)


def _by_request(server: LocalServer, only: _Writer | None) -> bytes:
    """Everything, as the admin gets it; or a tenant's export, with its own key."""
    key = server.admin_key if only is None else only.key
    with _client(server.url, key) as client:
        path = "/backup" if only is None else f"/tenants/{only.tenant_id}/export"
        return client.get(path).raise_for_status().content


def _by_command(server: LocalServer, folder: Path) -> bytes:
    """Everything, as `lorebase backup` writes it beside the running service."""
    target = folder / f"{uuid.uuid4().hex}.tar"
    address = {"LOREBASE_HOST": "127.0.0.1", "LOREBASE_PORT": server.url.rsplit(":", 1)[1]}
    keys = {"LOREBASE_DATA": str(server.data), "LOREBASE_ADMIN_KEY": server.admin_key}
    command = [sys.executable, "-m", "app.cli", "backup", str(target)]
    subprocess.run(command, env={**os.environ, **address, **keys}, check=True, timeout=_COMMAND_S, capture_output=True)
    return target.read_bytes()


def _tenant(server: LocalServer, name: str = "") -> tuple[str, str]:
    """A new tenant's id and key."""
    with _client(server.url, server.admin_key) as admin:
        made = admin.post("/tenants", json={"name": name or uuid.uuid4().hex}).raise_for_status().json()
    return made["id"], made["api_key"]


def _client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=_PATIENCE_S)


def _until(holds: Callable[[], bool]) -> None:
    """Wait until a function says so. Raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("It never came to be.")
        time.sleep(0.05)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
