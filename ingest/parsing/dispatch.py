"""From any file to a parsed document, in this process.

Knows which reader reads which format, and what every document must fulfil. A service calls it through
``ingest.parsing.isolated``, because the libraries below it meet hostile files.
"""

from __future__ import annotations

from ingest.errors import UnreadableDocument
from ingest.parsing.detection import DOCX, HTML, MARKDOWN, PDF, media_type
from ingest.parsing.document import ParsedDocument, ParseLimits

DEFAULT_LIMITS = ParseLimits()


def parse(name: str, content: bytes, limits: ParseLimits = DEFAULT_LIMITS) -> ParsedDocument:
    """The text and structure of a file.

    Args:
        name: the file's name; decides only where the content does not.
        content: the file.
        limits: what a file may ask for.

    Raises:
        UnreadableDocument: with a reason a person can act on.
    """
    kind = media_type(name, content)
    document = _read(kind, content, limits)
    if not document.text.strip():
        raise UnreadableDocument("the file holds no text")
    if len(document.text) > limits.characters:
        raise UnreadableDocument(f"the file holds more than {limits.characters} characters of text; split it")
    return document


def _read(kind: str, content: bytes, limits: ParseLimits) -> ParsedDocument:
    if kind == PDF:
        from ingest.parsing.pdf import parse_pdf

        return parse_pdf(content, limits)
    if kind == DOCX:
        from ingest.parsing.word import parse_docx

        return parse_docx(content, limits)
    if kind == HTML:
        from ingest.parsing.web import parse_html

        return parse_html(content)
    from ingest.parsing.plain import parse_markdown, parse_plain

    return parse_markdown(content) if kind == MARKDOWN else parse_plain(content)
