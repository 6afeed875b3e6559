"""The rows of documents on their way: parsed and split, embedded in part, not yet searchable.

What is committed here is never done again: after a crash or a stop the work goes on with the next chunk. Knows the
``staged`` tables of ``ingest.schema``. Every function takes an open connection and leaves transactions to its caller.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.database import Connection, Row
from ingest.parsing.document import ParsedDocument
from ingest.parsing.wire import document_from_bytes, document_to_bytes
from ingest.records import Upload
from ingest.splitting import Chunk, SplitResult

_VECTOR_TYPE = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Piece:
    """Chunks of one document that are embedded next.

    Attributes:
        first: rank of the first of them; so many are embedded already.
        inputs: what to embed.
        chunks: how many the document has in all.
    """

    upload: Upload
    revision: int
    first: int
    inputs: list[str]
    chunks: int

    @property
    def is_last(self) -> bool:
        return self.first + len(self.inputs) == self.chunks


def pending_revision(connection: Connection, upload: Upload) -> int | None:
    """The revision an upload stands for; ``None`` when it no longer waits, or its document is gone."""
    if upload.replaces:
        query = "SELECT revision FROM replacements WHERE document_id = ? AND status = 'pending'"
    else:
        query = "SELECT 0 AS revision FROM documents WHERE id = ? AND status = 'pending'"
    row = connection.execute(query, (upload.document_id,)).fetchone()
    return int(row["revision"]) if row else None


def is_staged(connection: Connection, upload: Upload) -> bool:
    """Whether an upload is parsed and split already."""
    return _staged(connection, upload) is not None


def stage(
    connection: Connection,
    upload: Upload,
    revision: int,
    parsed: ParsedDocument,
    done: SplitResult,
    inputs: Sequence[str],
) -> bool:
    """Keep what was parsed and split; false when the upload no longer waits.

    Args:
        inputs: what to embed for each chunk.
    """
    if pending_revision(connection, upload) != revision:
        return False
    discard(connection, upload.document_id, revision)
    chunks = done.chunks
    connection.execute(
        "INSERT INTO staged (document_id, revision, parsed, note, chunks, embedded, embedder) "
        "VALUES (?, ?, ?, ?, ?, 0, '')",
        (upload.document_id, revision, document_to_bytes(parsed), done.note, len(chunks)),
    )
    longest_first = sorted(range(len(chunks)), key=lambda position: -len(inputs[position]))
    connection.executemany(
        "INSERT INTO staged_chunks (document_id, revision, rank, position, chunk, input) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (upload.document_id, revision, rank, position, json.dumps(dataclasses.asdict(chunks[position])),
             inputs[position])
            for rank, position in enumerate(longest_first)
        ],
    )  # fmt: skip
    return True


def portion(connection: Connection, uploads: Sequence[Upload], embedder: str, limit: int) -> list[Piece]:
    """What to embed next: the first uploads as a whole while they have ``limit`` chunks together, or ``limit`` chunks
    of the first. Uploads that are not staged are left out; vectors of another embedder count for nothing."""
    pieces: list[Piece] = []
    left = limit
    for upload in uploads:
        row = _staged(connection, upload)
        if row is None:
            continue
        first = row["embedded"] if row["embedder"] == embedder else 0
        if pieces and row["chunks"] - first > left:
            break
        found = connection.execute(
            "SELECT input FROM staged_chunks WHERE document_id = ? AND revision = ? AND rank >= ? ORDER BY rank "
            "LIMIT ?",
            (upload.document_id, row["revision"], first, left),
        )
        pieces.append(Piece(upload, row["revision"], first, [r["input"] for r in found], row["chunks"]))
        left -= len(pieces[-1].inputs)
        if left <= 0:
            break
    return pieces


def progress(connection: Connection, uploads: Sequence[Upload], embedder: str) -> tuple[int, int]:
    """How many chunks are embedded, of how many, of the uploads that are staged."""
    rows = [row for upload in uploads if (row := _staged(connection, upload)) is not None]
    return sum(r["embedded"] for r in rows if r["embedder"] == embedder), sum(r["chunks"] for r in rows)


def add_vectors(connection: Connection, piece: Piece, vectors: NDArray[np.float32], embedder: str) -> None:
    """Keep the vectors of a piece: float32 ``[len(piece.inputs), dimension]``."""
    key = (piece.upload.document_id, piece.revision)
    connection.execute(
        "DELETE FROM staged_vectors WHERE document_id = ? AND revision = ? AND rank >= ?", (*key, piece.first)
    )
    connection.execute(
        "INSERT INTO staged_vectors (document_id, revision, rank, vectors) VALUES (?, ?, ?, ?)",
        (*key, piece.first, vectors.astype(_VECTOR_TYPE, copy=False).tobytes()),
    )
    connection.execute(
        "UPDATE staged SET embedded = ?, embedder = ? WHERE document_id = ? AND revision = ?",
        (piece.first + len(piece.inputs), embedder, *key),
    )


def take(
    connection: Connection, piece: Piece, vectors: NDArray[np.float32]
) -> tuple[ParsedDocument, SplitResult, NDArray[np.float32]]:
    """Take a document off the stage, with the last of its vectors.

    Returns:
        the parsed document, its chunks in order, and their vectors, float32 ``[chunks, dimension]``.
    """
    key = (piece.upload.document_id, piece.revision)
    row = connection.execute("SELECT parsed, note FROM staged WHERE document_id = ? AND revision = ?", key).fetchone()
    parsed = document_from_bytes(row["parsed"])
    rows = connection.execute(
        "SELECT position, chunk FROM staged_chunks WHERE document_id = ? AND revision = ? ORDER BY rank", key
    ).fetchall()
    earlier = connection.execute(
        "SELECT vectors FROM staged_vectors WHERE document_id = ? AND revision = ? AND rank < ? ORDER BY rank",
        (*key, piece.first),
    )
    ranked = np.frombuffer(b"".join(r["vectors"] for r in earlier), dtype=_VECTOR_TYPE)
    ranked = np.concatenate([ranked.reshape(-1, vectors.shape[1]), vectors])  # [chunks, d], longest first
    ordered = np.empty_like(ranked)
    ordered[[r["position"] for r in rows]] = ranked
    chunks = [Chunk(**json.loads(r["chunk"])) for r in sorted(rows, key=lambda r: int(r["position"]))]
    discard(connection, *key)
    return parsed, SplitResult(chunks, row["note"]), ordered


def discard(connection: Connection, document_id: str, revision: int) -> None:
    """Forget what is staged of a revision."""
    connection.execute("DELETE FROM staged WHERE document_id = ? AND revision = ?", (document_id, revision))


def _staged(connection: Connection, upload: Upload) -> Row | None:
    revision = pending_revision(connection, upload)
    if revision is None:
        return None
    found: Row | None = connection.execute(
        "SELECT revision, chunks, embedded, embedder FROM staged WHERE document_id = ? AND revision = ?",
        (upload.document_id, revision),
    ).fetchone()
    return found
