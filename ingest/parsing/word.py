"""DOCX: paragraphs, lists, tables and headings in the order of the body.

Knows WordprocessingML as far as text goes. Headers, footers, comments and deleted text are left out.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from ingest.errors import UnreadableDocument
from ingest.parsing.container import ZIP_ERRORS, open_container, refuse_encrypted
from ingest.parsing.detection import DOCX
from ingest.parsing.document import (
    ParsedDocument,
    ParseLimits,
    TextBuilder,
    one_line,
    reason_of,
    squeeze_spaces,
    table_row,
)

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_LEFT_OUT = frozenset({_FALLBACK, f"{_W}del", f"{_W}moveFrom", f"{_W}instrText", f"{_W}pPr", f"{_W}rPr"})
_HEADING_NAME = re.compile(r"heading ([1-9])$", re.IGNORECASE)
_LIST_NAME = re.compile(r"list (?:bullet|number|paragraph)", re.IGNORECASE)


def parse_docx(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """The text of a Word document.

    Raises:
        UnreadableDocument: the file is damaged, or larger than the limits.
    """
    with open_container(content, limits, "Word document") as archive:
        refuse_encrypted(archive, "Word document")
    import docx
    from docx.opc.exceptions import OpcError
    from lxml import etree  # type: ignore[import-untyped]

    try:
        document: Any = docx.Document(io.BytesIO(content))
        body = document.element.body
        levels, list_styles = _styles(document)
    except (OpcError, etree.XMLSyntaxError, KeyError, AttributeError, *ZIP_ERRORS) as error:
        raise UnreadableDocument(f"the Word document is damaged ({reason_of(error)})") from error
    builder = TextBuilder()
    title: str | None = None
    in_list = False
    for block in _blocks(body):
        if block.tag == f"{_W}tbl":
            builder.block("\n".join(_rows(block)))
            in_list = False
            continue
        text = squeeze_spaces(_text(block))
        if not text:
            continue
        style = _style_id(block)
        level = _outline_level(block) or levels.get(style)
        if level is not None:
            if level == 0:
                title = title or text
            builder.heading(max(level, 1), text)
            in_list = False
        else:
            item = style in list_styles or block.find(f"{_W}pPr/{_W}numPr") is not None
            builder.block(f"- {text}" if item else text, "\n" if item and in_list else "\n\n")
            in_list = item
    return builder.finish(DOCX, _own_title(document.core_properties.title) or title)


def _blocks(parent: Any) -> Iterator[Any]:
    """Paragraphs and tables, also those inside content controls and tracked insertions."""
    for child in parent:
        if child.tag in {f"{_W}p", f"{_W}tbl"}:
            yield child
        elif child.tag in {f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml", f"{_W}smartTag"}:
            yield from _blocks(child)


def _rows(table: Any) -> Iterator[str]:
    """Each row of a table as ``a | b | c``."""
    for row in table.iter(f"{_W}tr"):
        if _enclosing_table(row) is not table:
            continue  # a row of a table inside a cell: part of that cell's text
        cells = [one_line(" ".join(_text(p) for p in cell.iter(f"{_W}p"))) for cell in _cells(row)]
        if any(cells):
            yield table_row(cells)


def _cells(row: Any) -> Iterator[Any]:
    for child in row:
        if child.tag == f"{_W}tc":
            yield child
        elif child.tag in {f"{_W}sdt", f"{_W}sdtContent"}:
            yield from _cells(child)


def _enclosing_table(row: Any) -> Any:
    return next(row.iterancestors(f"{_W}tbl"))


def _text(element: Any) -> str:
    """Text, tabs, breaks and the letters of equations below ``element``, in order."""
    pieces: list[str] = []
    for child in element:
        tag = child.tag
        if tag in _LEFT_OUT or not isinstance(tag, str):
            continue
        if tag in {f"{_W}t", f"{_M}t"}:
            pieces.append(child.text or "")
        elif tag in {f"{_W}tab", f"{_W}ptab"}:
            pieces.append("\t")
        elif tag in {f"{_W}br", f"{_W}cr"}:
            pieces.append("\n")
        elif tag == f"{_W}noBreakHyphen":
            pieces.append("-")
        elif tag == f"{_M}f":
            parts = [_text(part).strip() for part in child if part.tag in {f"{_M}num", f"{_M}den"}]
            pieces.append("/".join(f"({part})" if len(part) > 1 else part for part in parts))
        elif tag == f"{_M}sSup":
            base, *power = [_text(part) for part in child if part.tag in {f"{_M}e", f"{_M}sup"}]
            pieces.append(base + "".join(f"^{part}" if len(part) == 1 else f"^({part})" for part in power))
        elif tag == f"{_W}p":
            pieces.append(f"\n{_text(child)}\n")  # a paragraph inside a text box
        else:
            pieces.append(_text(child))
    return "".join(pieces)


def _styles(document: Any) -> tuple[dict[str, int], set[str]]:
    """Heading level by style id (0 for the title), and the ids of list styles, each also for styles based on them."""
    levels: dict[str, int] = {}
    lists: set[str] = set()
    for style in document.styles:
        ancestor: Any = style
        for _ in range(10):
            name = (getattr(ancestor, "name", None) or "").strip()
            if heading := _HEADING_NAME.match(name):
                levels[style.style_id] = int(heading.group(1))
                break
            if name.lower() == "title":
                levels[style.style_id] = 0
                break
            if _LIST_NAME.match(name):
                lists.add(style.style_id)
                break
            ancestor = getattr(ancestor, "base_style", None)
            if ancestor is None:
                break
    return levels, lists


def _style_id(paragraph: Any) -> str:
    found = paragraph.find(f"{_W}pPr/{_W}pStyle")
    return (found.get(f"{_W}val") or "") if found is not None else ""


def _outline_level(paragraph: Any) -> int | None:
    found = paragraph.find(f"{_W}pPr/{_W}outlineLvl")
    value = found.get(f"{_W}val") if found is not None else None
    return int(value) + 1 if value and value.isdigit() and int(value) < 9 else None


def _own_title(title: str | None) -> str | None:
    """The title in a file's properties, unless it is the one that python-docx reports where there is none."""
    return None if title == "Word Document" else title
