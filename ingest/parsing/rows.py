"""Rows of a spreadsheet as text that can be read one row at a time.

A row torn from its table says nothing, so each is written with its column names: ``Region: North; Revenue: 4.2``.
Pure functions over rows of strings; knows no file format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ingest.errors import UnreadableDocument
from ingest.parsing.document import ParseLimits, TextBuilder, table_row

_NUMBER = re.compile(r"[-+(]?[\W_]*\d[\d\s.,:/%()eE+-]*[^\W\d_]{0,3}\W*")
_YEAR = re.compile(r"(?:FY|Q[1-4])?\s*(?:19|20)\d\d(?:/\d\d)?[A-Z]?", re.IGNORECASE)
_LONGEST_NAME = 120

Row = Sequence[str]


class RowCounter:
    """Counts rows against a limit, over all sheets of a file."""

    def __init__(self, limits: ParseLimits) -> None:
        self._most = limits.rows
        self._characters = limits.characters
        self.rows = 0

    def count(self, builder: TextBuilder) -> None:
        """One more row.

        Raises:
            UnreadableDocument: there are too many, or the text has become too long.
        """
        self.rows += 1
        if self.rows > self._most:
            raise UnreadableDocument(f"the file has more than {self._most} rows; split it into several files")
        if builder.length > self._characters:
            raise UnreadableDocument(f"the file holds more than {self._characters} characters of text; split it")


def add_rows(builder: TextBuilder, rows: Iterable[Row], counter: RowCounter) -> None:
    """Append rows to ``builder``, one block each, every row of a table with the names of its columns.

    A row of names is the first of the rows, or the first after a blank one, that has two filled cells or more and no
    number but years. Rows before any such row are written as ``a | b | c``. A single cell over a table is a caption.
    """
    names: Row | None = None
    begins = True  # at the first row of the sheet or after a blank one
    for row, following in _with_next(rows):
        counter.count(builder)
        filled = [cell for cell in row if cell]
        if not filled:
            begins = True
            continue
        if len(filled) == 1 and begins and following is not None and sum(map(bool, following)) != 1:
            builder.block(filled[0])  # a caption: what follows may still begin with names
            continue
        if begins and _are_names(row, following, first=names is None):
            names = row
            builder.block(table_row(filled))
        else:
            builder.block(_record(row, names) if names is not None else table_row(filled))
        begins = False


def _record(row: Row, names: Row) -> str:
    pieces = []
    for index, cell in enumerate(row):
        if cell:
            name = names[index] if index < len(names) else ""
            pieces.append(f"{name}: {cell}" if name else cell)
    return "; ".join(pieces)


def _are_names(row: Row, following: Row | None, first: bool) -> bool:
    cells = [cell for cell in row if cell]
    if len(cells) < 2 or following is None or any(len(cell) > _LONGEST_NAME for cell in cells):
        return False
    years = sum(bool(_YEAR.fullmatch(cell)) for cell in cells)
    if any(_is_number(cell) and not _YEAR.fullmatch(cell) for cell in cells) or (years == len(cells) and row[0]):
        return False
    # A later table is told from text after a blank row by the numbers below its names.
    return first or any(_is_number(cell) for cell in following)


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell)) if len(cell) <= 40 else False


def _with_next(rows: Iterable[Row]) -> Iterator[tuple[Row, Row | None]]:
    """Each row with the one after it."""
    iterator = iter(rows)
    row = next(iterator, None)
    while row is not None:
        following = next(iterator, None)
        yield row, following
        row = following
