"""Bodies that are too large, lie about their length, come slowly or not at all, and answers that nobody reads.

Each on a socket of its own: refused before it is buffered, ended in time; memory stays bounded, probes answer.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from app.local_server import LocalServer
from reliability.outcome import Outcome
from reliability.raw_http import answered

_PATIENCE_S = 30.0
_MIB = 1024**2
_LIMIT_MIB = 4  # `reliability.rows.SETTINGS`
_GROWTH_MIB = 200.0  # of the server, over all of this
_REFUSED = {b"400", b"408", b"411", b"413", b"422", b"501"}


def run(server: LocalServer, *, seed: int = 1, connections: int = 200) -> Outcome:
    """Send every kind of such body, then many slow ones and slow readers at once."""
    outcome = Outcome()
    before = _memory_mib(server)
    for name, head, body, allowed in _bodies():
        status = _send(server, head, body)
        outcome.check(status in allowed, f"{name}: {status!r} instead of {sorted(allowed)} (seed {seed})")
    _chunks_without_end(server, outcome)
    _slow(server, outcome, connections)
    _unread(server, outcome, connections)
    outcome.figures["memory_growth_mib"] = round(_memory_mib(server) - before, 1)
    outcome.check(outcome.figures["memory_growth_mib"] < _GROWTH_MIB, f"memory grew: {outcome.figures}")
    return outcome


def _bodies() -> Iterator[tuple[str, str, bytes, set[bytes]]]:
    """Name, head, what is sent of the body, and the statuses that are right."""
    kind = "Content-Type: application/json"
    yield "declared too large, nothing sent", f"{kind}\r\nContent-Length: {100 * 1024**3}", b"", {b"413"}
    yield "declared too large, sent", f"{kind}\r\nContent-Length: {2 * _LIMIT_MIB * _MIB}", b"x" * _MIB, {b"413"}
    yield "a length of letters", f"{kind}\r\nContent-Length: many", b"{}", _REFUSED
    yield "a negative length", f"{kind}\r\nContent-Length: -1", b"{}", _REFUSED
    yield "a length beyond all numbers", f"{kind}\r\nContent-Length: {'9' * 400}", b"{}", _REFUSED
    yield "two lengths", f"{kind}\r\nContent-Length: 2\r\nContent-Length: 3", b"{} ", _REFUSED
    yield "a length and chunks", f"{kind}\r\nContent-Length: 2\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", _REFUSED
    yield "chunks that are none", f"{kind}\r\nTransfer-Encoding: chunked", b"zz\r\n{}\r\n", _REFUSED | {b""}
    yield "more said than sent", f"{kind}\r\nContent-Length: 1000", b"{", {b"408"}
    yield "nothing sent", f"{kind}\r\nContent-Length: 10", b"", {b"408"}
    form = "Content-Type: multipart/form-data; boundary=b"
    yield "a form that never ends", f"{form}\r\nContent-Length: 1000", b"--b\r\nContent-Disposition: form-", {b"408"}
    yield "a form without a boundary", "Content-Type: multipart/form-data\r\nContent-Length: 2", b"{}", _REFUSED
    parts = (
        b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % n for n in range(5000)) + b"--b--"
    )
    yield "a form of thousands of fields", f"{form}\r\nContent-Length: {len(parts)}", parts, _REFUSED


def _chunks_without_end(server: LocalServer, outcome: Outcome) -> None:
    """Far more in chunks than may be; the connection may end before all is sent."""
    with _connection(server, "Content-Type: application/json\r\nTransfer-Encoding: chunked") as connection:
        sent = 0
        with contextlib.suppress(OSError):
            for _ in range(1024):
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
        status = answered(connection)
    outcome.check(status in {b"413", b""}, f"chunks without end: {status!r}")
    outcome.check(sent <= 64 * _MIB, f"chunks without end: {sent} bytes were taken")


def _slow(server: LocalServer, outcome: Outcome, connections: int) -> None:
    """Many connections that begin a body and fall silent: probes answer at once, and each connection is ended."""
    with contextlib.ExitStack() as stack:
        head = "Content-Type: application/json\r\nContent-Length: 100000"
        slow = [stack.enter_context(_connection(server, head)) for _ in range(connections)]
        for each in slow:
            each.sendall(b'{"documents"')
        _probe(server, outcome, "slow_livez_s")
        ended = [answered(each) for each in slow]
    outcome.check(ended == [b"408"] * connections, f"slow bodies: {set(ended)}")


def _unread(server: LocalServer, outcome: Outcome, connections: int) -> None:
    """Many connections that ask for a large text and read nothing of it."""
    headers = {"Authorization": f"Bearer {server.default_key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client, contextlib.ExitStack() as stack:
        text = " ".join(str(number) for number in range(40_000))
        sent = client.post("/ingest", json={"documents": [{"text": text}]}).raise_for_status().json()
        path = f"/documents/{sent['documents'][0]['id']}/chunks?limit=1000"
        for _ in range(connections):
            stack.enter_context(_connection(server, "", f"GET {path}"))
        _probe(server, outcome, "unread_livez_s")
        client.delete(f"/documents/{sent['documents'][0]['id']}").raise_for_status()


def _probe(server: LocalServer, outcome: Outcome, name: str) -> None:
    began = time.perf_counter()
    alive = httpx.get(f"{server.url}/livez", timeout=_PATIENCE_S).status_code == 200
    outcome.largest(name, time.perf_counter() - began)
    outcome.check(alive and outcome.figures[name] < 1, f"/livez beside them: {outcome.figures[name]} s")


def _send(server: LocalServer, head: str, body: bytes) -> bytes:
    with _connection(server, head) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(body)
        return answered(connection)


@contextlib.contextmanager
def _connection(server: LocalServer, head: str, request: str = "POST /ingest") -> Iterator[socket.socket]:
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=_PATIENCE_S) as connection:
        lines = [
            f"{request} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {server.default_key}",
            *([head] if head else []),
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        yield connection


def _memory_mib(server: LocalServer) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
