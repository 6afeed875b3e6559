"""What is kept of a tenant's answers, and the feedback on them, joined to exactly what was answered.

Answers are written in batches by one thread for all tenants, beside the requests: a process that is killed loses what
the last fraction of a second brought, an orderly end loses nothing. What is kept is bounded by count and age. Passages
go with their document, in its own transaction, by a trigger. Knows rows; what a rating leads to is not known here.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.schemas import AskRequest, AskResponse
from ingest import STORAGE_ERRORS, Connection, Database, DatabaseClosed, Row

_log = logging.getLogger("lorebase.answers")
_MOST_WAITING = 10_000  # of one tenant, while its database cannot be written
_PRUNE_EVERY = 256  # answers
_EXPORT_PAGE = 100
_OTHERS_WRITE_SECONDS = 1.0  # in which another process has written what it has answered
_DAY_SECONDS = 86_400.0

ANSWER_MIGRATIONS = [
    """
    CREATE TABLE answers (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        request_id TEXT NOT NULL UNIQUE,
        at REAL NOT NULL,
        adapter TEXT,                   -- with version and sha256; NULL: the base model
        version INTEGER,
        sha256 TEXT,
        template TEXT,
        abstained INTEGER NOT NULL,
        confidence REAL NOT NULL,
        question TEXT,                  -- this and the next two are NULL where texts are not kept
        rewritten TEXT,
        answer TEXT,                    -- NULL too when a document it cited was deleted
        citations TEXT NOT NULL         -- JSON: [[passage, start, end, score], ...], offsets of the document
    );
    CREATE INDEX answers_by_version ON answers (adapter, version, at);

    CREATE TABLE answer_passages (
        answer INTEGER NOT NULL REFERENCES answers (number) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        document_id TEXT,               -- NULL: given with the question
        chunk_id TEXT,
        title TEXT NOT NULL,
        text BLOB NOT NULL,             -- UTF-8, zlib
        start INTEGER NOT NULL,
        "end" INTEGER NOT NULL,
        page INTEGER,
        section TEXT,
        score REAL,
        cited INTEGER NOT NULL,
        PRIMARY KEY (answer, position)
    ) WITHOUT ROWID;
    CREATE INDEX answer_passages_by_document ON answer_passages (document_id);

    CREATE TABLE feedback (
        answer INTEGER PRIMARY KEY REFERENCES answers (number) ON DELETE CASCADE,
        rating INTEGER CHECK (rating IN (-1, 1)),
        correction TEXT,
        at REAL NOT NULL
    );

    CREATE TRIGGER answers_of_deleted_document AFTER DELETE ON documents BEGIN
        UPDATE answers SET answer = NULL, citations = '[]' WHERE number IN
            (SELECT answer FROM answer_passages WHERE document_id = old.id AND cited);
        DELETE FROM answer_passages WHERE document_id = old.id;
    END;
    """,
    "ALTER TABLE answers ADD COLUMN arm TEXT",  # active or canary; NULL: the base, or a version asked for by number
]

_RATED = "SELECT a.*, f.rating, f.correction, f.at AS rated_at FROM feedback f JOIN answers a ON a.number = f.answer"


class UnknownAnswer(Exception):
    """No answer of this request id is kept."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept of one tenant.

    Attributes:
        answers: answers without feedback; 0 keeps none, and then there can be no feedback.
        days: how long an answer without feedback is kept.
        feedback: answers with feedback.
    """

    answers: int = 10_000
    days: float = 30.0
    feedback: int = 100_000


@dataclass(frozen=True, slots=True)
class KeptPassage:
    """A passage as it was read then; its place as in a citation. ``cited``: the answer rests on it."""

    document_id: str | None
    chunk_id: str | None
    title: str
    text: str
    start: int
    end: int
    page: int | None
    section: str | None
    score: float | None
    cited: bool


@dataclass(frozen=True, slots=True)
class KeptCitation:
    """A cited place: an index into the passages, offsets in the document, the sentence."""

    passage: int
    start: int
    end: int
    score: float
    quote: str


@dataclass(frozen=True, slots=True)
class RatedAnswer:
    """Feedback with the very answer it is about. Texts are None where they were not kept, or were erased."""

    request_id: str
    rating: int | None
    correction: str | None
    rated_at: float
    asked_at: float
    question: str | None
    rewritten_question: str | None
    answer: str | None
    abstained: bool
    confidence: float
    adapter: str | None
    version: int | None
    sha256: str | None
    template: str | None
    passages: tuple[KeptPassage, ...]
    citations: tuple[KeptCitation, ...]


class AnswerStore:
    """The answers and feedback of one tenant.

    Args:
        keeps_texts: whether texts are kept now.
        wake: told when there is something to write.
        changed: called when further answers or feedback are kept.
        are_others: whether other processes answer too, and may not have written an answer yet that somebody has.
    """

    def __init__(
        self,
        database: Database,
        retention: Retention,
        keeps_texts: Callable[[], bool],
        wake: Callable[[AnswerStore], None],
        changed: Callable[[], None] = lambda: None,
        are_others: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._retention = retention
        self._keeps_texts = keeps_texts
        self._wake = wake
        self._changed = changed
        self._are_others = are_others
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: list[tuple[float, AskRequest, AskResponse, str | None, bool]] = []
        self._since_pruned = _PRUNE_EVERY  # the first write after opening prunes

    def note(self, request: AskRequest, response: AskResponse, arm: str | None = None) -> None:
        """Keep an answer, soon. Costs the caller nothing but a place in a queue. ``arm``: see `Selection`."""
        if self._retention.answers == 0:
            return
        with self._lock:
            if len(self._waiting) >= _MOST_WAITING:
                return
            self._waiting.append((time.time(), request, response, arm, self._keeps_texts()))
        self._wake(self)

    def write_waiting(self) -> bool:
        """Write what waits; false when it must be tried again."""
        with self._writing:
            with self._lock:
                batch, self._waiting = self._waiting, []
            if not batch:
                return True
            try:
                with self._database.write() as connection:
                    for each in batch:
                        _insert(connection, *each)
                    self._since_pruned += len(batch)
                    if self._since_pruned >= _PRUNE_EVERY:
                        self._prune(connection)
            except DatabaseClosed:  # the tenant is gone
                return True
            except STORAGE_ERRORS as error:  # such as a full disk: it may pass
                _log.warning("answers wait to be kept: %s", error)
                with self._lock:
                    self._waiting = (batch + self._waiting)[:_MOST_WAITING]
                return False
        self._changed()
        return True

    def rate(self, request_id: str, rating: int | None, correction: str | None) -> None:
        """Keep feedback on an answer, instead of any given before. Raises UnknownAnswer."""
        self._await(request_id)
        with self._database.write() as connection:
            kept = connection.execute("SELECT number FROM answers WHERE request_id = ?", (request_id,)).fetchone()
            if kept is None:
                raise UnknownAnswer
            connection.execute(
                "INSERT INTO feedback (answer, rating, correction, at) VALUES (?, ?, ?, ?) ON CONFLICT (answer) "
                "DO UPDATE SET rating = excluded.rating, correction = excluded.correction, at = excluded.at",
                (kept["number"], rating, correction, time.time()),
            )
        self._changed()

    def forget(self, request_id: str) -> None:
        """Erase an answer with its feedback. Raises UnknownAnswer."""
        self._await(request_id)
        with self._database.write() as connection:
            if not connection.execute("DELETE FROM answers WHERE request_id = ?", (request_id,)).rowcount:
                raise UnknownAnswer

    def _await(self, request_id: str) -> None:
        """Let an answer be written that was given a moment ago, here or by another process."""
        self.write_waiting()
        deadline = time.monotonic() + (_OTHERS_WRITE_SECONDS if self._are_others() else 0.0)
        while time.monotonic() < deadline:
            with self._database.read() as connection:
                if connection.execute("SELECT 1 FROM answers WHERE request_id = ?", (request_id,)).fetchone():
                    return
            time.sleep(0.1)

    def page(
        self, limit: int, offset: int, rating: int | None = None, adapter: str | None = None
    ) -> tuple[list[RatedAnswer], int]:
        """A page of the feedback, the newest first, and how much there is in all."""
        wanted = {"rating": rating, "adapter": adapter}
        asked = {column: value for column, value in wanted.items() if value is not None}
        where = "WHERE " + " AND ".join(f"{column} = ?" for column in asked) if asked else ""
        with self._database.read() as connection:
            rows = connection.execute(
                f"{_RATED} {where} ORDER BY f.at DESC, a.number DESC LIMIT ? OFFSET ?",
                (*asked.values(), limit, offset),
            ).fetchall()
            total = connection.execute(
                f"SELECT count(*) FROM feedback f JOIN answers a ON a.number = f.answer {where}",  # noqa: S608
                tuple(asked.values()),
            ).fetchone()[0]
            return [_rated(connection, row) for row in rows], int(total)

    def export(self) -> Iterator[RatedAnswer]:
        """All feedback, in the order the questions were asked; read page by page."""
        last = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(
                    f"{_RATED} WHERE a.number > ? ORDER BY a.number LIMIT ?", (last, _EXPORT_PAGE)
                ).fetchall()
                page = [_rated(connection, row) for row in rows]
            if not page:
                return
            yield from page
            last = rows[-1]["number"]

    def _prune(self, connection: Connection) -> None:
        """Forget what is too old or too much; the caller holds the transaction."""
        self._since_pruned = 0
        kept = self._retention
        connection.execute(
            "DELETE FROM answers WHERE number NOT IN (SELECT answer FROM feedback) AND "
            "(at < ? OR number <= (SELECT number FROM answers ORDER BY number DESC LIMIT 1 OFFSET ?))",
            (time.time() - kept.days * _DAY_SECONDS, kept.answers),
        )
        connection.execute(
            "DELETE FROM answers WHERE number IN (SELECT answer FROM feedback) AND number NOT IN "
            "(SELECT answer FROM feedback ORDER BY at DESC LIMIT ?)",
            (kept.feedback,),
        )


def _insert(
    connection: Connection,
    at: float,
    request: AskRequest,
    response: AskResponse,
    arm: str | None,
    with_texts: bool,
) -> None:
    used = response.adapter
    cited = [_passage_of(response, i) for i in range(len(response.citations))]
    places = [(p, c.start, c.end, c.score) for p, c in zip(cited, response.citations, strict=True) if p is not None]
    connection.execute("DELETE FROM answers WHERE request_id = ?", (response.request_id,))
    number = connection.execute(
        """
        INSERT INTO answers (
            request_id, at, adapter, version, sha256, template, abstained, confidence, question, rewritten, answer,
            citations, arm
        )
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number
        """,
        (
            response.request_id, at, used.name if used else None, used.version if used else None,
            used.sha256 if used else None, response.template, int(response.abstained), response.confidence,
            *((request.question, response.rewritten_question, response.answer) if with_texts else (None,) * 3),
            json.dumps(places if with_texts else []), arm,
        ),
    ).fetchone()[0]  # fmt: skip
    if not with_texts:
        return
    # One whose document is deleted by now was erased before it was kept.
    kept = {
        i: p for i, p in enumerate(response.passages) if p.document_id is None or _is_there(connection, p.document_id)
    }
    connection.executemany(
        """
        INSERT INTO answer_passages (
            answer, position, document_id, chunk_id, title, text, start, "end", page, section, score, cited
        )
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        [
            (number, i, p.document_id, p.chunk_id, p.title, zlib.compress(p.text.encode()), p.start, p.end, p.page,
             p.section, p.score, int(i in cited))
            for i, p in kept.items()
        ],
    )  # fmt: skip
    if any(place[0] not in kept for place in places):
        connection.execute("UPDATE answers SET answer = NULL, citations = '[]' WHERE number = ?", (number,))


def _is_there(connection: Connection, document_id: str) -> bool:
    return connection.execute("SELECT 1 FROM documents WHERE id = ?", (document_id,)).fetchone() is not None


def _passage_of(response: AskResponse, index: int) -> int | None:
    """The passage that a citation was cut from."""
    citation = response.citations[index]
    for i, passage in enumerate(response.passages):
        same = (passage.document_id, passage.chunk_id) == (citation.document_id, citation.chunk_id)
        quote = passage.text[max(0, citation.start - passage.start) : max(0, citation.end - passage.start)]
        if same and citation.start >= passage.start and quote == citation.quote:
            return i
    return None


def _rated(connection: Connection, row: Row) -> RatedAnswer:
    passages = {
        p["position"]: KeptPassage(
            p["document_id"], p["chunk_id"], p["title"], zlib.decompress(p["text"]).decode(), p["start"], p["end"],
            p["page"], p["section"], p["score"], bool(p["cited"]),
        )
        for p in connection.execute("SELECT * FROM answer_passages WHERE answer = ?", (row["number"],))
    }  # fmt: skip
    order = {position: i for i, position in enumerate(sorted(passages))}
    citations = [
        KeptCitation(order[p], start, end, score, _cut(passages[p], start, end))
        for p, start, end, score in json.loads(row["citations"])
        if p in passages
    ]
    return RatedAnswer(
        request_id=row["request_id"],
        rating=row["rating"],
        correction=row["correction"],
        rated_at=row["rated_at"],
        asked_at=row["at"],
        question=row["question"],
        rewritten_question=row["rewritten"],
        answer=row["answer"],
        abstained=bool(row["abstained"]),
        confidence=row["confidence"],
        adapter=row["adapter"],
        version=row["version"],
        sha256=row["sha256"],
        template=row["template"],
        passages=tuple(passages[position] for position in order),
        citations=tuple(citations),
    )


def _cut(passage: KeptPassage, start: int, end: int) -> str:
    return passage.text[start - passage.start : end - passage.start]
