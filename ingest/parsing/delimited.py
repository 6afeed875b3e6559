"""CSV and TSV: finding the delimiter, and every row with its column names.

Knows the csv module; what rows become is decided in ``ingest.parsing.rows``.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator

from ingest.parsing.detection import CSV, TSV
from ingest.parsing.document import ParsedDocument, ParseLimits, TextBuilder, clean_text, one_line
from ingest.parsing.plain import decode
from ingest.parsing.rows import RowCounter, add_rows

_DELIMITERS = ",;\t|"
_SAMPLE_CHARACTERS = 64 * 1024
_SAMPLE_ROWS = 200
_LEAST_ROWS = 3


def parse_delimited(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """A table of text, whatever its delimiter."""
    text = clean_text(decode(content))
    declared = text[:5].lower()
    delimiter = None
    if declared.startswith("sep=") and text[5:6] in {"\n", ""}:  # how Excel is told the delimiter
        delimiter, text = text[4], text[6:]
    delimiter = delimiter or find_delimiter(text)
    if delimiter is None:  # a single column
        return ParsedDocument(text=text, media_type=CSV)
    builder = TextBuilder()
    add_rows(builder, _rows(text, delimiter, limits), RowCounter(limits))
    return builder.finish(TSV if delimiter == "\t" else CSV)


def find_delimiter(text: str, strict: bool = False) -> str | None:
    """The delimiter that divides most rows into the same number of cells; ``None`` when none does.

    With ``strict``, for text of which nobody says that it is a table: every row the same, three rows or more, three
    cells or more in each (two with tabs), and no cell a sentence.
    """
    sample = text[:_SAMPLE_CHARACTERS]
    if len(text) > len(sample):
        sample = sample[: sample.rfind("\n") + 1]
    best: tuple[float, int, str] | None = None
    for delimiter in _DELIMITERS:
        rows = [row for row in _sampled(sample, delimiter) if any(cell.strip() for cell in row)]
        if not rows:
            continue
        width, count = Counter(map(len, rows)).most_common(1)[0]
        share = count / len(rows)
        if width < 2 or (strict and not _is_strict_table(rows, width, share, delimiter)):
            continue
        if best is None or (share, width) > best[:2]:
            best = (share, width, delimiter)
    return best[2] if best else None


def _is_strict_table(rows: list[list[str]], width: int, share: float, delimiter: str) -> bool:
    return (
        share == 1
        and len(rows) >= _LEAST_ROWS
        and width >= (2 if delimiter == "\t" else 3)
        and all(len(cell) <= 80 and not cell.rstrip().endswith(".") for row in rows for cell in row)
    )


def _sampled(sample: str, delimiter: str) -> list[list[str]]:
    rows = []
    try:
        for row in csv.reader(io.StringIO(sample), delimiter=delimiter):
            rows.append(row)
            if len(rows) >= _SAMPLE_ROWS:
                break
    except csv.Error:
        return []
    return rows


def _rows(text: str, delimiter: str, limits: ParseLimits) -> Iterator[list[str]]:
    """The cells of each row. From a quote that is never closed on, quotes are taken as they are."""
    csv.field_size_limit(max(limits.characters, csv.field_size_limit()))
    lines = text.split("\n")
    begin = 0  # the line at which the present row begins
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        before = begin
        reader = csv.reader((f"{line}\n" for line in lines[begin:]), delimiter=delimiter, quoting=quoting)
        for row in reader:
            end = before + reader.line_num
            quotes = sum(line.count('"') for line in lines[begin:end]) if end == len(lines) > begin + 1 else 0
            if quotes % 2 and quoting == csv.QUOTE_MINIMAL:
                break
            begin = end
            yield [one_line(cell) for cell in row]
        else:
            return
