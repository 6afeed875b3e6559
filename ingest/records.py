"""What goes into a corpus and what comes out of it, as plain data.

Knows no storage and no model. Offsets are half-open and count Unicode code points of the document's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from ingest.parsing.document import ParsedDocument
from ingest.splitting import Method, SplitConfig

Status = Literal["pending", "ready", "failed"]
DEFAULT_COLLECTION = "default"


class Parser(Protocol):
    """Whatever turns a file into text: ``ParserProcess`` in the service."""

    def parse(self, name: str, content: bytes) -> ParsedDocument:
        """The text of a file; raises ``UnreadableDocument``."""


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to add.

    Attributes:
        title: what it is called; ``None`` takes the file's own title, or else its name.
        name: the file's name.
        content: the file, or the text as UTF-8.
        metadata: a JSON object to filter by.
        collection: groups documents inside a tenant.
        is_text: ``content`` is text and is kept exactly as given; otherwise it is a file to be parsed.
        split: how to split it; ``None`` takes the corpus' default.
        refused: why it is known beforehand that the file cannot be read; it is stored as failed.
    """

    title: str | None
    name: str
    content: bytes
    metadata: Mapping[str, Any] = field(default_factory=dict)
    collection: str = DEFAULT_COLLECTION
    is_text: bool = False
    split: SplitConfig | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class AddedDocument:
    """What became of an added document. ``duplicate``: the same content was there, and ``id`` is the existing one."""

    id: str
    title: str
    status: Status
    duplicate: bool


class Upload(NamedTuple):
    """Content that waits to be processed: a document as it was first sent, or what is to replace it."""

    document_id: str
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Replacement:
    """New content of a document that is not its content yet: it waits, or it failed for the reason in ``error``."""

    status: Literal["pending", "failed"]
    title: str
    error: str | None
    created_at: str


@dataclass(frozen=True, slots=True)
class ReplacedDocument:
    """What became of a replacement.

    Attributes:
        title: the document's, once replaced.
        status: the document's own: the present content goes on answering while the new one is prepared.
        duplicate: the content is there already, or is on its way.
        replaces: there is something to process under ``Upload(id, replaces=True)``.
        is_new: it was not on its way before; whatever was, no longer is.
    """

    id: str
    title: str
    status: Status
    duplicate: bool
    replaces: bool
    is_new: bool


@dataclass(frozen=True, slots=True)
class DocumentSplit:
    """How a document is split. ``note``: what did not go as the method means it."""

    method: Method
    size: int
    overlap: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """A document as it is stored, without its text.

    Attributes:
        split: ``None`` for a document of before this was noted.
        error: why it failed; ``None`` otherwise.
        created_at, updated_at: ISO 8601 in UTC.
    """

    id: str
    collection: str
    title: str
    name: str
    media_type: str | None
    metadata: dict[str, Any]
    sha256: str
    bytes: int
    characters: int
    chunks: int
    pages: int
    status: Status
    error: str | None
    created_at: str
    updated_at: str
    split: DocumentSplit | None


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as it is indexed; ``text`` is the document's ``text[start:end]``."""

    id: str
    document_id: str
    position: int
    start: int
    end: int
    page: int | None
    section: str | None
    text: str


@dataclass(frozen=True, slots=True)
class PassageScores:
    """What each stage thought of a passage; ``None`` where it did not see it.

    Attributes:
        dense: inner product of unit vectors, from -1 to 1.
        keyword: BM25, above 0; ``None`` too where no word is shared.
        fused: of the two, from 0 to 1.
        rerank: probability that the passage answers, from 0 to 1.
    """

    dense: float | None = None
    keyword: float | None = None
    fused: float | None = None
    rerank: float | None = None


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A chunk as a search finds it, with its neighbours where they were asked for.

    Attributes:
        position: of the chunk in its document, from 0.
        score: the last stage's: larger is better, comparable only within one search.
    """

    chunk_id: str
    document_id: str
    position: int
    title: str
    text: str
    score: float
    page: int | None
    section: str | None
    start: int
    end: int
    scores: PassageScores = PassageScores()


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a corpus holds; ``bytes`` are those of the originals."""

    documents: int
    pending: int
    ready: int
    failed: int
    chunks: int
    bytes: int
