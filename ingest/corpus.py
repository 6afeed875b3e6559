"""One tenant's documents: added, read, split, embedded, found and deleted.

SQLite is the truth; the index in memory is derived from it, built when first needed and thrown away at will. Knows
its parts (parser, splitter, embedder, rows, index) and the order in which they meet. Knows no tenant, job or HTTP.

Two rules keep searches right while documents come and go. A document's vectors enter the index only after its rows
are committed, and only if they still are; its rows leave before its vectors do. And every passage found is joined with
its row before it is answered, so that what the index still holds of a deleted document is never seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ingest import document_store as store
from ingest import replacements, split_store, staging, vector_store
from ingest.database import Connection, Database
from ingest.dense_search import dense_search
from ingest.embedding import Embedder, embedded_text
from ingest.errors import (
    DocumentNotReady,
    IndexMismatch,
    SameContentElsewhere,
    SplitUnavailable,
    UnreadableDocument,
)
from ingest.filters import compile_filter
from ingest.live_index import MISMATCH, IndexOptions
from ingest.parsing.detection import MARKDOWN, PLAIN
from ingest.parsing.document import ParsedDocument
from ingest.parsing.plain import markdown_headings
from ingest.records import (
    AddedDocument,
    Counts,
    DocumentRecord,
    FoundPassage,
    NewDocument,
    Parser,
    ReplacedDocument,
    Replacement,
    StoredChunk,
    Upload,
)
from ingest.retrieval import DEFAULT_RETRIEVAL, Reranker, RetrievalOptions, Retriever
from ingest.splitting import Complete, SplitConfig, SplitResult, check_available, split

DEFAULT_SPLIT = SplitConfig()
DEFAULT_INDEX = IndexOptions()
Outcome = Literal["staged", "ready", "failed", "stopped", "gone"]
"""``staged``: read, goes on with `Corpus.embed`; ``failed``: the document says why; ``stopped``: waits on, as asked to;
``gone``: deleted, replaced or cancelled meanwhile, or never there."""
_PORTION = 64  # chunks between two commits; other tenants get their turn after each
_EMBED_AT_ONCE = 32  # between two looks at should_stop, and for as long as a question waits for the embedder


@dataclass(frozen=True, slots=True)
class _Read:
    """A document parsed and split, not yet embedded."""

    revision: int
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
        self._index = dense_search(database, embedder, index)
        self._retriever = Retriever(database, embedder, self._index, reranker)

    def add(self, connection: Connection, document: NewDocument) -> AddedDocument:
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

    def replace(self, connection: Connection, document_id: str, new: NewDocument) -> ReplacedDocument:
        """Keep new content for a document, inside the caller's write transaction; it answers as before until the new
        content is processed as ``Upload(document_id, replaces=True)``.

        Raises:
            UnknownDocument, InvalidDocument, SplitUnavailable
            SameContentElsewhere: another document of the collection has this content.
        """
        fallback = split_store.split_of(connection, document_id) or split_store.default_split(connection) or self._split
        check_available(new.split or fallback, self._complete_text)
        return replacements.put(connection, document_id, new, fallback)

    def replacements(self, document_ids: Sequence[str]) -> dict[str, Replacement]:
        """New content that waits or failed, by the id of its document; most documents have none."""
        with self._database.read() as connection:
            return replacements.of(connection, document_ids)

    def reopen(self, connection: Connection, upload: Upload) -> bool:
        """Let what failed wait again, inside the caller's write transaction; false when it did not fail."""
        reopen = replacements.reopen if upload.replaces else store.reopen
        return reopen(connection, upload.document_id)

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
        """Read and embed pending documents to their end, see `read` and `embed`."""
        outcomes = self.read([Upload(document_id) for document_id in document_ids], parser, should_stop)
        while staged := [upload for upload, outcome in outcomes.items() if outcome == "staged"]:
            outcomes |= self.embed(staged, should_stop, on_progress)
        return {upload.document_id: outcome for upload, outcome in outcomes.items()}

    def staged(self, uploads: Sequence[Upload]) -> list[bool]:
        """Of each upload, whether it is read and waits to be embedded."""
        with self._database.read() as connection:
            return [staging.is_staged(connection, upload) for upload in uploads]

    def read(
        self, uploads: Sequence[Upload], parser: Parser, should_stop: Callable[[], bool] = lambda: False
    ) -> dict[Upload, Outcome]:
        """Parse and split what waits, and keep the result, so that it need not be done again.

        Args:
            parser: reads files; text given as text needs none.
            should_stop: asked between documents.

        Raises:
            IndexMismatch: the stored vectors were made by another embedder.
        """
        with self._database.read() as connection:
            self._check_embedder(connection)
        outcomes: dict[Upload, Outcome] = {}
        read: dict[Upload, _Read] = {}
        for upload in uploads:
            found = "stopped" if should_stop() else self._read(upload, parser, should_stop)
            if isinstance(found, _Read):
                read[upload] = found
            else:
                outcomes[upload] = found
        if read:
            with self._database.write() as connection:
                for upload, each in read.items():
                    inputs = [embedded_text(each.title, each.parsed.text[c.start : c.end]) for c in each.split.chunks]
                    kept = staging.stage(connection, upload, each.revision, each.parsed, each.split, inputs)
                    outcomes[upload] = "staged" if kept else "gone"
        return outcomes

    def embed(
        self,
        uploads: Sequence[Upload],
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[Upload, Outcome]:
        """Embed the next portion of what was read, and keep it; whatever it completes is searchable from then on.

        Args:
            uploads: in the order they are wanted: the first ones as a whole, or a part of the first.
            should_stop: asked between batches.
            on_progress: told how many chunks of how many are embedded, of all the uploads.

        Returns:
            an outcome for each upload; ``staged`` for those that are not complete yet.

        Raises:
            IndexMismatch: the stored vectors were made by another embedder.
            EmbedderUnavailable: the embedding model cannot be loaded; everything waits on.
        """
        fingerprint = self._embedder.fingerprint
        outcomes: dict[Upload, Outcome] = dict.fromkeys(uploads, "staged")
        with self._database.read() as connection:
            self._check_embedder(connection)
            outcomes |= {u: "gone" for u in uploads if not staging.is_staged(connection, u)}
            pieces = staging.portion(connection, uploads, fingerprint, _PORTION)
            before, total = staging.progress(connection, uploads, fingerprint)
        on_progress(before, total)
        inputs = [text for piece in pieces for text in piece.inputs]
        vectors = self._embed(inputs, should_stop, lambda done: on_progress(before + done, total))
        if vectors is None:
            return outcomes | {piece.upload: "stopped" for piece in pieces}
        ends = np.cumsum([len(piece.inputs) for piece in pieces])  # [pieces]
        return outcomes | self._keep(pieces, np.split(vectors, ends[:-1]) if pieces else [], fingerprint)

    def _read(self, upload: Upload, parser: Parser, should_stop: Callable[[], bool]) -> _Read | Outcome:
        """What waits, parsed and split; or what became of it."""
        with self._database.read() as connection:
            original = (replacements if upload.replaces else store).original(connection, upload.document_id)
            if original is None:
                return "gone"
            revision = staging.pending_revision(connection, upload)
            staged = staging.is_staged(connection, upload)
        if revision is None or staged:
            return "staged" if staged else "ready" if original.status == "ready" else "failed"
        try:
            if original.is_text:
                parsed = _given_text(original.name, original.content)
            else:
                parsed = parser.parse(original.name, original.content)
            done = split(parsed, original.split or self._split, self._encode_and_rest, self._complete_text, should_stop)
        except (UnreadableDocument, SplitUnavailable) as error:
            return "failed" if self._fail(upload, str(error), revision) else "gone"
        return "stopped" if done is None else _Read(revision, original.title or parsed.title, parsed, done)

    def _keep(
        self, pieces: Sequence[staging.Piece], vectors: Sequence[NDArray[np.float32]], fingerprint: str
    ) -> dict[Upload, Outcome]:
        """Commit the vectors of a portion, float32 ``[n, dimension]`` for each piece, and complete what is whole."""
        outcomes: dict[Upload, Outcome] = {}
        completed: list[tuple[Upload, NDArray[np.int64], NDArray[np.float32]]] = []
        with ExitStack() as until_published:
            switch = None
            with self._database.write() as connection:
                self._check_embedder(connection)
                for piece, own in zip(pieces, vectors, strict=True):
                    upload = piece.upload
                    if staging.pending_revision(connection, upload) != piece.revision:
                        outcomes[upload] = "gone"  # deleted, replaced or cancelled meanwhile
                    elif not piece.is_last:
                        staging.add_vectors(connection, piece, own, fingerprint)
                        outcomes[upload] = "staged"
                    else:
                        outcomes[upload], numbered = _complete(connection, piece, own)
                        completed += [(upload, *numbered)] if numbered is not None else []
                if completed:
                    vector_store.note_embedder(connection, fingerprint)
                if any(upload.replaces for upload, _, _ in completed):  # no search may look in between
                    switch = until_published.enter_context(self._index.switching())
            for (document_id, replaces), numbers, own in completed:
                if replaces and switch is not None:
                    switch(document_id, numbers, own)
        for (document_id, replaces), numbers, own in completed:
            if not replaces:
                self._index.publish(document_id, numbers, own, present=partial(self._is_ready, document_id))
        return outcomes

    def give_up(self, upload: Upload, reason: str) -> None:
        """Fail what still waits, saying why; anything else stays as it is."""
        self._fail(upload, reason, None)

    def _fail(self, upload: Upload, reason: str, revision: int | None) -> bool:
        with self._database.write() as connection:
            if revision is not None and staging.pending_revision(connection, upload) != revision:
                return False
            fail = replacements.fail if upload.replaces else store.fail
            return fail(connection, upload.document_id, reason)

    def delete_all(
        self,
        document_ids: Sequence[str] | None = None,
        filter: Mapping[str, Any] | None = None,
        collection: str | None = None,
        status: str | None = None,
    ) -> list[str]:
        """Remove many documents in one transaction; once this returns no search finds them.

        Args:
            document_ids: these; ids of documents that are not there are passed over. ``None`` for any.
            filter, collection, status: only those that satisfy all that are given; ``None`` for any.

        Returns:
            ids of the documents that were removed.

        Raises:
            InvalidFilter: the filter is malformed.
        """
        predicate = compile_filter(filter)
        with self._database.write() as connection:
            found = store.select(connection, document_ids, predicate, collection, status)
            for document_id in found:
                store.delete(connection, document_id)
        for document_id in found:
            self._index.remove(document_id)
        return found

    def discard(self, connection: Connection, uploads: Iterable[Upload]) -> None:
        """Forget those of the uploads that still wait, inside the caller's write transaction: a document that was
        never ready is removed, one that was to be replaced stays as it is."""
        for upload in uploads:
            if staging.pending_revision(connection, upload) is None:
                continue
            if upload.replaces:
                replacements.discard(connection, upload.document_id)
            else:
                store.discard_pending(connection, [upload.document_id])

    def fail(self, connection: Connection, document_id: str, reason: str) -> None:
        """As `give_up` for a document that was never ready, inside the caller's write transaction."""
        store.fail(connection, document_id, reason)

    def documents(
        self,
        limit: int = 100,
        offset: int = 0,
        collection: str | None = None,
        status: str | None = None,
        title: str | None = None,
        within: Collection[str] | None = None,
    ) -> tuple[list[DocumentRecord], int]:
        """A page of the documents, the newest first, and how many there are in all.

        Args:
            title: a part of theirs.
            within: the only collections to look at; None for all.
        """
        with self._database.read() as connection:
            return store.documents(connection, limit, offset, collection, status, title, within)

    def held(self, connection: Connection) -> tuple[int, int]:
        """How many documents there are and the bytes of their originals, as they will be once what waits has taken its
        place; inside the caller's transaction."""
        return store.held(connection)

    def collections(self, document_ids: Sequence[str]) -> set[str]:
        """The collections that documents lie in; those that are not there are passed over."""
        with self._database.read() as connection:
            return store.collections(connection, document_ids)

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

    def original(self, document_id: str) -> bytes:
        """A document as it was sent.

        Raises:
            UnknownDocument: it is not there.
        """
        with self._database.read() as connection:
            found = store.original(connection, document_id)
            if found is None:
                store.document(connection, document_id)  # says that it is unknown
                raise DocumentNotReady("the document's original is gone")
        return found.content

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
        self, inputs: Sequence[str], should_stop: Callable[[], bool], on_progress: Callable[[int], None]
    ) -> NDArray[np.float32] | None:
        """Vectors float32 ``[len(inputs), dimension]``; ``None`` when asked to stop."""
        vectors = np.empty((len(inputs), self._embedder.dimension), dtype=np.float32)  # [n, d]
        # Longest first over all of them, so that each batch pads as little as one large call would.
        order = sorted(range(len(inputs)), key=lambda index: -len(inputs[index]))
        for first in range(0, len(order), _EMBED_AT_ONCE):
            if should_stop():
                return None
            batch = order[first : first + _EMBED_AT_ONCE]
            vectors[batch] = self._encode_and_rest([inputs[index] for index in batch])
            on_progress(first + len(batch))
        return vectors

    def _encode_and_rest(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of ``texts``, float32 ``[len(texts), dimension]``."""
        vectors = self._embedder.encode(texts)
        time.sleep(0.001)  # locks are not fair: without a rest a question would wait for the whole document
        return vectors

    def _is_ready(self, document_id: str) -> bool:
        with self._database.read() as connection:
            return store.is_ready(connection, document_id)

    def _check_embedder(self, connection: Connection) -> None:
        stored = vector_store.embedder_of_vectors(connection)
        if stored is not None and stored != self._embedder.fingerprint:
            raise IndexMismatch(MISMATCH)


def _complete(
    connection: Connection, piece: staging.Piece, vectors: NDArray[np.float32]
) -> tuple[Outcome, tuple[NDArray[np.int64], NDArray[np.float32]] | None]:
    """Make a document whose last chunks are embedded the one that is searched; its numbers and vectors."""
    document_id = piece.upload.document_id
    parsed, done, ordered = staging.take(connection, piece, vectors)
    if piece.upload.replaces:
        try:
            replacements.switch(connection, document_id)
        except SameContentElsewhere as error:
            replacements.fail(connection, document_id, str(error))
            return "failed", None
    numbers = store.complete(connection, document_id, parsed, done.chunks, ordered)
    if numbers is not None and done.note is not None:
        split_store.note_split(connection, document_id, done.note)
    return ("ready", (numbers, ordered)) if numbers is not None else ("gone", None)


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
