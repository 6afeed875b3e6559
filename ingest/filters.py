"""Metadata filters: a small query language compiled to a parameterised SQL predicate.

    {"year": 2023}                                equality
    {"year": {"gte": 2020, "lt": 2024}}           eq ne gt gte lt lte in exists
    {"and": [...]}  {"or": [...]}  {"not": {...}} conditions side by side in one object are joined by "and"

A name is a key of the document's metadata, except ``document.id``, ``document.title``, ``document.name``,
``document.collection``, ``document.media_type`` and ``document.created_at``. Comparison is exact by type: ``1`` is not
``"1"`` and not ``true``. A list in the metadata matches when one of its elements does. ``null`` matches what is null
or absent, and ``{"exists": true}`` what is neither; ``ne`` matches whatever ``eq`` does not. A filter is applied
exactly or refused.

Knows the table ``documents`` by its column names; runs no query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ingest.errors import InvalidFilter

_COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OPERATORS = "eq, ne, gt, gte, lt, lte, in, exists"
_COLUMNS = {
    "document.id": "documents.id",
    "document.title": "coalesce(documents.title, documents.name)",
    "document.name": "documents.name",
    "document.collection": "documents.collection",
    "document.media_type": "documents.media_type",
    "document.created_at": "documents.created_at",
}
_MOST_DEPTH = 8
_MOST_CONDITIONS = 64
_MOST_VALUES = 1000
_INTEGERS = range(-(2**63), 2**63)

# A metadata field's scalar is `field`; the elements of a list are `element`.
_FIELD = (
    "EXISTS (SELECT 1 FROM json_each(documents.metadata) AS field LEFT JOIN "
    "json_each(CASE field.type WHEN 'array' THEN field.value ELSE '[]' END) AS element ON 1 = 1 "
    "WHERE field.key = ? AND ({}))"
)
_TEXT = "CASE {0}.type WHEN 'text' THEN {0}.atom END"
_NUMBER = "CASE WHEN {0}.type IN ('integer', 'real') THEN CAST({0}.atom AS NUMERIC) END"
_NEVER = "(1 = 0)"
_ABSENT = (
    "NOT EXISTS (SELECT 1 FROM json_each(documents.metadata) AS field WHERE field.key = ? AND field.type <> 'null')"
)


@dataclass(frozen=True, slots=True)
class Predicate:
    """A SQL expression over ``documents`` and the values for its question marks."""

    sql: str
    parameters: tuple[Any, ...] = ()


def compile_filter(condition: Mapping[str, Any] | None) -> Predicate | None:
    """The predicate of a filter; ``None`` when it asks for nothing (``None`` or ``{}``).

    Raises:
        InvalidFilter: the filter is malformed or too large; the message says where and what is allowed.
    """
    if condition is None or condition == {}:
        return None
    compiler = _Compiler()
    sql = compiler.condition(condition, "filter", depth=1)
    return Predicate(sql, tuple(compiler.parameters))


class _Compiler:
    def __init__(self) -> None:
        self.parameters: list[Any] = []
        self._conditions = 0
        self._values = 0

    def condition(self, condition: Any, where: str, depth: int) -> str:
        if depth > _MOST_DEPTH:
            raise InvalidFilter(f"{where} is nested more than {_MOST_DEPTH} levels deep")
        if not isinstance(condition, Mapping) or not condition:
            raise InvalidFilter(f'{where} must be an object such as {{"year": 2023}}, not {_shown(condition)}')
        parts = []
        for name, value in condition.items():
            if not isinstance(name, str):
                raise InvalidFilter(f"{where}: field names are strings, not {_shown(name)}")
            _check_text(name, where)
            inside = f"{where}.{name[:80]}"
            if name in {"and", "or"}:
                parts.append(self._joined(name, value, inside, depth))
            elif name == "not":
                parts.append(f"(NOT {self.condition(value, inside, depth + 1)})")
            else:
                parts.append(self._field(name, value, inside))
        return f"({' AND '.join(parts)})"

    def _joined(self, word: str, value: Any, where: str, depth: int) -> str:
        if not isinstance(value, list) or not value:
            raise InvalidFilter(f"{where} must be a list of one or more conditions, not {_shown(value)}")
        parts = [self.condition(each, f"{where}[{index}]", depth + 1) for index, each in enumerate(value)]
        return f"({f' {word.upper()} '.join(parts)})"

    def _field(self, name: str, value: Any, where: str) -> str:
        if not isinstance(value, Mapping):
            value = {"eq": value}
        if not value:
            raise InvalidFilter(f"{where} holds no operator; allowed are {_OPERATORS}")
        return f"({' AND '.join(self._operator(name, operator, each, where) for operator, each in value.items())})"

    def _operator(self, name: str, operator: Any, value: Any, where: str) -> str:
        self._conditions += 1
        if self._conditions > _MOST_CONDITIONS:
            raise InvalidFilter(f"the filter holds more than {_MOST_CONDITIONS} conditions")
        if operator == "eq":
            return self._equal(name, value, where)
        if operator == "ne":
            return f"(NOT {self._equal(name, value, where)})"
        if operator == "in":
            if not isinstance(value, list):
                raise InvalidFilter(f"{where}.in must be a list of values, not {_shown(value)}")
            options = [self._equal(name, each, f"{where}.in[{index}]") for index, each in enumerate(value)]
            return _any(options)
        if operator == "exists":
            if not isinstance(value, bool):
                raise InvalidFilter(f"{where}.exists must be true or false, not {_shown(value)}")
            absent = self._equal(name, None, where)
            return f"(NOT {absent})" if value else absent
        if operator in _COMPARISONS:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise InvalidFilter(f"{where}.{operator} compares with a number or a string, not with {_shown(value)}")
            return self._compare(name, _COMPARISONS[operator], value, where)
        raise InvalidFilter(f"{where}: unknown operator {_shown(operator)}; allowed are {_OPERATORS}")

    def _equal(self, name: str, value: Any, where: str) -> str:
        if value is None:
            if name in _COLUMNS:
                return f"({_COLUMNS[name]} IS NULL)"
            self.parameters.append(name)
            return f"({_ABSENT})"
        if isinstance(value, bool):
            if name in _COLUMNS:
                return _NEVER
            word = "true" if value else "false"
            self.parameters.append(name)
            return _FIELD.format(f"field.type = '{word}' OR element.type = '{word}'")
        return self._compare(name, "=", value, where)

    def _compare(self, name: str, sign: str, value: Any, where: str) -> str:
        """``name <sign> value`` for a string or a number; false where the types differ."""
        self._check_value(value, where)
        if name in _COLUMNS:
            if not isinstance(value, str):
                return _NEVER
            self.parameters.append(value)
            return f"({_COLUMNS[name]} IS NOT NULL AND {_COLUMNS[name]} {sign} ?)"
        scalar = _TEXT if isinstance(value, str) else _NUMBER
        self.parameters += [name, value, value]
        return _FIELD.format(f"{scalar.format('field')} {sign} ? OR {scalar.format('element')} {sign} ?")

    def _check_value(self, value: Any, where: str) -> None:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise InvalidFilter(f"the filter holds more than {_MOST_VALUES} values")
        if isinstance(value, str):
            _check_text(value, where)
        elif isinstance(value, int):
            if value not in _INTEGERS:
                raise InvalidFilter(f"{where}: whole numbers lie between -2^63 and 2^63 - 1")
        elif not isinstance(value, float):
            raise InvalidFilter(f"{where} must be a string, a number, true, false or null, not {_shown(value)}")
        elif not math.isfinite(value):
            raise InvalidFilter(f"{where}: numbers must be finite")


def _any(options: list[str]) -> str:
    """The options joined by "or" as a balanced tree: a long chain would exceed SQLite's expression depth."""
    if not options:
        return _NEVER
    if len(options) == 1:
        return options[0]
    middle = len(options) // 2
    return f"({_any(options[:middle])} OR {_any(options[middle:])})"


def _check_text(text: str, where: str) -> None:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidFilter(f"{where[:200]}: text with NUL characters or lone surrogates cannot match anything")


def _shown(value: Any) -> str:
    """A value as an error message shows it: short, and always printable."""
    if isinstance(value, Mapping):
        return "an object" if value else "an empty object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return ascii(value)[:80]
