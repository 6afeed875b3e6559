"""A file is what its content says; what is not supported is named, with what is."""

from __future__ import annotations

import pytest

from ingest.errors import UnreadableDocument
from ingest.parsing.detection import is_archive, media_type
from ingest.parsing.dispatch import parse
from tests.ingest.parsing.files import archive, pdf, word, workbook

OFFICE = {"[Content_Types].xml": "<Types/>"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (archive(OFFICE | {"xl/workbook.bin": "x"}), "XLSB"),
        (archive(OFFICE | {"word/vbaProject.bin": "x"}), "DOCM"),
        (archive({"mimetype": "application/vnd.oasis.opendocument.text"}), "OpenDocument"),
        (archive({"Index/Document.iwa": "x"}), "iWork"),
        (b"GIF89a....", "GIF image"),
        (b"{\\rtf1 x}", "RTF document, a format that is not supported; save it as DOCX"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", "before 2007"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "__substg1.0_".encode("utf-16-le"), "Outlook message"),
        (b"\x1f\x8b....", "gzip"),
        (b"\x00\x00\x00\x18ftypmp42", "MP4"),
        (bytes(range(1, 32)) * 10, "a binary file of an unknown kind"),
    ],
)
def test_a_foreign_format_is_named_with_those_that_are_read(content: bytes, kind: str) -> None:
    with pytest.raises(UnreadableDocument, match=kind) as refused:
        parse("file.txt", content)
    for supported in ("PDF", "DOCX", "PPTX", "XLSX", "CSV", "EPUB", "JSON", "EML", "source code", "zip"):
        assert supported in str(refused.value)


@pytest.mark.parametrize(
    ("content", "kind"), [(b"\x89PNG\r\n\x1a\n....", "PNG image"), (b"\xff\xd8\xff\xe0....", "JPEG image")]
)
def test_a_picture_needs_ocr(content: bytes, kind: str) -> None:
    with pytest.raises(UnreadableDocument, match=rf"{kind}.*install OCR to read it.*supported are"):
        media_type("file.txt", content)


def test_an_encrypted_office_file_is_told_apart() -> None:
    content = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le")
    with pytest.raises(UnreadableDocument, match="password-protected"):
        media_type("a.docx", content)


MAIL = b"From: a@x.org\r\nTo: b@x.org\r\nSubject: Hello\r\n\r\nText."
TABLE = b"city,country,people\nVienna,Austria,2.0\nBrussels,Belgium,1.2\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", pdf(["x"]), "application/pdf"),
        ("a.pdf", word(lambda document: document.add_paragraph("x")), "wordprocessingml.document"),
        ("a.docx", workbook({"Sheet": [["a"]]}), "spreadsheetml.sheet"),
        ("a.pdf", b"just words", "text/plain"),
        ("a.csv", b"<!DOCTYPE html><p>x</p>", "text/html"),
        ("a.csv", b"Only prose here.\nNo table at all.\n", "text/csv"),
        ("a.txt", TABLE, "text/csv"),
        ("table", TABLE.replace(b",", b"\t"), "text/tab-separated-values"),
        ("a.txt", b"One, two, three.\nFour, five, six.\nSeven, eight, nine.\n", "text/plain"),
        ("a.txt", b'{"a": {"b": 1}}', "application/json"),
        ("a.txt", b'{"a": 1}\n{"a": 2}\n', "application/x-ndjson"),
        ("a.json", b'{"a": 1}\n{"a": 2}\n', "application/x-ndjson"),
        ("a.json", b"no json at all", "text/plain"),
        ("a.txt", b"{ a set in braces }", "text/plain"),
        ("a.txt", MAIL, "message/rfc822"),
        ("a.eml", b"Not a message: just words\nand more", "text/plain"),
        ("tool", b"#!/usr/bin/env python3\nprint(1)\n", "text/x-python"),
        ("tool.txt", b"#!/bin/bash -e\nls\n", "text/x-shell"),
        ("a.rs", b"fn main() {}\n", "text/x-rust"),
        ("Dockerfile", b"FROM x\n", "text/x-dockerfile"),
    ],
)
def test_content_counts_more_than_the_name(name: str, content: bytes, expected: str) -> None:
    assert parse(name, content).media_type.endswith(expected)


@pytest.mark.parametrize("content", [b"PK\x03\x04 and nothing else", workbook({"a": [["b"]]})[:-40], b"PK\x05\x06"])
def test_a_damaged_zip_says_so(content: bytes) -> None:
    with pytest.raises(UnreadableDocument, match="damaged"):
        media_type("a.docx", content)


def test_an_archive_is_told_from_a_document_that_is_packed_as_one() -> None:
    assert is_archive(archive({"a.txt": "x"}))
    assert not is_archive(word(lambda document: None))
    assert not is_archive(b"PK\x03\x04 and nothing else")
    assert not is_archive(b"text")
