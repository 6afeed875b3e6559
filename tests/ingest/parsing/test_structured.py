"""JSON and JSON Lines become lines that say where each value stands."""

from __future__ import annotations

import json

import pytest

from ingest.errors import UnreadableDocument
from ingest.parsing.dispatch import parse
from ingest.parsing.document import ParseLimits


def test_every_value_has_its_path() -> None:
    value = {
        "title": "Order 7",
        "customer": {"name": "Ada", "postal address": {"city": "Vienna"}},
        "tags": ["new", "urgent"],
        "items": [{"sku": "A1", "price": 2.50}, {"sku": "B2", "price": None}],
        "paid": False,
        "notes": [],
    }
    parsed = parse("a.json", json.dumps(value).encode())
    assert parsed.text.split("\n") == [
        "title: Order 7",
        "",
        "customer.name: Ada",
        'customer["postal address"].city: Vienna',
        "tags: new, urgent",
        "",
        "items[0].sku: A1",
        "items[0].price: 2.5",
        "items[1].sku: B2",
        "items[1].price: null",
        "paid: false",
        "notes: []",
    ]
    assert parsed.title == "Order 7"


def test_records_of_a_list_are_blocks() -> None:
    assert parse("a.json", b'[{"a": 1, "b": 2}, {"a": 3}]').text == "[0].a: 1\n[0].b: 2\n[1].a: 3"
    assert parse("a.json", b'["x", "y"]').text == "x, y"


def test_one_record_of_json_lines_is_one_block() -> None:
    parsed = parse("a.jsonl", b'{"a": 1, "b": {"c": "x"}}\n\n{"a": 2, "b": null}\n')
    assert parsed.text == "a: 1\nb.c: x\n\na: 2\nb: null"


def test_numbers_are_kept_as_they_are_written() -> None:
    digits = "9" * 5000
    assert parse("a.json", f'{{"a": 1.10, "b": {digits}, "c": NaN}}'.encode()).text.split() == [
        "a:",
        "1.10",
        "b:",
        digits,
        "c:",
        "NaN",
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", b'{"a": 1, "b"', "damaged or cut off at line 1, column 13"),
        ("a.json", b'[{"a": 1},\n{"a" 2}]', "damaged or cut off at line 2, column 6"),
        ("a.jsonl", b'{"a": 1}\n{"a": 2}\n{"a"\n', "line 3 of the JSON Lines"),
        ("a.json", b"[" * 100_000 + b"]" * 100_000, "nested"),
        ("a.json", b'{"a":' * 80 + b"1" + b"}" * 80, "nested more than 64 levels"),
    ],
)
def test_damaged_and_bottomless_json_is_refused_with_the_place(name: str, content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableDocument, match=reason):
        parse(name, content)


def test_too_many_records_are_refused() -> None:
    with pytest.raises(UnreadableDocument, match="more than 5 rows"):
        parse("a.jsonl", b'{"a": 1}\n' * 6, ParseLimits(rows=5))
