"""JSON and JSON Lines as lines that can be read: ``customer.address.city: Vienna``.

Values are kept as they are written; nothing of a number is rounded away. Knows JSON; no schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ingest.errors import UnreadableDocument
from ingest.parsing.detection import JSON, JSON_LINES
from ingest.parsing.document import ParsedDocument, ParseLimits, TextBuilder, clean_text, one_line
from ingest.parsing.rows import RowCounter

_DEEPEST = 64
_LONGEST_LIST_LINE = 400
_NAME = re.compile(r"[^\s.\[\]:]+")
_PREVIEW_LINES = 3


def parse_json(text: str, limits: ParseLimits) -> ParsedDocument:
    """One JSON value; the entries of the outermost object or list are blocks.

    Raises:
        UnreadableDocument: it is no JSON, with the place of the error; or it is nested too deeply.
    """
    value = _loaded(text)
    builder = TextBuilder()
    title: str | None = None
    if isinstance(value, dict):
        title = next((one_line(value[key]) for key in ("title", "name") if isinstance(value.get(key), str)), None)
    for entry in _entries(value):
        block = "\n".join(entry)
        builder.block(block, "\n" if "\n" not in block and len(block) < _LONGEST_LIST_LINE else "\n\n")
        if builder.length > limits.characters:
            raise UnreadableDocument(f"the file holds more than {limits.characters} characters of text; split it")
    return builder.finish(JSON, title)


def parse_json_lines(text: str, limits: ParseLimits) -> ParsedDocument:
    """One JSON value a line; each is a block.

    Raises:
        UnreadableDocument: a line is no JSON; the message gives its number.
    """
    builder = TextBuilder()
    counter = RowCounter(limits)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        counter.count(builder)
        try:
            value = _loaded(line)
        except UnreadableDocument as error:
            raise UnreadableDocument(f"line {number} of the JSON Lines: {error}") from error
        builder.block("\n".join(_lines("", value)))
    return builder.finish(JSON_LINES)


def looks_like_json(text: str) -> bool:
    """Whether text of which nobody says so is likely to be one JSON object or list."""
    stripped = text.strip()
    return stripped[:1] + stripped[-1:] in {"{}", "[]"}


def looks_like_json_lines(text: str) -> bool:
    """Whether the first lines are JSON objects, each on its own."""
    lines = [line for line in text[:65_536].split("\n", 2 * _PREVIEW_LINES) if line.strip()][:_PREVIEW_LINES]
    try:
        return len(lines) > 1 and all(isinstance(json.loads(line), dict) for line in lines)
    except (ValueError, RecursionError):
        return False


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UnreadableDocument(f"the JSON is damaged or cut off at {place} ({error.msg})") from error
    except RecursionError as error:
        raise UnreadableDocument(_too_deep()) from error


def _entries(value: Any) -> Iterator[list[str]]:
    """The lines of each entry of the outermost object or list."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield list(_lines(_joined("", key), item))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for index, item in enumerate(value):
            yield list(_lines(f"[{index}]", item))
    else:
        yield list(_lines("", value))


def _lines(path: str, value: Any, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        raise UnreadableDocument(_too_deep())
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _lines(_joined(path, key), item, depth + 1)
    elif isinstance(value, list) and value:
        plain = [_scalar(item) for item in value if not isinstance(item, dict | list)]
        if len(plain) == len(value) and sum(map(len, plain)) <= _LONGEST_LIST_LINE:
            yield _line(path, ", ".join(plain))
        else:
            for index, item in enumerate(value):
                yield from _lines(f"{path}[{index}]", item, depth + 1)
    else:
        yield _line(path, _scalar(value))


def _line(path: str, value: str) -> str:
    return f"{path}: {value}" if path else value


def _joined(path: str, key: str) -> str:
    name = key if _NAME.fullmatch(key) else f"[{json.dumps(key, ensure_ascii=False)}]"
    name = one_line(name)
    return name if not path else f"{path}{name}" if name.startswith("[") else f"{path}.{name}"


def _scalar(value: Any) -> str:
    """A value on one line; a long text keeps its paragraphs."""
    if isinstance(value, str):
        cleaned = clean_text(value).strip()
        return cleaned if len(cleaned) > _LONGEST_LIST_LINE else one_line(cleaned)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "{}" if isinstance(value, dict) else "[]"


def _too_deep() -> str:
    return f"the JSON is nested more than {_DEEPEST} levels deep; flatten it"
