"""Splitting a parsed document into chunks, as offsets into its text: five methods, from the crudest to the dearest.

    character   fixed windows                                      needs nothing
    recursive   headings, paragraphs, sentences, words             needs nothing; the default
    document    sections, tables, functions and classes            needs structure to go by
    semantic    where the meaning turns between sentences          needs the embedder
    agentic     where a language model says that a topic begins    needs a language model

One module per method; what they share lies in ``chunks`` and ``recursive``. Models come in as functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.errors import SplitUnavailable
from ingest.parsing.document import ParsedDocument
from ingest.splitting.agentic import Complete, agentic_spans
from ingest.splitting.character import character_spans
from ingest.splitting.chunks import (
    LARGEST_SIZE,
    METHODS,
    SMALLEST_SIZE,
    Chunk,
    Method,
    Span,
    SplitConfig,
    place_of,
    placed,
)
from ingest.splitting.document import document_spans
from ingest.splitting.recursive import recursive_spans

if TYPE_CHECKING:
    from ingest.splitting.semantic import Encode

__all__ = [
    "LARGEST_SIZE",
    "METHODS",
    "SMALLEST_SIZE",
    "Chunk",
    "Complete",
    "Method",
    "SplitConfig",
    "SplitResult",
    "check_available",
    "place_of",
    "split",
]

NO_MODEL = (
    "agentic splitting needs a language model, and this service answers with the embedded reader, which writes no "
    "text: set LOREBASE_MODEL to a causal language model, or choose another method"
)


@dataclass(frozen=True, slots=True)
class SplitResult:
    """A document's chunks, in order.

    Attributes:
        note: what did not go as the method means it; ``None`` where all did.
    """

    chunks: list[Chunk]
    note: str | None = None


def check_available(config: SplitConfig, complete: Complete | None) -> None:
    """Raises SplitUnavailable where the method needs a language model and there is none."""
    if config.method == "agentic" and complete is None:
        raise SplitUnavailable(NO_MODEL)


def split(
    document: ParsedDocument,
    config: SplitConfig,
    encode: Encode | None = None,
    complete: Complete | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SplitResult | None:
    """Split a document by ``config.method``; ``None`` when asked to stop.

    By every method each character that is not white space lies in at least one chunk, no chunk is blank or longer than
    ``config.size``, starts and ends both increase, and the same document gives the same chunks (by ``agentic``, as far
    as the model answers alike).

    Args:
        encode: for ``semantic``.
        complete: for ``agentic``.
        should_stop: asked between calls of a model.

    Raises:
        SplitUnavailable: the method needs a model that is not given.
    """
    spans: list[Span] | None
    note: str | None = None
    match config.method:
        case "character":
            spans = character_spans(document.text, config)
        case "recursive":
            spans = recursive_spans(document.text, document.headings, config)
        case "document":
            spans = document_spans(document, config)
        case "semantic":
            if encode is None:
                raise SplitUnavailable("semantic splitting needs an embedding model")
            from ingest.splitting.semantic import semantic_spans  # numpy, which nothing else here needs

            spans = semantic_spans(document, config, encode, should_stop)
        case "agentic":
            if complete is None:
                raise SplitUnavailable(NO_MODEL)
            found = agentic_spans(document, config, complete, should_stop)
            spans = found[0] if found else None
            if found and found[2]:
                note = (
                    f"{found[2]} of {found[1]} parts were split recursively, because the model's answer could not be "
                    "used"
                )
    return None if spans is None else SplitResult(placed(document, spans), note)
