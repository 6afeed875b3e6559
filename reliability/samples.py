"""Small files of every format that is read, each right, and ways to make them wrong.

A mutation is a few operations, each of two numbers; the same ones on the same file make the same bytes. Files that are
zip archives are also changed inside, so that what is wrong lies in a member and not in the archive.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import docx
import openpyxl
import pptx

_DOCUMENTS = Path(__file__).parent.parent / "examples" / "documents"
_MOST_BYTES = 300_000
_NUMBERS = [
    b"0", b"-1", b"1e309", b"NaN", b"4294967296", b"99999999999999999999", b"1" * 4000, b"0x7fffffff", b"1.7e-320",
]  # fmt: skip
_WORDS = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xae", "𝔊̈‍".encode(), b"\r", b"\x0c", b"\x1a",
    b"<" * 300, b"&#x110000;", b"&#0;", b"&e;", b"]]>", b"<!--", b"<![CDATA[", b'"' * 3, b"[" * 2000, b"{" * 2000,
    b"((((", b"\\u0000", b"\\ud800", b"%%EOF", b"endobj", b">> stream\n", b"/Kids [1 0 R]",
    b"=?utf-8?b?//8=?=", b"=?x?q?",
    b"--x", b"\n\n\n", b"|" * 500, b"#" * 50, b"```", b"\t" * 200, b"a" * 5000,
]  # fmt: skip
_TOKEN = re.compile(rb"<[^<>]*>|[\w.]+|\s+|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Change:
    """One operation: which, and two numbers that say where and how much."""

    kind: str
    first: int
    second: int


def mutated(content: bytes, changes: list[Change], inside: int | None = None) -> bytes:
    """A file with changes; in the ``inside``-th member where it is a zip archive and that is given."""
    if inside is None or not zipfile.is_zipfile(io.BytesIO(content)):
        for change in changes:
            content = CHANGES[change.kind](content, change.first, change.second)[:_MOST_BYTES]
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = inside % len(members)
    members[at] = members[at][0], mutated(members[at][1], changes)
    return _zip(dict(members))


def _flipped(content: bytes, at: int, bit: int) -> bytes:
    if not content:
        return content
    at %= len(content)
    return content[:at] + bytes([content[at] ^ 1 << bit % 8]) + content[at + 1 :]


def _cut(content: bytes, at: int, length: int) -> bytes:
    at %= len(content) + 1
    return content[:at] + content[at + length % 2000 :]


def _ended(content: bytes, at: int, _: int) -> bytes:
    return content[: at % (len(content) + 1)]


def _repeated(content: bytes, at: int, times: int) -> bytes:
    at %= len(content) + 1
    piece = content[at : at + 1 + at % 97]
    return content[:at] + piece * (times % 3000) + content[at:]


def _moved(content: bytes, at: int, to: int) -> bytes:
    at, to = at % (len(content) + 1), to % (len(content) + 1)
    return content[:to] + content[at : at + 200] + content[to:]


def _numbered(content: bytes, which: int, number: int) -> bytes:
    found = list(re.finditer(rb"\d+", content))
    if not found:
        return content
    place = found[which % len(found)]
    return content[: place.start()] + _NUMBERS[number % len(_NUMBERS)] + content[place.end() :]


def _worded(content: bytes, at: int, word: int) -> bytes:
    at %= len(content) + 1
    return content[:at] + _WORDS[word % len(_WORDS)] + content[at:]


def _token_dropped(content: bytes, which: int, _: int) -> bytes:
    tokens = _TOKEN.findall(content)
    if tokens:
        del tokens[which % len(tokens)]
    return b"".join(tokens)


def _tokens_swapped(content: bytes, which: int, other: int) -> bytes:
    tokens = _TOKEN.findall(content)
    if tokens:
        which, other = which % len(tokens), other % len(tokens)
        tokens[which], tokens[other] = tokens[other], tokens[which]
    return b"".join(tokens)


CHANGES: dict[str, Callable[[bytes, int, int], bytes]] = {
    "flip": _flipped, "cut": _cut, "end": _ended, "repeat": _repeated, "move": _moved, "number": _numbered,
    "word": _worded, "drop token": _token_dropped, "swap tokens": _tokens_swapped,
}  # fmt: skip


def samples() -> dict[str, bytes]:
    """A file of every format, by a name that goes with it."""
    rows = [["name", "metres", "since"], ["Nameford", "120", "1901"], ["Old Quay", "88,5", "1733"]]
    records = [{"name": n, "metres": m, "tags": ["bridge", None, True], "at": {"x": 1.5}} for n, m, _ in rows[1:]]
    return {
        "a.txt": "A lamp turns in the tower. 灯塔里有一盏灯。\n\nIts light is seen for 12 miles.\n".encode(),
        "a.md": (_DOCUMENTS / "annual-report.md").read_bytes()[:3000],
        "a.html": (_DOCUMENTS / "medicine-leaflet.html").read_bytes(),
        "a.pdf": (_DOCUMENTS / "staff-handbook.pdf").read_bytes(),
        "a.docx": _docx(rows),
        "a.pptx": _pptx(rows),
        "a.xlsx": _xlsx(rows),
        "a.epub": _epub(),
        "a.csv": "\n".join(",".join(f'"{cell}"' for cell in row) for row in rows).encode(),
        "a.tsv": "\n".join("\t".join(row) for row in rows).encode(),
        "a.json": json.dumps({"bridges": records}, indent=1).encode(),
        "a.jsonl": "\n".join(map(json.dumps, records * 3)).encode(),
        "a.eml": _mail(),
        "a.py": b'"""Lamps."""\n\nclass Lamp:\n    def turn(self, times):\n        return [x * 2 for x in times]\n',
        "a.c": b'#include "lamp.h"\n/* turns */\nint turn(int n) {\n  if (n > 0) { return n * 2; }\n  return 0;\n}\n',
    }


def _docx(rows: list[list[str]]) -> bytes:
    document = docx.Document()
    document.add_heading("The lamp", 1)
    document.add_paragraph("A lamp turns in the tower by the sea.")
    document.add_paragraph("It is lit at dusk.", style="List Bullet")
    table = document.add_table(len(rows), len(rows[0]))
    for row, cells in zip(table.rows, rows, strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def _pptx(rows: list[list[str]]) -> bytes:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "The lamp"
    slide.placeholders[1].text = "A lamp turns in the tower by the sea."
    size = pptx.util.Inches(2)
    table = slide.shapes.add_table(len(rows), len(rows[0]), size, size, size, size).table
    for number, row in enumerate(rows):
        for column, text in enumerate(row):
            table.cell(number, column).text = text
    file = io.BytesIO()
    presentation.save(file)
    return file.getvalue()


def _xlsx(rows: list[list[str]]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append([int(cell) if cell.isdigit() else cell for cell in row])
    book.active["D1"] = "=SUM(C2:C3)"
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _epub() -> bytes:
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="p.opf"/>'
        "</rootfiles></container>"
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata/><manifest><item id="a" href="a.xhtml" '
        'media-type="application/xhtml+xml"/><item id="n" href="n.xhtml" properties="nav" '
        'media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>'
    )
    chapter = "<html><body><h1>The lamp</h1><p>A lamp turns in the tower.</p><ul><li>One</li></ul></body></html>"
    contents = '<html><body><nav><ol><li><a href="a.xhtml">The lamp</a></li></ol></nav></body></html>'
    parts = {"META-INF/container.xml": container, "p.opf": package, "a.xhtml": chapter, "n.xhtml": contents}
    return _zip({"mimetype": b"application/epub+zip"} | {name: text.encode() for name, text in parts.items()})


def _mail() -> bytes:
    return (
        b"From: a@example.org\nTo: b@example.org\nSubject: =?utf-8?q?The_l=C3=A4mp?=\n"
        b"Date: Mon, 1 Jan 2024 10:00:00 +0000\nMIME-Version: 1.0\n"
        b'Content-Type: multipart/mixed; boundary="x"\n\n--x\nContent-Type: text/plain; charset=utf-8\n'
        b"Content-Transfer-Encoding: quoted-printable\n\nA l=C3=A4mp turns.\n--x\nContent-Type: text/html\n\n"
        b'<p>It is <b>lit</b>.</p>\n--x\nContent-Type: application/octet-stream; name="a.bin"\n'
        b"Content-Transfer-Encoding: base64\n\nAAEC\n--x--\n"
    )


def _zip(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()
