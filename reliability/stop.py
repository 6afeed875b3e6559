"""SIGTERM while clients ask, send and replace.

What is under way is answered, or told to come again; the process ends in order and in time; what was answered is there
at the next start, and its jobs go on.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from app.local_server import LocalServer, local_server
from reliability.acknowledged import Documents, made_text
from reliability.outcome import Outcome

_SECONDS = 10  # that requests have to end
_EXIT_SECONDS = 10.0  # beyond these, for what is not a request
_PASSAGE = "The lighthouse of Varn was built in 1874 by Anna Brandt. " * 20


@dataclass
class _Client:
    """A tenant's key, what was answered about its documents, and how its requests ended."""

    key: str
    chance: random.Random
    documents: Documents = field(default_factory=Documents)
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def run(*, seed: int = 1, rounds: int = 20, clients: int = 8) -> Outcome:
    """End a server under load so many times, on one data folder."""
    outcome, chance = Outcome(), random.Random(seed)
    everyone: list[_Client] = []
    ended: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="lorebase-stop-") as folder:
        for number in range(rounds + 1):
            began = time.monotonic()
            with local_server(
                data=Path(folder) / "data", environment={"LOREBASE_SHUTDOWN_SECONDS": str(_SECONDS)}
            ) as server:
                outcome.largest("ready_s", time.monotonic() - began)
                if not everyone:
                    everyone = [_new_client(server, f"{seed} {n}") for n in range(clients)]
                for each in everyone:
                    _check(server, each, outcome)
                if number < rounds:
                    _end_under_load(server, everyone, chance.uniform(0.05, 1.5), outcome)
        for each in everyone:
            ended += each.ended
    outcome.tried += ended.total()
    outcome.figures |= {"rounds": rounds, **{name: ended[name] for name in ("done", "told", "not_sent", "unanswered")}}
    outcome.check(ended["done"], "nothing was answered")
    return outcome


def _end_under_load(server: LocalServer, everyone: list[_Client], seconds: float, outcome: Outcome) -> None:
    """Let all of them work, and send SIGTERM after so many seconds."""
    stopping = threading.Event()
    threads = [threading.Thread(target=_work, args=(server, each, stopping)) for each in everyone]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stopping.set()
    server.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    try:
        code = server.process.wait(_SECONDS + _EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    outcome.largest("exit_s", time.monotonic() - began)
    for thread in threads:
        thread.join()
    outcome.check(code == 0, f"it ended with {code} {time.monotonic() - began:.1f} s after SIGTERM")
    told = server.log.read_text(errors="replace")
    outcome.check("Traceback" not in told, f"it wrote: {told[-2000:]}")
    for each in everyone:
        for reason in each.wrong:
            outcome.check(False, reason)
        each.wrong.clear()


def _work(server: LocalServer, each: _Client, stopping: threading.Event) -> None:
    """Send one request after the other, each on a connection of its own, until nobody listens any more."""
    headers = {"Authorization": f"Bearer {each.key}", "Connection": "close"}
    while True:
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            try:
                _one(client, each)
                each.ended["done"] += 1
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 503 and "retry-after" in error.response.headers:
                    each.ended["told"] += 1
                else:
                    each.wrong.append(f"{error.request.method} {error.request.url.path}: {error.response.text[:300]}")
            except httpx.ConnectError:
                if not stopping.is_set():
                    each.wrong.append("nobody listened before SIGTERM")
                each.ended["not_sent"] += 1
                return
            except httpx.TransportError as error:
                # A connection that nobody accepted any more; had it been, the server would have said so in its log.
                if not stopping.is_set():
                    each.wrong.append(f"cut off before SIGTERM: {error!r}")
                each.ended["unanswered"] += 1


def _one(client: httpx.Client, each: _Client) -> None:
    """One request of any kind; raises when it is not done."""
    documents, chance = each.documents, each.chance
    kind = chance.choice(("ask", "ask", "stream", "ingest", "replace", "delete", "list"))
    if kind in ("ask", "stream"):
        asked = {"question": "Who built it?", "passages": [{"text": _PASSAGE}], "stream": kind == "stream"}
        response = client.post("/ask", json=asked).raise_for_status()
        if kind == "stream" and "event: done" not in response.text:
            _check_told(response)
    elif kind == "ingest" or not documents.known:
        documents.ingest(client, [made_text(chance) for _ in range(chance.randint(1, 3))])
    elif kind == "list":
        client.get("/documents").raise_for_status()
    else:
        document = chance.choice(sorted(documents.known))
        if kind == "replace":
            documents.replace(client, document, made_text(chance))
        else:
            documents.delete(client, document)


def _check_told(response: httpx.Response) -> None:
    """A stream that did not come to its end must say why. Raises HTTPStatusError as for a whole answer."""
    found = re.search(r"event: error\ndata: (\{.*\})", response.text)
    code = json.loads(found[1])["code"] if found else None
    again = {"retry-after": "1"} if code == "stopping" else {}
    told = httpx.Response(503, headers=again, text=response.text[-300:], request=response.request)
    raise httpx.HTTPStatusError("a stream was cut", request=response.request, response=told)


def _check(server: LocalServer, each: _Client, outcome: Outcome) -> None:
    """Everything that was answered is there, and what waited goes on to its end."""
    headers = {"Authorization": f"Bearer {each.key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=120) as client:
        findings = each.documents.check(client, each.chance)
    outcome.check(not findings.reasons, "; ".join(findings.reasons[:3]))


def _new_client(server: LocalServer, seed: str) -> _Client:
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    made = httpx.post(f"{server.url}/tenants", json={"name": seed}, headers=headers, timeout=60).raise_for_status()
    return _Client(made.json()["api_key"], random.Random(seed))
