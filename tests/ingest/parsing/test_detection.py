"""What is not supported is named, with what is."""

from __future__ import annotations

import io
import zipfile

import pytest

from ingest.errors import UnreadableDocument
from ingest.parsing.detection import media_type
from tests.ingest.parsing.files import pdf, word


def archive(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as target:
        for name, text in files.items():
            target.writestr(name.replace("__", "/"), text)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (archive(ppt__presentation="x"), "PowerPoint"),
        (archive(xl__workbook="x"), "Excel"),
        (archive(mimetype="application/epub+zip"), "EPUB"),
        (archive(mimetype="application/vnd.oasis.opendocument.text"), "OpenDocument"),
        (archive(notes="x"), "zip archive"),
        (b"\x89PNG\r\n\x1a\n....", "PNG image"),
        (b"\xff\xd8\xff\xe0....", "JPEG image"),
        (b"{\\rtf1 x}", "RTF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", "before 2007"),
        (b"\x1f\x8b....", "gzip"),
        (b"\x00\x00\x00\x18ftypmp42", "MP4"),
    ],
)
def test_a_foreign_format_is_named(content: bytes, kind: str) -> None:
    with pytest.raises(UnreadableDocument, match=kind) as refused:
        media_type("file.txt", content)
    assert "supported are PDF, DOCX, HTML, Markdown and plain text" in str(refused.value)


def test_an_encrypted_office_file_is_told_apart() -> None:
    content = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le")
    with pytest.raises(UnreadableDocument, match="password-protected"):
        media_type("a.docx", content)


def test_content_counts_more_than_the_name() -> None:
    assert media_type("a.txt", pdf(["x"])) == "application/pdf"
    assert media_type("a.pdf", word(lambda document: None)).endswith("wordprocessingml.document")
    assert media_type("a.pdf", b"just words") == "text/plain"


def test_a_damaged_zip_says_so() -> None:
    with pytest.raises(UnreadableDocument, match="damaged"):
        media_type("a.docx", b"PK\x03\x04 and nothing else")
