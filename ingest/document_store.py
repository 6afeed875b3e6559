"""The rows of one tenant's documents: SQL in, records out.

Knows the tables of ``ingest.schema``. Every function takes an open connection and leaves transactions to its caller.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest import checksums, keyword_index
from ingest.database import Connection, Row
from ingest.errors import InvalidDocument, UnknownDocument
from ingest.filters import Predicate
from ingest.keyword_index import TITLE_OF_CHUNKS, extra_terms
from ingest.parsing.document import Heading, Page, ParsedDocument
from ingest.records import (
    AddedDocument,
    Counts,
    DocumentRecord,
    DocumentSplit,
    FoundPassage,
    NewDocument,
    PassageScores,
    Status,
    StoredChunk,
)
from ingest.split_store import split_config, split_json
from ingest.splitting import Chunk, SplitConfig, place_of

_ID = re.compile(r"[0-9a-f]{32}")
_MOST_METADATA_CHARACTERS = 65_536
_MOST_NAME_CHARACTERS = 1_000
_VECTOR_TYPE = np.dtype("<f4")

_DOCUMENT_COLUMNS = (
    "id, collection, coalesce(title, name) AS title, name, media_type, metadata, sha256, bytes, characters, "
    "chunks, pages, status, error, created_at, updated_at, split"
)


@dataclass(frozen=True, slots=True)
class Original:
    """A document as it arrived. ``split``: how to split it; ``None`` where that was not noted."""

    status: str
    title: str | None
    name: str
    is_text: bool
    content: bytes
    split: SplitConfig | None


def insert(connection: Connection, document: NewDocument, split: SplitConfig) -> AddedDocument:
    """Add a document as pending, or find the one with the same content; a failed one becomes pending again.

    Args:
        split: how the document will be split; an existing one that is not failed keeps its own.

    Raises:
        InvalidDocument: title, name, collection or metadata cannot be stored.
    """
    metadata = storable_metadata(document)
    title = (document.title or "").strip() or None
    digest = hashlib.sha256(document.content).hexdigest()
    arrived = now()
    status: Status = "pending" if document.refused is None else "failed"
    existing = connection.execute(
        "SELECT id, coalesce(title, name) AS title, status FROM documents "
        "WHERE collection = ? AND sha256 = ? AND is_text = ?",
        (document.collection, digest, int(document.is_text)),
    ).fetchone()
    if existing is None:
        document_id = uuid.uuid4().hex
        connection.execute(
            "INSERT INTO documents (id, collection, title, name, is_text, metadata, sha256, bytes, status, error, "
            "created_at, updated_at, split) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                document_id,
                document.collection,
                title,
                document.name,
                int(document.is_text),
                metadata,
                digest,
                len(document.content),
                status,
                document.refused,
                arrived,
                arrived,
                split_json(split),
            ),
        )
        connection.execute(
            "INSERT INTO originals (document_id, content) VALUES (?, ?)", (document_id, document.content)
        )
        return AddedDocument(document_id, title or document.name, status, duplicate=False)
    if existing["status"] != "failed":
        return AddedDocument(existing["id"], existing["title"], existing["status"], duplicate=True)
    connection.execute(
        "UPDATE documents SET status = ?, error = ?, title = ?, name = ?, metadata = ?, updated_at = ?, split = ? "
        "WHERE id = ?",
        (status, document.refused, title, document.name, metadata, arrived, split_json(split), existing["id"]),
    )
    return AddedDocument(existing["id"], title or document.name, status, duplicate=True)


def original(connection: Connection, document_id: str) -> Original | None:
    """A document as it arrived; ``None`` when it is not (or no longer) there."""
    row = connection.execute(
        "SELECT status, title, name, is_text, content, split FROM documents JOIN originals ON document_id = id "
        "WHERE id = ?",
        (_key(document_id),),
    ).fetchone()
    if row is None:
        return None
    split = split_config(row["split"])
    return Original(row["status"], row["title"], row["name"], bool(row["is_text"]), row["content"], split)


def complete(
    connection: Connection,
    document_id: str,
    parsed: ParsedDocument,
    chunks: Sequence[Chunk],
    vectors: NDArray[np.float32],
) -> NDArray[np.int64] | None:
    """Make a pending document ready: its text, chunks and vectors.

    Args:
        vectors: float32 ``[len(chunks), dimension]``.

    Returns:
        the numbers given to the chunks, int64 ``[len(chunks)]``; ``None`` when the document is no longer pending or
        no longer there, and nothing was written.
    """
    updated = connection.execute(
        "UPDATE documents SET status = 'ready', error = NULL, title = coalesce(title, ?), media_type = ?, "
        "characters = ?, chunks = ?, pages = ?, updated_at = ? WHERE id = ? AND status = 'pending'",
        (parsed.title, parsed.media_type, len(parsed.text), len(chunks), len(parsed.pages), now(), document_id),
    )
    if updated.rowcount == 0:
        return None
    title = connection.execute(
        f"SELECT {TITLE_OF_CHUNKS} FROM documents WHERE id = ?",  # noqa: S608 - constant columns
        (document_id,),
    ).fetchone()[0]
    connection.execute(
        "INSERT INTO texts (document_id, text, pages, headings) VALUES (?, ?, ?, ?)",
        (
            document_id,
            parsed.text,
            json.dumps([[page.number, page.start, page.end] for page in parsed.pages]),
            json.dumps([[heading.start, heading.level, heading.title] for heading in parsed.headings]),
        ),
    )
    numbers = np.empty(len(chunks), dtype=np.int64)
    indexed: list[tuple[int, tuple[str, ...]]] = []
    for position, chunk in enumerate(chunks):
        text = parsed.text[chunk.start : chunk.end]
        extra = extra_terms(title, text)
        number = connection.execute(
            'INSERT INTO chunks (document_id, position, start, "end", page, section, text, title, extra_terms, sum) '
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
            (
                document_id,
                position,
                chunk.start,
                chunk.end,
                chunk.page,
                chunk.section,
                text,
                title,
                extra,
                checksums.of_chunk(text, chunk.start, chunk.end),
            ),
        ).fetchone()["number"]
        indexed.append((number, (title, chunk.section or "", text, extra)))
        numbers[position] = number
    blobs = [vector.tobytes() for vector in vectors.astype(_VECTOR_TYPE, copy=False)]
    connection.executemany(
        "INSERT INTO vectors (chunk, vector, sum) VALUES (?, ?, ?)",
        [(number, blob, checksums.of_vector(blob)) for number, blob in zip(numbers.tolist(), blobs, strict=True)],
    )
    keyword_index.add(connection, indexed)
    return numbers


def place(connection: Connection, document_id: str, start: int, end: int) -> tuple[int | None, str | None]:
    """Page and section of ``start:end`` in a document's text; nothing is known of a document that is not there."""
    row = connection.execute(
        "SELECT pages, headings, length(text) AS length FROM texts WHERE document_id = ?", (_key(document_id),)
    ).fetchone()
    if row is None:
        return None, None
    pages = [Page(*page) for page in json.loads(row["pages"])]
    headings = [Heading(*heading) for heading in json.loads(row["headings"])]
    return place_of(start, end, pages, headings, row["length"])


def fail(connection: Connection, document_id: str, reason: str) -> bool:
    """Note why a pending document could not be read; false when it is no longer pending or there."""
    connection.execute("DELETE FROM staged WHERE document_id = ? AND revision = 0", (document_id,))
    updated = connection.execute(
        "UPDATE documents SET status = 'failed', error = ?, updated_at = ? WHERE id = ? AND status = 'pending'",
        (_storable(reason), now(), document_id),
    )
    return updated.rowcount > 0


def reopen(connection: Connection, document_id: str) -> bool:
    """Make a failed document pending again; false when it did not fail or is not there."""
    updated = connection.execute(
        "UPDATE documents SET status = 'pending', error = NULL, updated_at = ? WHERE id = ? AND status = 'failed'",
        (now(), _key(document_id)),
    )
    return updated.rowcount > 0


def clear(connection: Connection, document_id: str) -> None:
    """Remove a document's text, chunks and vectors; the document itself and its original stay."""
    connection.execute("DELETE FROM chunks WHERE document_id = ?", (document_id,))
    connection.execute("DELETE FROM texts WHERE document_id = ?", (document_id,))


def delete(connection: Connection, document_id: str) -> None:
    """Remove a document and all that hangs on it.

    Raises:
        UnknownDocument: it is not there.
    """
    if connection.execute("DELETE FROM documents WHERE id = ?", (_key(document_id),)).rowcount == 0:
        raise _unknown(document_id)


def select(
    connection: Connection,
    document_ids: Sequence[str] | None,
    predicate: Predicate | None,
    collection: str | None,
    status: str | None,
) -> list[str]:
    """Ids of the documents that satisfy every condition that is given, the oldest first."""
    conditions: list[tuple[str, list[Any]]] = []
    if document_ids is not None:
        keys = json.dumps([_key(document_id) for document_id in document_ids])
        conditions.append(("id IN (SELECT value FROM json_each(?))", [keys]))
    if predicate is not None:
        conditions.append((predicate.sql, list(predicate.parameters)))
    if collection is not None:
        conditions.append(("collection = ?", [_storable(collection)]))
    if status is not None:
        conditions.append(("status = ?", [_storable(status)]))
    where = " AND ".join(f"({sql})" for sql, _ in conditions) or "1 = 1"
    rows = connection.execute(
        f"SELECT id FROM documents WHERE {where} ORDER BY number",  # noqa: S608 - values are bound
        [value for _, values in conditions for value in values],
    )
    return [row["id"] for row in rows]


def discard_pending(connection: Connection, document_ids: Sequence[str]) -> None:
    """Remove documents that are pending; any other stays."""
    keys = [(_key(document_id),) for document_id in document_ids]
    connection.executemany("DELETE FROM documents WHERE id = ? AND status = 'pending'", keys)


def document(connection: Connection, document_id: str) -> DocumentRecord:
    """One document.

    Raises:
        UnknownDocument: it is not there.
    """
    row = connection.execute(
        f"SELECT {_DOCUMENT_COLUMNS} FROM documents WHERE id = ?",  # noqa: S608 - constant columns
        (_key(document_id),),
    ).fetchone()
    if row is None:
        raise _unknown(document_id)
    return _document(row)


def held(connection: Connection) -> tuple[int, int]:
    """How many documents there are and the bytes of their originals; new content that waits counts for the old."""
    row = connection.execute(
        "SELECT count(*) AS documents, coalesce(sum(bytes), 0) + (SELECT coalesce(sum(length(content) - bytes), 0) "
        "FROM replacements JOIN documents ON id = document_id WHERE replacements.status = 'pending') AS bytes "
        "FROM documents"
    ).fetchone()
    return int(row["documents"]), int(row["bytes"])


def collections(connection: Connection, document_ids: Sequence[str]) -> set[str]:
    """The collections that documents lie in; those that are not there are passed over."""
    keys = json.dumps([_key(document_id) for document_id in document_ids])
    rows = connection.execute(
        "SELECT DISTINCT collection FROM documents WHERE id IN (SELECT value FROM json_each(?))", (keys,)
    )
    return {row["collection"] for row in rows}


def documents(
    connection: Connection,
    limit: int,
    offset: int,
    collection: str | None,
    status: str | None,
    title: str | None = None,
    within: Collection[str] | None = None,
) -> tuple[list[DocumentRecord], int]:
    """Documents, the newest first, and how many there are in all; ``title`` is a part of their title, any case;
    ``within``: the only collections."""
    conditions = {
        "collection = ?": None if collection is None else _storable(collection),
        "status = ?": None if status is None else _storable(status),
        "instr(lower(coalesce(title, name)), lower(?)) > 0": None if title is None else _storable(title),
        "collection IN (SELECT value FROM json_each(?))": None if within is None else json.dumps(sorted(within)),
    }
    where = " AND ".join(sql for sql, value in conditions.items() if value is not None) or "1 = 1"
    values = [value for value in conditions.values() if value is not None]
    rows = connection.execute(
        f"SELECT {_DOCUMENT_COLUMNS} FROM documents WHERE {where} ORDER BY number DESC LIMIT ? OFFSET ?",  # noqa: S608
        (*values, limit, offset),
    )
    total = connection.execute(f"SELECT count(*) FROM documents WHERE {where}", values).fetchone()[0]  # noqa: S608
    return [_document(row) for row in rows], int(total)


def text(connection: Connection, document_id: str) -> str | None:
    """A document's text; ``None`` when it is there but not ready.

    Raises:
        UnknownDocument: it is not there.
    """
    row = connection.execute(
        "SELECT text FROM documents LEFT JOIN texts ON document_id = id WHERE id = ?", (_key(document_id),)
    ).fetchone()
    if row is None:
        raise _unknown(document_id)
    found: str | None = row["text"]
    return found


def chunks(connection: Connection, document_id: str, limit: int, offset: int) -> tuple[list[StoredChunk], int]:
    """A document's chunks in order and how many there are in all; none while it is not ready.

    Raises:
        UnknownDocument: it is not there.
    """
    total = document(connection, document_id).chunks
    rows = connection.execute(
        "SELECT * FROM chunks WHERE document_id = ? ORDER BY position LIMIT ? OFFSET ?", (document_id, limit, offset)
    )
    found = [
        StoredChunk(
            id=_chunk_id(row),
            document_id=document_id,
            position=row["position"],
            start=row["start"],
            end=row["end"],
            page=row["page"],
            section=row["section"],
            text=row["text"],
        )
        for row in rows
    ]
    return found, total


def counts(connection: Connection) -> Counts:
    """How much there is."""
    row = connection.execute(
        "SELECT count(*) AS documents, count(CASE status WHEN 'pending' THEN 1 END) AS pending, "
        "count(CASE status WHEN 'ready' THEN 1 END) AS ready, count(CASE status WHEN 'failed' THEN 1 END) AS failed, "
        "coalesce(sum(chunks), 0) AS chunks, coalesce(sum(bytes), 0) AS bytes FROM documents"
    ).fetchone()
    return Counts(**{name: int(row[name]) for name in row.keys()})  # noqa: SIM118 - a Row iterates over values


def passages(
    connection: Connection,
    numbers: Sequence[int],
    final: Sequence[float],
    scores: Sequence[PassageScores],
) -> list[FoundPassage]:
    """The passages of chunk numbers, in their order; numbers of deleted chunks are left out.

    Raises:
        DamagedData: a chunk is not what was stored.
    """
    # CROSS JOIN holds SQLite to this order; left to itself it begins with every ready document.
    rows = connection.execute(
        "SELECT chunks.*, coalesce(documents.title, documents.name) AS document_title FROM json_each(?) AS wanted "
        "CROSS JOIN chunks ON chunks.number = CAST(wanted.value AS BIGINT) "
        "CROSS JOIN documents ON documents.id = chunks.document_id WHERE documents.status = 'ready'",
        (json.dumps(list(numbers)),),
    )
    by_number = {row["number"]: row for row in rows}
    for row in by_number.values():
        checksums.check_chunk(row)
    return [
        FoundPassage(
            chunk_id=_chunk_id(row),
            document_id=row["document_id"],
            position=row["position"],
            title=row["document_title"],
            text=row["text"],
            score=score,
            scores=own,
            page=row["page"],
            section=row["section"],
            start=row["start"],
            end=row["end"],
        )
        for number, score, own in zip(numbers, final, scores, strict=True)
        if (row := by_number.get(number)) is not None
    ]


def matching(connection: Connection, predicate: Predicate | None, collection: str | None) -> list[str] | None:
    """Ids of the ready documents a search may look at; ``None`` when that is all of them."""
    if predicate is None:
        if collection is None:
            return None
        elsewhere = connection.execute(
            "SELECT 1 FROM documents WHERE collection < ? OR collection > ? LIMIT 1", (_storable(collection),) * 2
        ).fetchone()
        if elsewhere is None:
            return None
    where, parameters = (predicate.sql, list(predicate.parameters)) if predicate else ("1 = 1", [])
    if collection is not None:
        where = f"collection = ? AND {where}"
        parameters.insert(0, _storable(collection))
    rows = connection.execute(
        f"SELECT id FROM documents WHERE status = 'ready' AND {where}",  # noqa: S608 - values are bound
        parameters,
    )
    return [row["id"] for row in rows]


def expanded(connection: Connection, passage: FoundPassage, neighbours: int) -> FoundPassage:
    """A passage joined with up to ``neighbours`` chunks before and after it: an exact slice of the document's text."""
    row = connection.execute(
        'SELECT min(chunks.start) AS start, max(chunks."end") AS "end" FROM chunks '
        "WHERE document_id = ? AND position BETWEEN ? AND ?",
        (passage.document_id, passage.position - neighbours, passage.position + neighbours),
    ).fetchone()
    if row["start"] is None:  # deleted a moment ago
        return passage
    start, end = min(row["start"], passage.start), max(row["end"], passage.end)
    text = connection.execute(
        "SELECT substr(text, ?, ?) AS text FROM texts WHERE document_id = ?",
        (start + 1, end - start, passage.document_id),
    ).fetchone()["text"]
    page, section = place(connection, passage.document_id, start, end)
    return replace(passage, text=text, start=start, end=end, page=page, section=section)


def is_ready(connection: Connection, document_id: str) -> bool:
    """Whether a document is there and ready."""
    found = connection.execute("SELECT 1 FROM documents WHERE id = ? AND status = 'ready'", (_key(document_id),))
    return found.fetchone() is not None


def storable_metadata(document: NewDocument) -> str:
    """The metadata as JSON, once everything about the document can be stored. Raises InvalidDocument."""
    for what, value in (("title", document.title), ("name", document.name), ("collection", document.collection)):
        if value is None:
            continue
        if value != _storable(value) or "\x00" in value:
            raise InvalidDocument(f"the {what} holds NUL characters or lone surrogates")
        if len(value) > _MOST_NAME_CHARACTERS:
            raise InvalidDocument(f"the {what} is longer than {_MOST_NAME_CHARACTERS} characters")
    if not document.collection.strip():
        raise InvalidDocument("the collection is blank")
    if not isinstance(document.metadata, dict) or not all(isinstance(key, str) for key in document.metadata):
        raise InvalidDocument("the metadata must be an object with strings as keys")
    try:
        metadata = json.dumps(document.metadata, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidDocument("the metadata must be JSON, without NaN or infinity") from error
    if metadata != _storable(metadata) or "\\u0000" in metadata:
        raise InvalidDocument("the metadata holds NUL characters or lone surrogates")
    if len(metadata) > _MOST_METADATA_CHARACTERS:
        raise InvalidDocument(f"the metadata is longer than {_MOST_METADATA_CHARACTERS} characters of JSON")
    return metadata


def _document(row: Row) -> DocumentRecord:
    fields: dict[str, Any] = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a Row iterates over values
    fields["metadata"] = json.loads(fields["metadata"])
    fields["split"] = DocumentSplit(**json.loads(fields["split"])) if fields["split"] else None
    return DocumentRecord(**fields)


def _chunk_id(row: Row) -> str:
    return f"{row['document_id']}-{row['number']}"  # the number is never reused, also not when content is replaced


def _key(document_id: str) -> str:
    """The id as SQLite may see it; a malformed one becomes one that nothing has."""
    return document_id if _ID.fullmatch(document_id) else ""


def _unknown(document_id: str) -> UnknownDocument:
    return UnknownDocument(f"there is no document {document_id[:64]!a}")


def _storable(value: str) -> str:
    """``value`` with lone surrogates, which UTF-8 cannot hold, replaced."""
    return value.encode("utf-8", "replace").decode("utf-8")


def now() -> str:
    """The time as documents carry it: ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
