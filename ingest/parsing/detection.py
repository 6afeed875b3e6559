"""What kind of file a sequence of bytes is: by its content first, by its name where the content leaves it open.

Knows signatures, first lines and names of formats; reads no format itself.
"""

from __future__ import annotations

import re
import zipfile
from importlib.util import find_spec
from pathlib import PurePath

from ingest.errors import UnreadableDocument
from ingest.parsing.container import ZIP_ERRORS, open_container
from ingest.parsing.document import DEFAULT_LIMITS, ParseLimits
from ingest.parsing.languages import language_of

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EPUB = "application/epub+zip"
ZIP = "application/zip"
HTML = "text/html"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSON_LINES = "application/x-ndjson"
EMAIL = "message/rfc822"
SOURCE = "text/x-"
"""Source code is ``text/x-`` and the name of its language."""

SUPPORTED = (
    "supported are plain text, Markdown, HTML, PDF, Word (DOCX), PowerPoint (PPTX), Excel (XLSX), CSV, TSV, EPUB, "
    "JSON, JSON Lines, e-mail (EML), source code, and zip archives of these"
)

_HTML_START = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,2000}?-->\s*)*(?:<!doctype\s+html|<html[\s>])",
    re.IGNORECASE | re.DOTALL,
)
_BY_SUFFIX = {
    ".html": HTML, ".htm": HTML, ".xhtml": HTML, ".md": MARKDOWN, ".markdown": MARKDOWN, ".mdx": MARKDOWN,
    ".csv": CSV, ".tsv": TSV, ".tab": TSV, ".json": JSON, ".geojson": JSON, ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
}  # fmt: skip
_MAIL_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9-]{0,60}):[ \t]")
_MAIL_HEADERS = frozenset(
    {b"from", b"to", b"subject", b"date", b"message-id", b"received", b"mime-version", b"return-path", b"delivered-to"}
)
_FOREIGN_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image; install OCR to read it (pip install 'lorebase[ocr]')"),
    (b"\xff\xd8\xff", "a JPEG image; install OCR to read it (pip install 'lorebase[ocr]')"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\x00", "a TIFF image; install OCR to read it (pip install 'lorebase[ocr]')"),
    (b"MM\x00*", "a TIFF image; install OCR to read it (pip install 'lorebase[ocr]')"),
    (b"RIFF", "a RIFF media file"),
    (b"{\\rtf", "an RTF document; save it as DOCX or PDF"),
    (b"\x1f\x8b", "a gzip archive; unpack it, or pack it as zip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; pack it as zip"),
    (b"Rar!\x1a\x07", "a RAR archive; pack it as zip"),
    (b"BZh", "a bzip2 archive; unpack it, or pack it as zip"),
    (b"\xfd7zXZ\x00", "an xz archive; unpack it, or pack it as zip"),
    (b"(\xb5/\xfd", "a zstandard archive; unpack it, or pack it as zip"),
    (b"SQLite format 3\x00", "a SQLite database; export its tables as CSV"),
    (b"PAR1", "a Parquet table; export it as CSV or JSON Lines"),
    (b"%!PS", "a PostScript file; save it as PDF"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\x00", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
)
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_OFFICE = "EncryptedPackage".encode("utf-16-le")
_OUTLOOK = "__substg1.0_".encode("utf-16-le")
_ANY_SIZE = ParseLimits(unpacked_bytes=2**63, ratio=2**31)  # for a look at the list of entries alone
_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")


def media_type(name: str, content: bytes, limits: ParseLimits = DEFAULT_LIMITS) -> str:
    """One of the supported media types; for text that only its name tells from plain text, what the name says.

    Raises:
        UnreadableDocument: the content is empty or of a format that is not supported; the message names it.
    """
    if not content.strip():
        raise UnreadableDocument("the file is empty")
    if b"%PDF-" in content[:1024]:
        return PDF
    if content.startswith(_ZIP_SIGNATURES):
        return _zip_type(content, limits)
    if content.startswith(_OLD_OFFICE):
        raise _old_office(content)
    for signature, kind in _FOREIGN_SIGNATURES:
        if content.startswith(signature):
            raise _unsupported(kind)
    if content[4:8] == b"ftyp":
        raise _unsupported("an MP4 media file")
    return _text_type(name, content)


def ocr_is_there() -> bool:
    """Whether the extra ``ocr`` is installed."""
    return find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None


def image_type(content: bytes) -> str | None:
    """The media type of an image that can be read; ``None`` for anything else."""
    return next((kind for signature, kind in _IMAGES if content.startswith(signature)), None)


def is_archive(content: bytes) -> bool:
    """Whether the content is a zip archive of files, and not a document that is packed as one.

    Cheap for anything else; a damaged archive is no archive here, and says so when it is parsed.
    """
    if not content.startswith(_ZIP_SIGNATURES):
        return False
    try:
        return _zip_type(content, _ANY_SIZE) == ZIP
    except UnreadableDocument:
        return False


def binary(what: str = "a binary file of an unknown kind") -> UnreadableDocument:
    """The refusal of content that is no text."""
    return UnreadableDocument(f"the file is not text but {what} ({SUPPORTED})")


def _text_type(name: str, content: bytes) -> str:
    suffix = PurePath(name).suffix.lower()
    start = content[:8192]
    if _HTML_START.match(start):
        return HTML
    if _is_mail(start, named=suffix == ".eml"):
        return EMAIL
    named = _BY_SUFFIX.get(suffix)
    if named is not None:
        return named
    language = language_of(name, start)
    return f"{SOURCE}{language.name}" if language is not None else PLAIN


def _is_mail(start: bytes, named: bool) -> bool:
    """Whether the content begins with the header of a message; a file named as one needs to show less of it."""
    known: set[bytes] = set()
    for number, line in enumerate(start.removeprefix(b"\xef\xbb\xbf").splitlines()):
        if number == 0 and line.startswith(b"From "):
            continue  # the separator that mailboxes put before a message
        if line[:1] in {b" ", b"\t"} and known:
            continue
        if not line:
            break
        header = _MAIL_HEADER.match(line + b" ")
        if header is None:
            return False
        known.add(header.group(1).lower())
    found = known & _MAIL_HEADERS
    return bool(found) if named else len(found) >= 3


def _zip_type(content: bytes, limits: ParseLimits) -> str:
    with open_container(content, limits, "file") as archive:
        names = set(archive.namelist())
        if "[Content_Types].xml" in names:
            return _office_type(names)
        declared = _declared(archive) if "mimetype" in names else ""
    if declared == EPUB or "META-INF/container.xml" in names:
        return EPUB
    if declared.startswith("application/vnd.oasis.opendocument"):
        raise _unsupported("an OpenDocument file; save it as DOCX, XLSX, PPTX or PDF")
    if "Index/Document.iwa" in names:
        raise _unsupported("an Apple iWork file; export it as PDF")
    return ZIP


def _office_type(names: set[str]) -> str:
    if "word/vbaProject.bin" in names:
        raise _unsupported("a Word document with macros (DOCM); save it as DOCX")
    if any(name.startswith("word/") for name in names):
        return DOCX
    if any(name.startswith("ppt/") for name in names):
        return PPTX
    if "xl/workbook.bin" in names:
        raise _unsupported("a binary Excel workbook (XLSB); save it as XLSX")
    if any(name.startswith("xl/") for name in names):
        return XLSX
    raise _unsupported("an Office file of an unknown kind; save it as PDF")


def _declared(archive: zipfile.ZipFile) -> str:
    if archive.getinfo("mimetype").file_size >= 200:
        return ""
    try:
        return archive.read("mimetype").decode("ascii", "replace").strip()
    except ZIP_ERRORS as error:
        raise UnreadableDocument(f"the file is a damaged zip archive ({error})") from error


def _old_office(content: bytes) -> UnreadableDocument:
    if _ENCRYPTED_OFFICE in content:
        return UnreadableDocument("the Office file is password-protected; remove the password and upload it again")
    if _OUTLOOK in content:
        return _unsupported("an Outlook message (MSG); save it as EML")
    return _unsupported("an Office file in the format of before 2007; save it as DOCX, XLSX, PPTX or PDF")


def _unsupported(kind: str) -> UnreadableDocument:
    what, _, way_out = kind.partition("; ")
    advice = f"; {way_out}" if way_out else ""
    return UnreadableDocument(f"the file is {what}, a format that is not supported{advice} ({SUPPORTED})")
