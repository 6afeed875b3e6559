"""A filter means exactly what it says, or is refused with a word on where and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ingest.database import Connection, Database
from ingest.errors import InvalidFilter
from ingest.filters import compile_filter

ROWS: dict[str, dict[str, Any]] = {
    "a": {"year": 2022, "lang": "en", "tags": ["x", "y"], "draft": True, "price": 1.5},
    "b": {"year": 2023, "lang": "de", "tags": ["y"], "draft": False, "note": None},
    "c": {"year": "2023", "lang": "en", "tags": [2023, True], "draft": 1},
    "d": {"we\"ird ' key.$[0]": "v", "back\\slash": "w", "ключ": "я"},
}


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.write() as connection:
        for key, metadata in ROWS.items():
            connection.execute(
                "INSERT INTO documents (id, collection, name, media_type, created_at, updated_at, metadata, is_text, "
                "sha256, bytes, status) VALUES (?, 'default', ?, 'text/plain', '2024-01-01', '', ?, 1, ?, 1, 'ready')",
                (key, f"{key}.txt", json.dumps(metadata, ensure_ascii=False), key),
            )
        yield connection


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"year": 2022}, "a"),
        ({"year": 2023}, "b"),
        ({"year": 2023.0}, "b"),
        ({"year": "2023"}, "c"),
        ({"year": {"gte": 2022}}, "ab"),
        ({"year": {"gt": 2022, "lt": 2024}}, "b"),
        ({"year": {"gte": "2"}}, "c"),
        ({"year": {"ne": 2022}}, "bcd"),
        ({"year": {"in": [2022, "2023"]}}, "ac"),
        ({"year": {"in": []}}, ""),
        ({"lang": "en", "year": 2022}, "a"),
        ({"or": [{"year": 2022}, {"lang": "de"}]}, "ab"),
        ({"and": [{"lang": "en"}, {"not": {"year": 2022}}]}, "c"),
        ({"not": {"lang": "en"}}, "bd"),
        ({"draft": True}, "a"),
        ({"draft": False}, "b"),
        ({"draft": 1}, "c"),
        ({"tags": "y"}, "ab"),
        ({"tags": True}, "c"),
        ({"tags": {"gt": 2000}}, "c"),
        ({"tags": {"ne": "y"}}, "cd"),
        ({"note": None}, "abcd"),
        ({"lang": None}, "d"),
        ({"lang": {"ne": None}}, "abc"),
        ({"price": {"lte": 1.5}}, "a"),
        ({"lang": {"exists": True}}, "abc"),
        ({"note": {"exists": False}}, "abcd"),
        ({"document.title": {"exists": True}}, "abcd"),
        ({"we\"ird ' key.$[0]": "v"}, "d"),
        ({"back\\slash": "w"}, "d"),
        ({"ключ": "я"}, "d"),
        ({"x') OR 1=1 --": "v"}, ""),
        ({"lang": "en' OR '1'='1"}, ""),
        ({"document.name": "a.txt"}, "a"),
        ({"document.title": {"in": ["a.txt", "b.txt"]}}, "ab"),
        ({"document.created_at": {"gte": "2024-01-02"}}, ""),
        ({"document.media_type": 3}, ""),
        ({"document.media_type": {"ne": True}}, "abcd"),
        (
            {"year": {"in": list(range(999))}, "or": [{"lang": "en"}]},
            "",
        ),
    ],
)
def test_a_filter_selects_exactly(connection: Connection, condition: Any, expected: str) -> None:
    predicate = compile_filter(condition)
    assert predicate is not None
    rows = connection.execute(
        f"SELECT id FROM documents WHERE {predicate.sql} ORDER BY id", predicate.parameters
    ).fetchall()
    assert "".join(row[0] for row in rows) == expected


@pytest.mark.parametrize("condition", [None, {}])
def test_an_empty_filter_asks_for_nothing(condition: Any) -> None:
    assert compile_filter(condition) is None


def nested(depth: int) -> dict[str, Any]:
    return {"a": 1} if depth == 0 else {"not": nested(depth - 1)}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ([], "filter must be an object"),
        ("year = 1", "filter must be an object"),
        ({"year": {"=": 1}}, "filter.year: unknown operator '='; allowed are eq, ne, gt"),
        ({"year": {}}, "filter.year holds no operator"),
        ({"year": [1, 2]}, "filter.year must be a string, a number"),
        ({"year": {"in": 3}}, "filter.year.in must be a list"),
        ({"year": {"in": [[1]]}}, r"filter.year.in\[0\] must be"),
        ({"year": {"gt": None}}, "filter.year.gt compares with a number or a string, not with None"),
        ({"year": {"gt": True}}, "compares with a number or a string"),
        ({"year": {"exists": 1}}, "filter.year.exists must be true or false"),
        ({"and": []}, "filter.and must be a list of one or more conditions"),
        ({"and": {"a": 1}}, "filter.and must be a list"),
        ({"or": [{}]}, r"filter.or\[0\] must be an object"),
        ({"or": [{"a": 1}, 5]}, r"filter.or\[1\] must be an object"),
        ({"not": []}, "filter.not must be an object"),
        ({"a": float("nan")}, "numbers must be finite"),
        ({"a": 2**70}, "whole numbers lie between"),
        ({"a": "\ud800"}, "lone surrogates"),
        ({"\ud800": 1}, "lone surrogates"),
        ({"a\x00": 1}, "NUL"),
        ({3: 1}, "field names are strings"),
        (nested(8), "more than 8 levels"),
        ({"or": [{"a": 1}] * 65}, "more than 64 conditions"),
        ({"a": {"in": [1] * 1001}}, "more than 1000 values"),
    ],
)
def test_a_malformed_filter_is_refused_with_its_place(condition: Any, message: str) -> None:
    with pytest.raises(InvalidFilter, match=message):
        compile_filter(condition)


def test_the_deepest_filter_allowed_is_compiled(connection: Connection) -> None:
    predicate = compile_filter(nested(7))
    assert predicate is not None
    connection.execute(f"SELECT id FROM documents WHERE {predicate.sql}", predicate.parameters)
