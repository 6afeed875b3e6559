"""One tenant's documents: added, read, split, embedded, found and deleted.

SQLite is the truth; the index in memory is derived from it, built when first needed and thrown away at will. Knows
its parts (parser, splitter, embedder, rows, index) and the order in which they meet. Knows no tenant, job or HTTP.

Two rules keep searches right while documents come and go. A document's vectors enter the index only after its rows
are committed, and only if they still are; its rows leave before its vectors do. And every passage found is joined with
its row before it is answered, so that what the index still holds of a deleted document is never seen.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ingest import document_store as store
from ingest import split_store, vector_store
from ingest.database import Database
from ingest.embedding import Embedder, embedded_text
from ingest.errors import DocumentNotReady, IndexMismatch, SplitUnavailable, UnreadableDocument
from ingest.live_index import MISMATCH, IndexOptions, LiveIndex
from ingest.parsing.detection import MARKDOWN, PLAIN
from ingest.parsing.document import ParsedDocument
from ingest.parsing.plain import markdown_headings
from ingest.records import AddedDocument, Counts, DocumentRecord, FoundPassage, NewDocument, Parser, StoredChunk
from ingest.retrieval import DEFAULT_RETRIEVAL, Reranker, RetrievalOptions, Retriever
from ingest.splitting import Complete, SplitConfig, SplitResult, check_available, split

DEFAULT_SPLIT = SplitConfig()
DEFAULT_INDEX = IndexOptions()
Outcome = Literal["ready", "failed", "stopped"]
_EMBED_AT_ONCE = 32  # between two looks at should_stop, and for as long as a question waits for the embedder


@dataclass(frozen=True, slots=True)
class _Read:
    """A document parsed and split, not yet embedded."""

    title: str | None
    parsed: ParsedDocument
    split: SplitResult


class Corpus:
    """The documents of one tenant. Safe to use from any thread.

    Args:
        database: a database with ``DOCUMENT_MIGRATIONS``; stays open when the corpus is no longer used.
        embedder: makes the vectors of chunks and queries.
        split: how documents are split that bring nothing of their own, while ``set_default_split`` was not called.
        complete: a language model, for agentic splitting; ``None`` where there is none.
        index: how its vector index lives.
        reranker: reads query and passage together; ``None`` when there is none.
    """

    def __init__(
        self,
        database: Database,
        embedder: Embedder,
        split: SplitConfig = DEFAULT_SPLIT,
        complete: Complete | None = None,
        index: IndexOptions = DEFAULT_INDEX,
        reranker: Reranker | None = None,
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._split = split
        self._complete_text = complete
        self._index = LiveIndex(database, embedder, index)
        self._retriever = Retriever(database, embedder, self._index.search, reranker)

    def add(self, connection: sqlite3.Connection, document: NewDocument) -> AddedDocument:
        """Add a document as pending, inside the caller's write transaction.

        The same content again in its collection is the existing document (``duplicate``); if that had failed, it is
        pending again, with the new title, name, metadata and way of splitting.

        Raises:
            InvalidDocument: title, name, collection or metadata cannot be stored.
            SplitUnavailable: it is to be split by a model that is not there.
        """
        chosen = document.split or split_store.default_split(connection) or self._split
        check_available(chosen, self._complete_text)
        return store.insert(connection, document, chosen)

    def default_split(self) -> SplitConfig:
        """How documents that bring nothing of their own are split."""
        with self._database.read() as connection:
            return split_store.default_split(connection) or self._split

    def set_default_split(self, chosen: SplitConfig) -> None:
        """Set how documents that bring nothing of their own are split, from the next one on; those there stay.

        Raises:
            SplitUnavailable: it needs a model that is not there.
        """
        check_available(chosen, self._complete_text)
        with self._database.write() as connection:
            split_store.set_default_split(connection, chosen)

    def process(
        self,
        document_id: str,
        parser: Parser,
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Outcome:
        """`process_many` for one document."""
        return self.process_many([document_id], parser, should_stop, on_progress)[document_id]

    def process_many(
        self,
        document_ids: Sequence[str],
        parser: Parser,
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Outcome]:
        """Parse and split pending documents, embed their chunks together, make them searchable in one transaction.

        Args:
            document_ids: the documents; one that is ready already stays as it is.
            parser: reads files; text given as text needs none.
            should_stop: asked between steps.
            on_progress: told how many chunks of how many are embedded.

        Returns:
            For each document ``ready``; ``failed``, with the reason in the document's ``error``; or ``stopped`` when
            asked to stop (the document is still pending), or when it is not there or was deleted meanwhile.

        Raises:
            IndexMismatch: the stored vectors were made by another embedder.
            EmbedderUnavailable: the embedding model cannot be loaded; the documents stay pending.
        """
        with self._database.read() as connection:
            self._check_embedder(connection)
        outcomes: dict[str, Outcome] = {}
        read: dict[str, _Read] = {}
        for document_id in document_ids:
            found = "stopped" if should_stop() else self._read(document_id, parser, should_stop)
            if isinstance(found, _Read):
                read[document_id] = found
            else:
                outcomes[document_id] = found
        vectors = self._embed(list(read.values()), should_stop, on_progress)
        if vectors is None:
            return outcomes | dict.fromkeys(read, "stopped")
        return outcomes | self._complete(read, vectors)

    def _read(self, document_id: str, parser: Parser, should_stop: Callable[[], bool]) -> _Read | Outcome:
        """A pending document, parsed and split; or what became of it."""
        with self._database.read() as connection:
            original = store.original(connection, document_id)
        if original is None:
            return "stopped"
        if original.status != "pending":
            return "ready" if original.status == "ready" else "failed"
        try:
            if original.is_text:
                parsed = _given_text(original.name, original.content)
            else:
                parsed = parser.parse(original.name, original.content)
            done = split(parsed, original.split or self._split, self._encode_and_rest, self._complete_text, should_stop)
        except (UnreadableDocument, SplitUnavailable) as error:
            with self._database.write() as connection:
                return "failed" if store.fail(connection, document_id, str(error)) else "stopped"
        return "stopped" if done is None else _Read(original.title or parsed.title, parsed, done)

    def _complete(self, read: Mapping[str, _Read], vectors: Sequence[NDArray[np.float32]]) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        completed: list[tuple[str, NDArray[np.int64], NDArray[np.float32]]] = []
        with self._database.write() as connection:
            self._check_embedder(connection)
            for (document_id, each), own in zip(read.items(), vectors, strict=True):
                numbers = store.complete(connection, document_id, each.parsed, each.split.chunks, own)
                if numbers is not None:
                    if each.split.note is not None:
                        split_store.note_split(connection, document_id, each.split.note)
                    completed.append((document_id, numbers, own))
                    outcomes[document_id] = "ready"
                else:  # deleted meanwhile, or done by another call
                    outcomes[document_id] = "ready" if store.is_ready(connection, document_id) else "stopped"
            if completed:
                vector_store.note_embedder(connection, self._embedder.fingerprint)
        for document_id, numbers, own in completed:
            self._index.publish(document_id, numbers, own, present=partial(self._is_ready, document_id))
        return outcomes

    def discard(self, connection: sqlite3.Connection, document_ids: Sequence[str]) -> None:
        """Remove those of the documents that are pending, inside the caller's write transaction."""
        store.discard_pending(connection, document_ids)

    def fail(self, document_id: str, reason: str) -> None:
        """Give up a document that is still pending, saying why; any other stays as it is."""
        with self._database.write() as connection:
            store.fail(connection, document_id, reason)

    def documents(
        self, limit: int = 100, offset: int = 0, collection: str | None = None, status: str | None = None
    ) -> tuple[list[DocumentRecord], int]:
        """A page of the documents, the newest first, and how many there are in all."""
        with self._database.read() as connection:
            return store.documents(connection, limit, offset, collection, status)

    def document(self, document_id: str) -> DocumentRecord:
        """One document.

        Raises:
            UnknownDocument: it is not there.
        """
        with self._database.read() as connection:
            return store.document(connection, document_id)

    def text(self, document_id: str) -> str:
        """The text that all offsets of a document refer to.

        Raises:
            UnknownDocument: it is not there.
            DocumentNotReady: it is pending, or failed.
        """
        with self._database.read() as connection:
            text = store.text(connection, document_id)
        if text is None:
            raise DocumentNotReady("the document has no text: it is still pending, or it failed")
        return text

    def place(self, document_id: str, start: int, end: int) -> tuple[int | None, str | None]:
        """Page and section of ``start:end`` in a document's text; ``None`` for what its format does not have."""
        with self._database.read() as connection:
            return store.place(connection, document_id, start, end)

    def chunks(self, document_id: str, limit: int = 100, offset: int = 0) -> tuple[list[StoredChunk], int]:
        """A page of a document's chunks in order, and how many there are in all; none while it is not ready.

        Raises:
            UnknownDocument: it is not there.
        """
        with self._database.read() as connection:
            return store.chunks(connection, document_id, limit, offset)

    def delete(self, document_id: str) -> None:
        """Remove a document; once this returns no search finds it.

        Raises:
            UnknownDocument: it is not there.
        """
        with self._database.write() as connection:
            store.delete(connection, document_id)
        self._index.remove(document_id)

    def counts(self) -> Counts:
        """How much the corpus holds."""
        with self._database.read() as connection:
            return store.counts(connection)

    def search(
        self,
        query: str,
        top_k: int,
        filter: Mapping[str, Any] | None = None,
        collection: str | None = None,
        options: RetrievalOptions = DEFAULT_RETRIEVAL,
    ) -> list[FoundPassage]:
        """The ``top_k`` best passages for ``query``, best first.

        Args:
            query: a question or some words.
            top_k: how many at most.
            filter: a metadata filter, see ``ingest.filters``; applied exactly.
            collection: search only in this one.
            options: which stages the query goes through.

        Raises:
            InvalidFilter: the filter is malformed.
            IndexMismatch: the stored vectors were made by another embedder.
            EmbedderUnavailable: the embedding model cannot be loaded.
            RerankerUnavailable: reranking is asked for, and there is no reranker.
        """
        return self._retriever.search(query, top_k, filter, collection, options)

    def release(self) -> None:
        """Free the index; the next search builds it again."""
        self._index.release()

    def close(self) -> None:
        """Stop what is under way on the index and save what is worth saving; the database stays open."""
        self._index.close()

    def index_bytes(self) -> int:
        """About how much memory the index holds; 0 while there is none."""
        return self._index.bytes

    def _embed(
        self,
        read: Sequence[_Read],
        should_stop: Callable[[], bool],
        on_progress: Callable[[int, int], None],
    ) -> list[NDArray[np.float32]] | None:
        """Vectors float32 ``[chunks, dimension]`` for each document; ``None`` when asked to stop."""
        inputs = [
            embedded_text(each.title, each.parsed.text[chunk.start : chunk.end])
            for each in read
            for chunk in each.split.chunks
        ]
        vectors = np.empty((len(inputs), self._embedder.dimension), dtype=np.float32)  # [n, d]
        # Longest first over all of them, so that each portion pads as little as one large call would.
        order = sorted(range(len(inputs)), key=lambda index: -len(inputs[index]))
        on_progress(0, len(inputs))
        for first in range(0, len(order), _EMBED_AT_ONCE):
            if should_stop():
                return None
            portion = order[first : first + _EMBED_AT_ONCE]
            vectors[portion] = self._encode_and_rest([inputs[index] for index in portion])
            on_progress(first + len(portion), len(inputs))
        ends = np.cumsum([len(each.split.chunks) for each in read])  # [documents]
        return np.split(vectors, ends[:-1]) if read else []

    def _encode_and_rest(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of ``texts``, float32 ``[len(texts), dimension]``."""
        vectors = self._embedder.encode(texts)
        time.sleep(0.001)  # locks are not fair: without a rest a question would wait for the whole document
        return vectors

    def _is_ready(self, document_id: str) -> bool:
        with self._database.read() as connection:
            return store.is_ready(connection, document_id)

    def _check_embedder(self, connection: sqlite3.Connection) -> None:
        stored = vector_store.embedder_of_vectors(connection)
        if stored is not None and stored != self._embedder.fingerprint:
            raise IndexMismatch(MISMATCH)


def _given_text(name: str, content: bytes) -> ParsedDocument:
    """Text that was given as text: not a character is changed."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableDocument("the text is not valid UTF-8") from error
    if "\x00" in text:
        raise UnreadableDocument("the text holds NUL characters: it looks like binary data")
    if not text.strip():
        raise UnreadableDocument("the document holds no text")
    if name.lower().endswith((".md", ".markdown")):
        return ParsedDocument(text=text, media_type=MARKDOWN, headings=tuple(markdown_headings(text)))
    return ParsedDocument(text=text, media_type=PLAIN)
