"""How parent and child of an isolated parser talk: length-prefixed frames over pipes.

JSON and raw bytes, no pickle: the child reads hostile files, so what it answers is data and never code.
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any

from ingest.parsing.document import Heading, Page, ParsedDocument
from ingest.parsing.pdf_page import PageImage

_LENGTH = struct.Struct("<Q")
_PAGE = struct.Struct("<I?")  # how many pages there are, whether the quote was found


def write_frame(stream: IO[bytes], payload: bytes) -> None:
    """Write one frame and flush.

    Raises:
        OSError: the other side is gone.
    """
    stream.write(_LENGTH.pack(len(payload)))
    stream.write(payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes:
    """The next frame.

    Raises:
        EOFError: the other side closed the pipe, or broke off inside a frame.
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return _exactly(stream, length)


def document_to_bytes(document: ParsedDocument) -> bytes:
    """A parsed document as JSON."""
    return json.dumps(
        {
            "text": document.text,
            "media_type": document.media_type,
            "pages": [[page.number, page.start, page.end] for page in document.pages],
            "headings": [[heading.start, heading.level, heading.title] for heading in document.headings],
            "title": document.title,
        },
        ensure_ascii=True,
    ).encode("ascii")


def document_from_bytes(payload: bytes) -> ParsedDocument:
    """A parsed document from the JSON of ``document_to_bytes``.

    Raises:
        ValueError: the payload has another form.
    """
    try:
        fields: dict[str, Any] = json.loads(payload)
        return ParsedDocument(
            text=str(fields["text"]),
            media_type=str(fields["media_type"]),
            pages=tuple(Page(int(number), int(start), int(end)) for number, start, end in fields["pages"]),
            headings=tuple(Heading(int(start), int(level), str(title)) for start, level, title in fields["headings"]),
            title=None if fields["title"] is None else str(fields["title"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError("not a parsed document") from error


def page_to_bytes(page: PageImage) -> bytes:
    """A page's image behind what is known of it."""
    return _PAGE.pack(page.pages, page.marked) + page.png


def page_from_bytes(payload: bytes) -> PageImage:
    """A page's image from the bytes of ``page_to_bytes``.

    Raises:
        ValueError: the payload has another form.
    """
    if len(payload) < _PAGE.size:
        raise ValueError("not a page's image")
    pages, marked = _PAGE.unpack_from(payload)
    return PageImage(payload[_PAGE.size :], pages, marked)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    payload = stream.read(length)
    if len(payload) < length:
        raise EOFError
    return payload
