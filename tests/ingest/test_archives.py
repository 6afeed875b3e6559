"""An archive becomes a document for each file in it, and can do no harm."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import pytest

from ingest.archives import ArchiveLimits, expand_archives
from ingest.records import NewDocument
from tests.ingest.parsing.files import archive, word

SMALL = ArchiveLimits(files=5, unpacked_bytes=2**20, ratio=100, depth=2)


def expanded(content: bytes, limits: ArchiveLimits = SMALL) -> list[NewDocument]:
    document = NewDocument(title=None, name="all.zip", content=content, metadata={"year": 2025}, collection="letters")
    return list(expand_archives([document], limits))


def test_each_file_is_a_document_named_by_its_path() -> None:
    report = word(lambda document: document.add_paragraph("x"))
    found = expanded(archive({"a.txt": "A", "folder/b.docx": report, "folder/": "", "__MACOSX/._a.txt": "junk"}))
    assert [(each.name, each.content) for each in found] == [("a.txt", b"A"), ("folder/b.docx", report)]
    assert all(each.metadata == {"year": 2025} and each.collection == "letters" for each in found)


def test_documents_that_are_no_archives_stay_as_they_are() -> None:
    documents = [
        NewDocument(title="t", name="a.docx", content=word(lambda document: None)),
        NewDocument(title="t", name="a.txt", content=b"text"),
        NewDocument(title="t", name="a.txt", content=archive({"a": "x"}), is_text=True),
        NewDocument(title="t", name="broken.zip", content=b"PK\x03\x04 and nothing else"),
    ]
    assert list(expand_archives(documents, SMALL)) == documents


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("C:\\temp\\a.txt", "temp/a.txt"),
        ("a\x00.txt", "a"),
        ("a\x1b[31m.txt", "a[31m.txt"),
        ("..", "file"),
        ("x" * 400, "x" * 255),
        ("Grüße.txt", "Grüße.txt"),
    ],
)
def test_a_name_that_would_lead_elsewhere_is_only_shown(name: str, shown: str) -> None:
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name  # past the checks of the constructor
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as target:
        target.writestr(entry, "x")
    [found] = expanded(content.getvalue())
    assert found.name == shown


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    assert_refused(archive({"zeros": bytes(2**20 + 1)}), "would unpack to 1 MB, allowed are 1 MB")
    assert_refused(archive({"zeros": bytes(17 * 2**20)}), "zip bomb", ArchiveLimits(ratio=100))
    assert_refused(archive({str(n): "x" for n in range(6)}), "6 entries, allowed are 5")


def assert_refused(content: bytes, reason: str, limits: ArchiveLimits = SMALL) -> None:
    [found] = expanded(content, limits)
    assert found.name == "all.zip"
    assert reason in (found.refused or "")


def test_the_limits_hold_over_a_whole_upload() -> None:
    half = archive({"a.bin": bytes(range(256)) * 2600})
    documents = [NewDocument(title=None, name=f"{n}.zip", content=half) for n in range(2)]
    first, second = expand_archives(documents, SMALL)
    assert first.refused is None
    assert "allowed are 0 MB" in (second.refused or "")


def nested(depth: int, files: Mapping[str, str]) -> bytes:
    content = archive(files)
    for level in range(depth):
        content = archive({f"{level}.zip": content, f"{level}.txt": str(level)})
    return content


def test_archives_in_archives_are_opened_to_the_depth_that_is_allowed() -> None:
    found = expanded(nested(1, {"a.txt": "A"}))
    assert [(each.name, each.content, each.refused) for each in found] == [
        ("0.zip/a.txt", b"A", None),
        ("0.txt", b"0", None),
    ]
    found = expanded(nested(2, {"a.txt": "A"}))
    assert [each.name for each in found] == ["1.zip/0.zip", "1.zip/0.txt", "1.txt"]
    assert "archives may lie 2 deep" in (found[0].refused or "")
    assert [each.refused for each in found[1:]] == [None, None]


def test_a_member_that_cannot_be_unpacked_fails_alone() -> None:
    content = bytearray(archive({"bad.txt": "b" * 200, "good.txt": "fine"}))
    at = content.index(b"bad.txt") + len("bad.txt")
    content[at : at + 4] = b"\xff\xff\xff\xff"
    bad, good = expanded(bytes(content))
    assert "damaged in its archive" in (bad.refused or "")
    assert (good.content, good.refused) == (b"fine", None)


def test_a_member_behind_a_password_or_an_unusual_method_fails_alone() -> None:
    content = bytearray(archive({"secret.txt": "x", "good.txt": "fine"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    secret, good = expanded(bytes(content))
    assert "password-protected in its archive" in (secret.refused or "")
    assert good.refused is None
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as target:
        target.writestr("a.txt", "x")
    [found] = expanded(packed.getvalue())
    assert "unusual method" in (found.refused or "")


def test_an_archive_without_files_says_so() -> None:
    assert_refused(archive({"folder/": ""}), "holds no files")
    assert_refused(b"PK\x05\x06" + bytes(18), "holds no files")
