"""What kind of file a sequence of bytes is: by its content first, by its name where the content leaves it open.

Knows signatures and names of formats; reads no format itself.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import PurePath

from ingest.errors import UnreadableDocument

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
HTML = "text/html"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"

SUPPORTED = "supported are PDF, DOCX, HTML, Markdown and plain text"

_HTML_START = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,2000}?-->\s*)*(?:<!doctype\s+html|<html[\s>])",
    re.IGNORECASE | re.DOTALL,
)
_BY_SUFFIX = {
    ".html": HTML, ".htm": HTML, ".xhtml": HTML, ".md": MARKDOWN, ".markdown": MARKDOWN, ".mdx": MARKDOWN,
}  # fmt: skip
_FOREIGN_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"RIFF", "a RIFF media file"),
    (b"{\\rtf", "an RTF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"\x7fELF", "a program"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
)
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_OFFICE = "EncryptedPackage".encode("utf-16-le")
_ZIP = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"


def media_type(name: str, content: bytes) -> str:
    """One of the supported media types.

    Raises:
        UnreadableDocument: the content is empty or of a format that is not supported; the message names it.
    """
    if not content.strip():
        raise UnreadableDocument("the file is empty")
    if b"%PDF-" in content[:1024]:
        return PDF
    if content.startswith((_ZIP, _EMPTY_ZIP)):
        return _zip_type(content)
    if content.startswith(_OLD_OFFICE):
        if _ENCRYPTED_OFFICE in content:
            raise UnreadableDocument("the Office file is password-protected; remove the password and upload it again")
        raise _unsupported("an Office file in the format of before 2007; save it as DOCX or PDF")
    for signature, kind in _FOREIGN_SIGNATURES:
        if content.startswith(signature):
            raise _unsupported(kind)
    if content[4:8] == b"ftyp":
        raise _unsupported("an MP4 media file")
    if _HTML_START.match(content[:4096]):
        return HTML
    return _BY_SUFFIX.get(PurePath(name).suffix.lower(), PLAIN)


def _zip_type(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
            if "word/document.xml" in names:
                return DOCX
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
                declared = archive.read("mimetype").decode("ascii", "replace").strip()
            else:
                declared = ""
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, NotImplementedError, EOFError) as error:
        raise UnreadableDocument(f"the file is a damaged zip archive or Office file ({error})") from error
    if any(name.startswith("ppt/") for name in names):
        raise _unsupported("a PowerPoint presentation (PPTX); save it as PDF")
    if any(name.startswith("xl/") for name in names):
        raise _unsupported("an Excel workbook (XLSX); save it as PDF or text")
    if declared == "application/epub+zip":
        raise _unsupported("an EPUB book")
    if declared.startswith("application/vnd.oasis.opendocument"):
        raise _unsupported("an OpenDocument file; save it as DOCX or PDF")
    raise _unsupported("a zip archive; upload the files in it one by one")


def _unsupported(kind: str) -> UnreadableDocument:
    what, _, way_out = kind.partition("; ")
    advice = f"; {way_out}" if way_out else ""
    return UnreadableDocument(f"the file is {what}, a format that is not supported{advice} ({SUPPORTED})")
