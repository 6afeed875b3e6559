"""The package's interface is what it says, and importing it is cheap."""

from __future__ import annotations

import subprocess
import sys

import ingest

EXPECTED = {
    "AddedDocument", "ArchiveLimits", "Chunk", "Complete", "CompletionFailed", "CompletionTooLong", "Corpus",
    "Counts", "DOCUMENT_MIGRATIONS", "Database", "DatabaseClosed", "DocumentNotReady", "DocumentRecord",
    "DocumentSplit", "Embedder", "EmbedderUnavailable", "FoundPassage", "Heading", "IncompatibleDatabase",
    "IndexMismatch", "IndexOptions", "IngestError", "InvalidDocument", "InvalidFilter", "METHODS", "Method",
    "NewDocument", "NothingToRetry", "Page", "ParseLimits", "ParsedDocument", "Parser", "ParserProcess",
    "PassageScores", "ReplacedDocument", "Replacement", "Reranker", "RerankerUnavailable", "RetrievalOptions",
    "SameContentElsewhere", "SentenceTransformerEmbedder", "SplitConfig", "SplitResult", "SplitUnavailable",
    "StoredChunk", "UnknownDocument", "UnreadableDocument", "Upload", "compile_filter", "embedded_text",
    "embedder_of_vectors", "expand_archives", "foreign_script", "parse", "reembed", "sentences", "split",
}  # fmt: skip


def test_the_interface_is_what_it_says() -> None:
    assert set(ingest.__all__) == EXPECTED
    assert len(ingest.__all__) == len(EXPECTED)


def test_every_name_of_the_interface_is_there() -> None:
    for name in ingest.__all__:
        assert getattr(ingest, name)


def test_what_the_parsing_child_imports_loads_no_heavy_library() -> None:
    program = (
        "import sys, ingest, ingest.parsing.child; "
        "print(*{'torch', 'faiss', 'numpy', 'sentence_transformers', 'trafilatura', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
