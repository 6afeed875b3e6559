"""The rows of content that is to replace a document's own, which stays as it is until the switch in one transaction.

Knows the table ``replacements`` of ``ingest.schema``; a document has at most one, the newest. Every function takes an
open connection and leaves transactions to its caller.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from ingest import document_store as store
from ingest import staging
from ingest.database import Connection
from ingest.errors import SameContentElsewhere
from ingest.records import NewDocument, ReplacedDocument, Replacement
from ingest.split_store import split_config, split_json, split_of
from ingest.splitting import SplitConfig


def put(connection: Connection, document_id: str, new: NewDocument, fallback: SplitConfig) -> ReplacedDocument:
    """Keep new content for a document; what waited for it before is forgotten.

    Content that the document has already, under the same title or none and split the same way, is no work: other
    metadata takes effect at once.

    Args:
        fallback: how to split content that brings nothing of its own.

    Raises:
        UnknownDocument: the document is not there.
        InvalidDocument: title, name, collection or metadata cannot be stored.
        SameContentElsewhere: another document of the collection has this content.
    """
    current = store.document(connection, document_id)
    metadata = store.storable_metadata(new)
    title = (new.title or "").strip() or None
    digest = hashlib.sha256(new.content).hexdigest()
    identity = (new.collection, digest, int(new.is_text))
    same = connection.execute(
        "SELECT id FROM documents WHERE collection = ? AND sha256 = ? AND is_text = ?", identity
    ).fetchone()
    if same is not None and same["id"] != document_id:
        raise SameContentElsewhere(same["id"])
    shown = title or new.name
    way = split_json(new.split or fallback)
    same_way = new.split is None or new.split == split_of(connection, document_id)
    if same is not None and current.status != "failed" and title in (None, current.title) and same_way:
        discard(connection, document_id)
        connection.execute(
            "UPDATE documents SET name = ?, metadata = ?, updated_at = ? WHERE id = ? AND (name, metadata) <> (?, ?)",
            (new.name, metadata, store.now(), document_id, new.name, metadata),
        )
        title_now = store.document(connection, document_id).title
        return ReplacedDocument(document_id, title_now, current.status, duplicate=True, replaces=False, is_new=True)
    waits = connection.execute(
        "SELECT 1 FROM replacements WHERE document_id = ? AND status = 'pending' AND collection = ? AND sha256 = ? "
        "AND is_text = ? AND title IS NOT DISTINCT FROM ? AND name = ? AND metadata = ? AND split = ?",
        (document_id, *identity, title, new.name, metadata, way),
    ).fetchone()
    if waits is not None:
        return ReplacedDocument(document_id, shown, current.status, duplicate=True, replaces=True, is_new=False)
    discard(connection, document_id)
    connection.execute(
        "INSERT INTO replacements (document_id, collection, sha256, is_text, title, name, metadata, split, content, "
        "status, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?)",
        (document_id, *identity, title, new.name, metadata, way, new.content, store.now()),
    )
    return ReplacedDocument(document_id, shown, current.status, duplicate=False, replaces=True, is_new=True)


def of(connection: Connection, document_ids: Sequence[str]) -> dict[str, Replacement]:
    """What is to replace the content of documents, by their ids; those without are left out."""
    rows = connection.execute(
        "SELECT document_id, status, coalesce(title, name) AS title, error, created_at FROM json_each(?) "
        "JOIN replacements ON document_id = value",
        (json.dumps(list(document_ids)),),
    )
    return {r["document_id"]: Replacement(r["status"], r["title"], r["error"], r["created_at"]) for r in rows}


def original(connection: Connection, document_id: str) -> store.Original | None:
    """The new content as it arrived."""
    row = connection.execute(
        "SELECT status, title, name, is_text, content, split FROM replacements WHERE document_id = ?", (document_id,)
    ).fetchone()
    return None if row is None else store.Original(row[0], row[1], row[2], bool(row[3]), row[4], split_config(row[5]))


def switch(connection: Connection, document_id: str) -> None:
    """Make the new content the document's own, as a pending document that ``document_store.complete`` finishes in the
    same transaction.

    Raises:
        SameContentElsewhere: another document of the collection has this content by now; nothing was changed.
    """
    other = connection.execute(
        "SELECT documents.id FROM documents JOIN replacements USING (collection, sha256, is_text) "
        "WHERE replacements.document_id = ? AND documents.id <> ?",
        (document_id, document_id),
    ).fetchone()
    if other is not None:
        raise SameContentElsewhere(other["id"])
    store.clear(connection, document_id)
    connection.execute(
        "UPDATE documents SET (collection, title, name, is_text, metadata, split, sha256, bytes) = "
        "(SELECT collection, title, name, is_text, metadata, split, sha256, length(content) FROM replacements "
        "WHERE document_id = ?), status = 'pending', error = NULL WHERE id = ?",
        (document_id, document_id),
    )
    connection.execute(
        "UPDATE originals SET content = (SELECT content FROM replacements WHERE document_id = ?) WHERE document_id = ?",
        (document_id, document_id),
    )
    discard(connection, document_id)


def fail(connection: Connection, document_id: str, reason: str) -> bool:
    """Note why the new content cannot take the old one's place; false when none waits."""
    _unstage(connection, document_id)
    updated = connection.execute(
        "UPDATE replacements SET status = 'failed', error = ? WHERE document_id = ? AND status = 'pending'",
        (reason.encode("utf-8", "replace").decode(), document_id),
    )
    return updated.rowcount > 0


def reopen(connection: Connection, document_id: str) -> bool:
    """Let new content that failed wait again; false when there is none."""
    updated = connection.execute(
        "UPDATE replacements SET status = 'pending', error = NULL WHERE document_id = ? AND status = 'failed'",
        (document_id,),
    )
    return updated.rowcount > 0


def discard(connection: Connection, document_id: str) -> None:
    """Forget the new content of a document, if there is any."""
    _unstage(connection, document_id)
    connection.execute("DELETE FROM replacements WHERE document_id = ?", (document_id,))


def _unstage(connection: Connection, document_id: str) -> None:
    row = connection.execute("SELECT revision FROM replacements WHERE document_id = ?", (document_id,)).fetchone()
    if row is not None:
        staging.discard(connection, document_id, row["revision"])
