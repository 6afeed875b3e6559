"""From any file to a parsed document, in this process.

Knows which reader reads which format, and what every document must fulfil. A service calls it through
``ingest.parsing.isolated``, because the libraries below it meet hostile files.
"""

from __future__ import annotations

from pathlib import PurePath

from ingest.errors import UnreadableDocument
from ingest.parsing import detection as kinds
from ingest.parsing.document import DEFAULT_LIMITS, ParsedDocument, ParseLimits


def parse(name: str, content: bytes, limits: ParseLimits = DEFAULT_LIMITS) -> ParsedDocument:
    """The text and structure of a file.

    Args:
        name: the file's name; decides only where the content does not.
        content: the file.
        limits: what a file may ask for.

    Raises:
        UnreadableDocument: with a reason a person can act on.
    """
    image = kinds.image_type(content) if kinds.ocr_is_there() else None
    try:
        document = _read(image or kinds.media_type(name, content, limits), name, content, limits)
    except RecursionError as error:
        raise UnreadableDocument("the file is nested too deeply to be read") from error
    if not document.text.strip():
        raise UnreadableDocument("the file holds no text")
    if len(document.text) > limits.characters:
        raise UnreadableDocument(f"the file holds more than {limits.characters} characters of text; split it")
    return document


def _read(kind: str, name: str, content: bytes, limits: ParseLimits) -> ParsedDocument:  # noqa: PLR0911
    """Each reader is imported when its format is met, and with it the library it stands on."""
    match kind:
        case kinds.PDF:
            from ingest.parsing.pdf import parse_pdf

            return parse_pdf(content, limits)
        case kinds.DOCX:
            from ingest.parsing.word import parse_docx

            return parse_docx(content, limits)
        case kinds.PPTX:
            from ingest.parsing.presentation import parse_pptx

            return parse_pptx(content, limits)
        case kinds.XLSX:
            from ingest.parsing.spreadsheet import parse_xlsx

            return parse_xlsx(content, limits)
        case kinds.EPUB:
            from ingest.parsing.book import parse_epub

            return parse_epub(content, limits)
        case kinds.HTML:
            from ingest.parsing.web import parse_html

            return parse_html(content)
        case kinds.EMAIL:
            from ingest.parsing.mail import parse_mail

            return parse_mail(content)
        case "image/png" | "image/jpeg" | "image/tiff":
            from ingest.parsing.ocr import parse_image

            return parse_image(content, kind, limits)
        case kinds.ZIP:
            raise UnreadableDocument(
                "the file is a zip archive: send it to POST /ingest, which makes a document of each file in it"
            )
    return _read_text(kind, name, content, limits)


def _read_text(kind: str, name: str, content: bytes, limits: ParseLimits) -> ParsedDocument:
    """Formats that are plain text to a computer, told apart by what stands in them."""
    from ingest.parsing.delimited import find_delimiter, parse_delimited
    from ingest.parsing.plain import decode, parse_markdown, parse_plain
    from ingest.parsing.structured import looks_like_json, looks_like_json_lines, parse_json, parse_json_lines

    if kind == kinds.MARKDOWN:
        return parse_markdown(content)
    if kind.startswith(kinds.SOURCE):
        from ingest.parsing.source import parse_source

        return parse_source(content, kind)
    text = decode(content)
    if kind == kinds.JSON_LINES or looks_like_json_lines(text):
        return parse_json_lines(text, limits)
    if kind == kinds.JSON or looks_like_json(text):
        try:
            return parse_json(text, limits)
        except UnreadableDocument:
            # Its name says JSON, and it begins as JSON: then it is damaged. Otherwise it is text in brackets.
            if kind != kinds.PLAIN and text.lstrip("\ufeff \t\r\n")[:1] in {"{", "["}:
                raise
    unnamed = PurePath(name).suffix.lower() in {"", ".txt"}
    if kind in {kinds.CSV, kinds.TSV} or (unnamed and find_delimiter(text, strict=True)):
        return parse_delimited(content, limits)
    return parse_plain(content)
