"""XLSX: every row of every sheet with its column names; sheets are sections.

Knows openpyxl, which reads row by row and never holds a sheet. Formulas give the values Excel last computed for them.
"""

from __future__ import annotations

import datetime
import io
import warnings
from collections.abc import Iterator
from typing import Any

from ingest.errors import UnreadableDocument
from ingest.parsing.container import ZIP_ERRORS, open_container, refuse_encrypted
from ingest.parsing.detection import XLSX
from ingest.parsing.document import ParsedDocument, ParseLimits, TextBuilder, one_line, reason_of
from ingest.parsing.rows import RowCounter, add_rows

_MOST_ROWS = 1_048_576  # of a sheet; a row number beyond it is a trap that fills the gap before it
_MOST_CELLS = 20_000_000  # also empty ones, which lie between two filled ones


def parse_xlsx(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """The rows of a workbook.

    Raises:
        UnreadableDocument: the file is damaged, or larger than the limits.
    """
    with open_container(content, limits, "Excel workbook") as archive:
        refuse_encrypted(archive, "Excel workbook")
    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions that hold no text
            workbook: Any = openpyxl.load_workbook(
                io.BytesIO(content), read_only=True, data_only=True, keep_links=False
            )
            return _parse(workbook, limits)
    except UnreadableDocument:
        raise
    except (*ZIP_ERRORS, KeyError, TypeError, AttributeError, IndexError, SyntaxError) as error:
        # XML's ParseError is a SyntaxError.
        raise UnreadableDocument(f"the Excel workbook is damaged ({reason_of(error)})") from error


def _parse(workbook: Any, limits: ParseLimits) -> ParsedDocument:
    builder = TextBuilder()
    counter = RowCounter(limits)
    title = (workbook.properties.title or None) if workbook.properties else None
    budget = [_MOST_CELLS]
    for sheet in workbook.worksheets:
        sheet.reset_dimensions()  # what the file says of its size is often wrong
        rows = _rows(sheet, budget)
        first = next(rows, None)
        if first is None:
            continue
        builder.heading(1, sheet.title)
        add_rows(builder, _chained(first, rows), counter)
    return builder.finish(XLSX, title)


def _chained(first: list[str], rows: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from rows


def _rows(sheet: Any, budget: list[int]) -> Iterator[list[str]]:
    """The rows from the first that is filled on; runs of empty rows count as one."""
    blank = True
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        budget[0] -= len(cells) + 1
        if number > _MOST_ROWS or budget[0] < 0:
            raise UnreadableDocument(f"the sheet {sheet.title!r} spans more cells than can be read; split it")
        row = [_shown(cell) for cell in cells]
        empty = not any(row)
        if not (empty and blank):
            yield row
        blank = empty


def _shown(cell: Any) -> str:  # noqa: PLR0911
    """A cell's value about as Excel shows it."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        if "%" in (cell.number_format or ""):
            return f"{value * 100:.10g}%"
        return f"{value:.15g}"
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "seconds")
    return one_line(str(value))
