"""What a `kill -9` costs: `python -m benchmarks.crash`.

Each round starts a real server process on the same data folder, checks everything that was acknowledged so far, lets a
client ingest, replace and delete, and kills the process at a random moment. A request that was under way at that moment
may have been done or not; every other must be as it was answered. The random choices follow from the seed; the moments
at which they meet the server's work do not. Ends with status 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from app.local_server import free_port
from benchmarks.measure import report

_KEY = "the-key-of-the-crash-benchmark"
_READY_SECONDS = 300.0
_SETTLE_SECONDS = 300.0
_FEWEST_DOCUMENTS = 6
_MOST_DOCUMENTS = 40  # so that a round's checks stay short
_WORDS = ("anchor", "beacon", "current", "dinghy", "estuary", "ferry", "gale", "harbour", "island", "jetty")
_ORPHANS = (
    "SELECT count(*) FROM vectors WHERE chunk NOT IN (SELECT number FROM chunks)",
    "SELECT count(*) FROM chunks WHERE number NOT IN (SELECT chunk FROM vectors)",
    "SELECT count(*) FROM chunks WHERE document_id NOT IN (SELECT id FROM documents WHERE status = 'ready')",
    "SELECT count(*) FROM texts WHERE document_id NOT IN (SELECT id FROM documents WHERE status = 'ready')",
    "SELECT count(*) FROM originals WHERE document_id NOT IN (SELECT id FROM documents)",
    "SELECT count(*) FROM replacements WHERE status = 'pending'",
    "SELECT count(*) FROM staged",
    "SELECT count(*) FROM staged_chunks",
    "SELECT count(*) FROM staged_vectors",
    "SELECT count(*) FROM documents WHERE chunks <> (SELECT count(*) FROM chunks WHERE document_id = id)",
)
_DUPLICATES = (
    'SELECT count(*) FROM (SELECT 1 FROM chunks GROUP BY document_id, start, "end" HAVING count(*) > 1)',
    "SELECT count(*) FROM (SELECT 1 FROM documents GROUP BY collection, sha256, is_text HAVING count(*) > 1)",
)


@dataclass
class Expected:
    """What must be there: of each document the texts it may have now, ``None`` among them when it may be gone.

    Attributes:
        unanswered: texts whose ingestion was under way when the server was killed.
    """

    documents: dict[str, set[str | None]] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)


@dataclass
class Findings:
    """What was found wrong, and how long the server took to be ready."""

    lost: int = 0
    orphans: int = 0
    duplicates: int = 0
    worst_ready_s: float = 0.0

    @property
    def wrong(self) -> int:
        return self.lost + self.orphans + self.duplicates


def run(rounds: int, seed: int) -> Findings:
    """Kill a server so many times, checking after each; what was found."""
    chance = random.Random(seed)
    expected, findings = Expected(), Findings()
    with tempfile.TemporaryDirectory(prefix="lorebase-crash-") as folder:
        data = Path(folder) / "data"
        for number in range(rounds + 1):
            with _server(data) as (process, client, ready_seconds):
                findings.worst_ready_s = max(findings.worst_ready_s, ready_seconds)
                before = findings.wrong
                _check(client, data, expected, findings, chance)
                if findings.wrong > before:
                    print(f"round {number}: something is wrong", file=sys.stderr)
                if number < rounds:
                    _work_until_killed(process, client, expected, chance)
                print(f"round {number}: ready after {ready_seconds:.1f} s, {len(expected.documents)} documents")
    return findings


@contextmanager
def _server(data: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client, float]]:
    port = free_port()
    settings = {
        **os.environ, "LOREBASE_DATA": str(data), "LOREBASE_HOST": "127.0.0.1", "LOREBASE_PORT": str(port),
        "LOREBASE_DEFAULT_KEY": _KEY, "LOREBASE_LOG_LEVEL": "error",
    }  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "app.cli", "serve"], env=settings, stdout=subprocess.DEVNULL)
    headers = {"Authorization": f"Bearer {_KEY}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60.0) as client:
            yield process, client, _wait_until_ready(process, client, began)
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], client: httpx.Client, began: float) -> float:
    while time.monotonic() - began < _READY_SECONDS and process.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return time.monotonic() - began
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit("The server did not become ready.")


def _work_until_killed(
    process: subprocess.Popen[bytes], client: httpx.Client, expected: Expected, chance: random.Random
) -> None:
    """Ingest, replace and delete until a timer kills the server; note what was answered."""
    timer = threading.Timer(chance.uniform(0.02, 2.0), os.kill, (process.pid, signal.SIGKILL))
    timer.start()
    try:
        while True:
            ids = sorted(expected.documents)
            action = "ingest" if len(ids) < _FEWEST_DOCUMENTS else chance.choice(("ingest", "replace", "delete"))
            if len(ids) > _MOST_DOCUMENTS:
                action = chance.choice(("replace", "delete"))
            if action == "ingest":
                _ingest(client, expected, [_text(chance) for _ in range(chance.randint(1, 3))])
            elif action == "replace":
                _replace(client, expected, chance.choice(ids), _text(chance))
            else:
                _delete(client, expected, chance.choice(ids))
    except httpx.TransportError:
        return
    finally:
        timer.join()
        process.wait()


def _ingest(client: httpx.Client, expected: Expected, texts: list[str]) -> None:
    expected.unanswered |= set(texts)
    response = client.post("/ingest", json={"documents": [{"text": text} for text in texts]}).raise_for_status()
    expected.unanswered -= set(texts)
    for document, text in zip(response.json()["documents"], texts, strict=True):
        expected.documents[document["id"]] = {text}


def _replace(client: httpx.Client, expected: Expected, document_id: str, text: str) -> None:
    expected.documents[document_id].add(text)
    client.put(f"/documents/{document_id}", json={"text": text}).raise_for_status()
    expected.documents[document_id] = {text}


def _delete(client: httpx.Client, expected: Expected, document_id: str) -> None:
    expected.documents[document_id].add(None)
    client.delete(f"/documents/{document_id}").raise_for_status()
    del expected.documents[document_id]


def _text(chance: random.Random) -> str:
    """A text like no other, of one chunk or several."""
    name = f"vessel{chance.getrandbits(48):x}"
    sentence = f"The {name} lies at the {chance.choice(_WORDS)} by the {chance.choice(_WORDS)}. "
    return (sentence + "It waits there. " * chance.choice((0, 0, 20, 200))).strip()


def _check(client: httpx.Client, data: Path, expected: Expected, findings: Findings, chance: random.Random) -> None:
    """Wait until the server has done what is left, then compare everything with what was answered."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while any(client.get("/jobs", params={"state": s, "limit": 1}).json()["total"] for s in ("queued", "running")):
        if time.monotonic() > deadline:
            raise SystemExit("Jobs did not end after a restart.")
        time.sleep(0.05)
    listed = {d["id"]: d for d in client.get("/documents", params={"limit": 1000}).json()["documents"]}
    for document_id, texts in list(expected.documents.items()):
        if document_id not in listed and None in texts:
            del expected.documents[document_id]
        elif not _is_whole(client, document_id, texts, listed.get(document_id), expected):
            findings.lost += 1
    for document_id in listed.keys() - expected.documents.keys():
        text = client.get(f"/documents/{document_id}/text").text
        if text in expected.unanswered:
            expected.documents[document_id] = {text}
        else:  # deleted, and there again
            findings.orphans += 1
    expected.unanswered.clear()
    for document_id in chance.sample(sorted(expected.documents), min(3, len(expected.documents))):
        (content,) = expected.documents[document_id]
        found = client.post("/search", json={"query": str(content)[:200], "top_k": 10}).json()["passages"]
        if document_id not in {passage["document_id"] for passage in found}:
            findings.lost += 1
    for database in data.glob("tenants/*/lorebase.db"):
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            findings.orphans += sum(connection.execute(query).fetchone()[0] for query in _ORPHANS)
            findings.duplicates += sum(connection.execute(query).fetchone()[0] for query in _DUPLICATES)


def _is_whole(
    client: httpx.Client, document_id: str, texts: set[str | None], listed: dict[str, object] | None, expected: Expected
) -> bool:
    """Whether a document is ready, with one of the texts it may have, and chunks that cover it."""
    if listed is None or listed["status"] != "ready":
        return False
    text = client.get(f"/documents/{document_id}/text").text
    chunks = client.get(f"/documents/{document_id}/chunks", params={"limit": 1000}).json()["chunks"]
    if text not in texts or any(c["text"] != text[c["start"] : c["end"]] for c in chunks):
        return False
    expected.documents[document_id] = {text}
    return bool(chunks) and chunks[0]["start"] == 0 and max(c["end"] for c in chunks) == len(text)


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Kill a working server again and again, and look for what is lost.")
    parser.add_argument("--rounds", type=int, default=200, help="how many times to kill (default: 200)")
    parser.add_argument("--quick", action="store_true", help="10 rounds")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (default: 1)")
    given = parser.parse_args()
    rounds = 10 if given.quick else given.rounds
    findings = run(rounds, given.seed)
    result = {
        "rounds": rounds,
        "lost": findings.lost,
        "orphans": findings.orphans,
        "duplicates": findings.duplicates,
        "worst_ready_s": round(findings.worst_ready_s, 2),
    }
    report(
        f"kill -9 during ingest, replace and delete × {rounds}",
        [(name, str(value), "s" if name.endswith("_s") else "") for name, value in result.items()],
        f"The bound: nothing lost, no orphans, no duplicates: {'NOT kept' if findings.wrong else 'kept'}.",
        result,
    )
    sys.exit(1 if findings.wrong else 0)


if __name__ == "__main__":
    main()
