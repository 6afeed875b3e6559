"""What a client was told about a tenant's documents, held against what a server has of them after it was killed.

A request that was under way when the server died may have been done or not; every other must be as it was answered.
Knows the HTTP API and the tables of a tenant's database; knows nothing of how a server is started or killed.
"""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx

_SETTLE_SECONDS = 300.0
_SEARCHED = 3  # documents that are looked for by their words, after each restart
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
class Findings:
    """What was found wrong, each in words.

    Attributes:
        lost: documents that are not there, not whole, or not found.
        orphans: rows without what they belong to, and documents that are there again after they were deleted.
        duplicates: chunks and documents that are there twice.
    """

    lost: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        return self.lost + self.orphans + self.duplicates

    def add(self, found: Findings) -> None:
        """Count what was found elsewhere too."""
        self.lost += found.lost
        self.orphans += found.orphans
        self.duplicates += found.duplicates


@dataclass
class Documents:
    """What must be there of one tenant.

    Attributes:
        known: of each document the texts it may have now, ``None`` among them when it may be gone.
        unanswered: texts whose ingestion was under way when the server was killed.
    """

    known: dict[str, set[str | None]] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)

    def ingest(self, client: httpx.Client, texts: list[str], **options: object) -> None:
        """Send texts, and note what was answered.

        Args:
            options: further fields of the request.
        """
        self.unanswered |= set(texts)
        body = {"documents": [{"text": text} for text in texts], **options}
        response = client.post("/ingest", json=body).raise_for_status()
        self.unanswered -= set(texts)
        for document, text in zip(response.json()["documents"], texts, strict=True):
            self.known[document["id"]] = {text}

    def replace(self, client: httpx.Client, document_id: str, text: str) -> None:
        """Send another text for a document."""
        self.known[document_id].add(text)
        client.put(f"/documents/{document_id}", json={"text": text}).raise_for_status()
        self.known[document_id] = {text}

    def delete(self, client: httpx.Client, document_id: str) -> None:
        """Delete a document."""
        self.known[document_id].add(None)
        client.delete(f"/documents/{document_id}").raise_for_status()
        del self.known[document_id]

    def retry_given_up(self, client: httpx.Client) -> int:
        """Try again what the service has given up because it ended twice while it worked on it; how many."""
        settle(client)
        again = 0
        for document in client.get("/documents", params={"limit": 1000}).json()["documents"]:
            if given_up(document["error"]) or given_up((document["replacement"] or {}).get("error")):
                client.post(f"/documents/{document['id']}/retry").raise_for_status()
                again += 1
        return again

    def check(self, client: httpx.Client, chance: random.Random) -> Findings:
        """Compare everything with what was answered, once the server has done what is left; what is found is what is
        known from then on."""
        settle(client)
        findings = Findings()
        listed = {d["id"]: d for d in client.get("/documents", params={"limit": 1000}).json()["documents"]}
        for document_id, texts in list(self.known.items()):
            if document_id not in listed and None in texts:
                del self.known[document_id]
            elif not self._is_whole(client, document_id, listed.get(document_id)):
                findings.lost.append(f"document {document_id} is not as it was sent: {listed.get(document_id)}")
        for document_id in listed.keys() - self.known.keys():
            text = client.get(f"/documents/{document_id}/text").text
            if text in self.unanswered:
                self.known[document_id] = {text}
            else:  # deleted, and there again
                findings.orphans.append(f"document {document_id} is there again, or was never sent: {text[:60]!r}")
        self.unanswered.clear()
        for document_id in chance.sample(sorted(self.known), min(_SEARCHED, len(self.known))):
            text = str(next(iter(self.known[document_id])))
            found = client.post("/search", json={"query": text[:200], "top_k": 10}).json()["passages"]
            if document_id not in {passage["document_id"] for passage in found}:
                findings.lost.append(f"document {document_id} is not found by its words")
        return findings

    def _is_whole(self, client: httpx.Client, document_id: str, listed: dict[str, object] | None) -> bool:
        """Whether a document is ready, with one of the texts it may have, and chunks that cover it."""
        if listed is None or listed["status"] != "ready":
            return False
        text = client.get(f"/documents/{document_id}/text").text
        chunks = client.get(f"/documents/{document_id}/chunks", params={"limit": 1000}).json()["chunks"]
        if text not in self.known[document_id] or any(c["text"] != text[c["start"] : c["end"]] for c in chunks):
            return False
        self.known[document_id] = {text}
        return bool(chunks) and chunks[0]["start"] == 0 and max(c["end"] for c in chunks) == len(text)


def given_up(error: str | None) -> bool:
    """Whether this is the reason of a document that the service blames for its own end."""
    return (error or "").startswith("The service ended 2 times while it worked on this document")


def settle(client: httpx.Client, seconds: float = _SETTLE_SECONDS) -> None:
    """Wait until no job is queued or running. Raises TimeoutError when that does not come."""
    deadline = time.monotonic() + seconds
    while any(client.get("/jobs", params={"state": s, "limit": 1}).json()["total"] for s in ("queued", "running")):
        if time.monotonic() > deadline:
            raise TimeoutError("Jobs did not end after a restart.")
        time.sleep(0.02)


def check_database(path: Path) -> Findings:
    """Rows of a tenant's database that no transaction should have left."""
    findings = Findings()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        for queries, found in ((_ORPHANS, findings.orphans), (_DUPLICATES, findings.duplicates)):
            for query in queries:
                if rows := connection.execute(query).fetchone()[0]:
                    found.append(f"{rows} rows: {query}")
    return findings


def made_text(chance: random.Random) -> str:
    """A text like no other, of one chunk or several."""
    name = f"vessel{chance.getrandbits(48):x}"
    sentence = f"The {name} lies at the {chance.choice(_WORDS)} by the {chance.choice(_WORDS)}. "
    return (sentence + "It waits there. " * chance.choice((0, 0, 20, 200))).strip()
