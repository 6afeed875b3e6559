"""Spreadsheets and delimited files: a row is understood by itself, wherever its table was."""

from __future__ import annotations

import datetime

import pytest

from ingest.errors import UnreadableDocument
from ingest.parsing.dispatch import parse
from ingest.parsing.document import ParseLimits
from tests.ingest.parsing.files import archive, workbook


def test_every_row_keeps_the_names_of_its_columns() -> None:
    parsed = parse("a.csv", b'Region,Revenue,Note\nNorth,4.2,"grew, slowly"\nSouth,3.9,\n')
    assert parsed.text.split("\n\n") == [
        "Region | Revenue | Note",
        "Region: North; Revenue: 4.2; Note: grew, slowly",
        "Region: South; Revenue: 3.9",
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_any_usual_delimiter_is_found(delimiter: str) -> None:
    content = "\n".join(delimiter.join(row) for row in (("a b", "c"), ("1", "2"), ("3", "4"))).encode()
    assert parse("a.csv", content).text.endswith("a b: 3; c: 4")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_table_is_read_in_its_encoding(encoding: str) -> None:
    assert "Straße: Café; Zahl: 1" in parse("a.csv", "Straße;Zahl\nCafé;1\n".encode(encoding)).text


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("a,b\n1,2", "a | b\n\na: 1; b: 2"),
        ("1,2\n3,4", "1 | 2\n\n3 | 4"),
        ("Region,2023,2024\nNorth,1,2", "Region | 2023 | 2024\n\nRegion: North; 2023: 1; 2024: 2"),
        ("Sales by region,\na,b\n1,2", "Sales by region\n\na | b\n\na: 1; b: 2"),
        ("a,b\n1,2\n,\nc,d\n3,4", "a | b\n\na: 1; b: 2\n\nc | d\n\nc: 3; d: 4"),
        ("a,b\n1,2\n\nx,y\n", "a | b\n\na: 1; b: 2\n\na: x; b: y"),
        ("a,b\n1,2,3", "a | b\n\na: 1; b: 2; 3"),
        ("sep=;\na;b\n1;2", "a | b\n\na: 1; b: 2"),
        ('a,b\n"never closed,2\n3,4\n5,6', 'a | b\n\na: "never closed; b: 2\n\na: 3; b: 4\n\na: 5; b: 6'),
        ('a,b\n"two\nlines",2', "a | b\n\na: two lines; b: 2"),
        ("one\ntwo\nthree", "one\ntwo\nthree"),
    ],
)
def test_names_are_found_where_there_are_some(rows: str, text: str) -> None:
    assert parse("a.csv", rows.encode()).text == text


def test_sheets_are_sections_and_values_look_as_in_excel() -> None:
    parsed = parse(
        "a.xlsx",
        workbook(
            {
                "Plan": [
                    ["Item", "Done", "Due", "Share", "Cost"],
                    ["Roof", True, datetime.date(2025, 3, 1), 0.1 + 0.2, 1200.0],
                    [None, None, datetime.datetime(2025, 3, 1, 8, 30)],  # noqa: DTZ001 - as Excel has it
                ],
                "Empty": [],
                "Notes": [["Only a line"]],
            }
        ),
    )
    assert parsed.text.split("\n\n") == [
        "Plan",
        "Item | Done | Due | Share | Cost",
        "Item: Roof; Done: TRUE; Due: 2025-03-01; Share: 0.3; Cost: 1200",
        "Due: 2025-03-01 08:30:00",
        "Notes",
        "Only a line",
    ]
    assert [heading.title for heading in parsed.headings] == ["Plan", "Notes"]
    assert all(parsed.text.startswith(heading.title, heading.start) for heading in parsed.headings)


def test_too_many_rows_are_refused_over_all_sheets() -> None:
    rows = [["a", 1]] * 6
    with pytest.raises(UnreadableDocument, match="more than 10 rows; split it"):
        parse("a.xlsx", workbook({"One": rows, "Two": rows}), ParseLimits(rows=10))
    with pytest.raises(UnreadableDocument, match="more than 10 rows; split it"):
        parse("a.csv", b"a,1\n" * 11, ParseLimits(rows=10))
    with pytest.raises(UnreadableDocument, match="more than 100 characters"):
        parse("a.csv", b"a,1\n" * 60, ParseLimits(characters=100))


def sheet_with(row: str, prolog: str = "") -> bytes:
    """A workbook whose only sheet has ``row`` as XML, after ``prolog``."""
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    return archive(
        {
            "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            f'<Override PartName="/xl/workbook.xml" ContentType="{types}.sheet.main+xml"/>'
            f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{types}.worksheet+xml"/></Types>',
            "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Id="r" Type="{relation}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relation}"><sheets>'
            '<sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
            f'relationships"><Relationship Id="r1" Type="{relation}/worksheet" Target="worksheets/sheet1.xml"/>'
            "</Relationships>",
            "xl/worksheets/sheet1.xml": f'{prolog}<worksheet xmlns="{main}"><sheetData>{row}</sheetData></worksheet>',
        }
    )


def test_a_sheet_of_minimal_xml_is_read() -> None:
    assert parse("a.xlsx", sheet_with('<row r="3"><c r="B3"><v>7</v></c></row>')).text == "S\n\n7"


@pytest.mark.parametrize(
    "row",
    [
        '<row r="9999999999"><c r="A9999999999"><v>1</v></c></row>',
        "".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, 1300)),
    ],
)
def test_a_sheet_that_spans_an_ocean_of_empty_cells_is_refused(row: str) -> None:
    with pytest.raises(UnreadableDocument, match="spans more cells than can be read"):
        parse("a.xlsx", sheet_with(row))


@pytest.mark.parametrize("row", ["<row", '<row r="x"/>', '<row r="1"><c r="A1" t="s"><v>99</v></c></row>'])
def test_a_damaged_workbook_says_so(row: str) -> None:
    with pytest.raises(UnreadableDocument, match="workbook is damaged"):
        parse("a.xlsx", sheet_with(row))


def test_entities_of_a_workbook_are_not_blown_up() -> None:
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    prolog = f'<!DOCTYPE worksheet [<!ENTITY a0 "LOL">{entities}]>'
    with pytest.raises(UnreadableDocument):
        parse("a.xlsx", sheet_with('<row r="1"><c r="A1" t="str"><v>&a9;</v></c></row>', prolog))
