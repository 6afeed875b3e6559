"""From bytes to passages: parsing, splitting, embedding and search over one tenant's documents.

The names below are the package's whole interface. They are loaded when first used, so that the child process that
parses files (and imports this package on its way) loads no numpy, faiss or torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.archives import ArchiveLimits, expand_archives
    from ingest.corpus import Corpus
    from ingest.cross_encoder import CrossEncoderReranker
    from ingest.database import STORAGE_ERRORS, Connection, Cursor, Database, Migration, Row, SqliteDatabase
    from ingest.embedding import Embedder, SentenceTransformerEmbedder, embedded_text, foreign_script
    from ingest.errors import (
        CompletionFailed,
        CompletionTooLong,
        DamagedData,
        DatabaseClosed,
        DatabaseFull,
        DatabaseInUse,
        DatabaseUnavailable,
        DocumentNotReady,
        EmbedderUnavailable,
        IncompatibleDatabase,
        IndexMismatch,
        IngestError,
        InvalidDocument,
        InvalidFilter,
        LeaseLost,
        NothingToRetry,
        RerankerUnavailable,
        SameContentElsewhere,
        SplitUnavailable,
        UnknownDocument,
        UnreadableDocument,
    )
    from ingest.filters import compile_filter
    from ingest.live_index import IndexOptions
    from ingest.openvino_embedder import Backend, OpenVINOEmbedder, make_embedder
    from ingest.openvino_encoder import openvino_hidden_states, openvino_is_there
    from ingest.parsing import Heading, Page, PageImage, ParsedDocument, ParseLimits, ParserProcess, parse
    from ingest.records import (
        AddedDocument,
        Counts,
        DocumentRecord,
        DocumentSplit,
        FoundPassage,
        NewDocument,
        Parser,
        PassageScores,
        ReplacedDocument,
        Replacement,
        StoredChunk,
        Upload,
    )
    from ingest.reembedding import reembed
    from ingest.retrieval import Reranker, RetrievalOptions
    from ingest.schema import DOCUMENT_MIGRATIONS
    from ingest.sentences import sentences
    from ingest.splitting import METHODS, Chunk, Complete, Method, SplitConfig, SplitResult, split
    from ingest.vector_store import embedder_of_vectors

_HOMES = {
    "ingest.archives": ("ArchiveLimits", "expand_archives"),
    "ingest.corpus": ("Corpus",),
    "ingest.cross_encoder": ("CrossEncoderReranker",),
    "ingest.database": ("Connection", "Cursor", "Database", "Migration", "Row", "STORAGE_ERRORS", "SqliteDatabase"),
    "ingest.embedding": ("Embedder", "SentenceTransformerEmbedder", "embedded_text", "foreign_script"),
    "ingest.errors": (
        "CompletionFailed",
        "CompletionTooLong",
        "DamagedData",
        "DatabaseClosed",
        "DatabaseFull",
        "DatabaseInUse",
        "DatabaseUnavailable",
        "DocumentNotReady",
        "EmbedderUnavailable",
        "IncompatibleDatabase",
        "IndexMismatch",
        "IngestError",
        "InvalidDocument",
        "InvalidFilter",
        "LeaseLost",
        "RerankerUnavailable",
        "SplitUnavailable",
        "NothingToRetry",
        "SameContentElsewhere",
        "UnknownDocument",
        "UnsuitableDatabase",
        "UnreadableDocument",
    ),
    "ingest.filters": ("compile_filter",),
    "ingest.live_index": ("IndexOptions",),
    "ingest.reembedding": ("reembed",),
    "ingest.vector_store": ("embedder_of_vectors",),
    "ingest.openvino_embedder": ("Backend", "OpenVINOEmbedder", "make_embedder"),
    "ingest.openvino_encoder": ("openvino_hidden_states", "openvino_is_there"),
    "ingest.parsing": ("Heading", "Page", "PageImage", "ParseLimits", "ParsedDocument", "ParserProcess", "parse"),
    "ingest.records": (
        "AddedDocument",
        "Counts",
        "DocumentRecord",
        "DocumentSplit",
        "FoundPassage",
        "NewDocument",
        "Parser",
        "PassageScores",
        "ReplacedDocument",
        "Replacement",
        "StoredChunk",
        "Upload",
    ),
    "ingest.retrieval": ("Reranker", "RetrievalOptions"),
    "ingest.schema": ("DOCUMENT_MIGRATIONS",),
    "ingest.sentences": ("sentences",),
    "ingest.splitting": ("METHODS", "Chunk", "Complete", "Method", "SplitConfig", "SplitResult", "split"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "DOCUMENT_MIGRATIONS",
    "METHODS",
    "STORAGE_ERRORS",
    "AddedDocument",
    "ArchiveLimits",
    "Backend",
    "Chunk",
    "Complete",
    "CompletionFailed",
    "CompletionTooLong",
    "Connection",
    "Corpus",
    "Counts",
    "CrossEncoderReranker",
    "Cursor",
    "DamagedData",
    "Database",
    "DatabaseClosed",
    "DatabaseFull",
    "DatabaseInUse",
    "DatabaseUnavailable",
    "DocumentNotReady",
    "DocumentRecord",
    "DocumentSplit",
    "Embedder",
    "EmbedderUnavailable",
    "FoundPassage",
    "Heading",
    "IncompatibleDatabase",
    "IndexMismatch",
    "IndexOptions",
    "IngestError",
    "InvalidDocument",
    "InvalidFilter",
    "LeaseLost",
    "Method",
    "Migration",
    "NewDocument",
    "NothingToRetry",
    "OpenVINOEmbedder",
    "Page",
    "PageImage",
    "ParseLimits",
    "ParsedDocument",
    "Parser",
    "ParserProcess",
    "PassageScores",
    "ReplacedDocument",
    "Replacement",
    "Reranker",
    "RerankerUnavailable",
    "RetrievalOptions",
    "Row",
    "SameContentElsewhere",
    "SentenceTransformerEmbedder",
    "SplitConfig",
    "SplitResult",
    "SplitUnavailable",
    "SqliteDatabase",
    "StoredChunk",
    "UnknownDocument",
    "UnreadableDocument",
    "UnsuitableDatabase",
    "Upload",
    "compile_filter",
    "embedded_text",
    "embedder_of_vectors",
    "expand_archives",
    "foreign_script",
    "make_embedder",
    "openvino_hidden_states",
    "openvino_is_there",
    "parse",
    "reembed",
    "sentences",
    "split",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
