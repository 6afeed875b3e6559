"""A tenant's prompt templates: named, versioned, durable. Versions are immutable and their numbers never given twice.

Knows tables and template shapes; knows no HTTP and no model.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass

from adapters import DEFAULT_TEMPLATE, Example, Passage, PromptTemplate, check_template
from ingest import Connection, Database, Row

BUILTIN = "builtin"
RESERVED = frozenset({BUILTIN, "default"})
MOST_VERSIONS = 1000
TEMPLATE_MIGRATIONS = [
    """
    CREATE TABLE templates (
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        body TEXT NOT NULL,             -- JSON: system, question, examples
        created_at REAL NOT NULL,
        PRIMARY KEY (name, version)
    );
    CREATE TABLE template_numbers (     -- outlives deletion, so that a number is never given twice
        name TEXT PRIMARY KEY,
        last_version INTEGER NOT NULL
    );
    CREATE TABLE template_default (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        name TEXT NOT NULL
    );
    """
]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class TemplateError(Exception):
    """Root of this module's errors."""


class UnknownTemplate(TemplateError):
    """The tenant has no such template or version."""


class InvalidTemplateName(TemplateError):
    """A template's name does not have the form names have."""


class TooManyTemplates(TemplateError):
    """The tenant holds as many versions as it may."""


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """A version of a template; the built-in one has version 0."""

    name: str
    version: int
    template: PromptTemplate
    created_at: float


class TemplateStore:
    """The templates in one tenant's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, name: str, template: PromptTemplate) -> StoredTemplate:
        """Store a new version; the same template as the latest version is that version.

        Raises:
            InvalidTemplate, InvalidTemplateName, TooManyTemplates.
        """
        if not _NAME.fullmatch(name) or name in RESERVED:
            raise InvalidTemplateName(
                f"{name[:80]!r} cannot name a template: use 1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a "
                f"letter or digit; {' and '.join(sorted(RESERVED))} are reserved."
            )
        check_template(template)
        body = json.dumps(asdict(template), ensure_ascii=False)
        with self._database.write() as connection:
            latest = _latest(connection, name)
            if latest is not None and latest["body"] == body:
                return _stored(latest)
            if connection.execute("SELECT count(*) FROM templates").fetchone()[0] >= MOST_VERSIONS:
                raise TooManyTemplates(f"{MOST_VERSIONS} template versions are the limit; delete templates first.")
            number = connection.execute(
                "INSERT INTO template_numbers (name, last_version) VALUES (?, 1) ON CONFLICT (name) "
                "DO UPDATE SET last_version = template_numbers.last_version + 1 RETURNING last_version",
                (name,),
            ).fetchone()[0]
            stored = StoredTemplate(name, number, template, time.time())
            connection.execute(
                "INSERT INTO templates (name, version, body, created_at) VALUES (?, ?, ?, ?)",
                (name, number, body, stored.created_at),
            )
        return stored

    def select(self, wanted: str | None) -> StoredTemplate:
        """What ``name`` (its latest version), ``name@version``, ``builtin`` or None (the default) stands for.

        Raises:
            UnknownTemplate: no such template or version.
        """
        with self._database.read() as connection:
            name = wanted if wanted is not None else _default(connection)
            if name == BUILTIN:
                return StoredTemplate(BUILTIN, 0, DEFAULT_TEMPLATE, 0.0)
            name, at, number = name.partition("@")
            if not at:
                row = _latest(connection, name)
            elif re.fullmatch("[1-9][0-9]{0,8}", number):
                row = connection.execute(
                    "SELECT * FROM templates WHERE name = ? AND version = ?", (name, int(number))
                ).fetchone()
            else:
                row = None
        if row is None:
            raise UnknownTemplate("There is no such template; GET /templates lists those there are.")
        return _stored(row)

    def names(self) -> dict[str, list[int]]:
        """Version numbers by template name, both sorted."""
        found: dict[str, list[int]] = {}
        with self._database.read() as connection:
            for row in connection.execute("SELECT name, version FROM templates ORDER BY name, version"):
                found.setdefault(row["name"], []).append(row["version"])
        return found

    @property
    def default(self) -> str:
        """The template of requests that name none."""
        with self._database.read() as connection:
            return _default(connection)

    def set_default(self, name: str) -> None:
        """Choose the template of requests that name none. Raises UnknownTemplate."""
        with self._database.write() as connection:
            if name != BUILTIN and _latest(connection, name) is None:
                raise UnknownTemplate("There is no such template; GET /templates lists those there are.")
            connection.execute(
                "INSERT INTO template_default (one, name) VALUES (1, ?) "
                "ON CONFLICT (one) DO UPDATE SET name = excluded.name",
                (name,),
            )

    def remove(self, name: str) -> None:
        """Delete a template with all its versions; a default that named it becomes the built-in one.

        Raises UnknownTemplate.
        """
        with self._database.write() as connection:
            if not connection.execute("DELETE FROM templates WHERE name = ?", (name,)).rowcount:
                raise UnknownTemplate("There is no such template; GET /templates lists those there are.")
            connection.execute("DELETE FROM template_default WHERE name = ?", (name,))


def _latest(connection: Connection, name: str) -> Row | None:
    query = "SELECT * FROM templates WHERE name = ? ORDER BY version DESC LIMIT 1"
    row: Row | None = connection.execute(query, (name,)).fetchone()
    return row


def _default(connection: Connection) -> str:
    row = connection.execute("SELECT name FROM template_default").fetchone()
    return str(row["name"]) if row else BUILTIN


def _stored(row: Row) -> StoredTemplate:
    body = json.loads(row["body"])
    examples = tuple(
        Example(e["question"], e["answer"], tuple(Passage(p["text"], p["title"]) for p in e["passages"]))
        for e in body["examples"]
    )
    return StoredTemplate(
        row["name"], row["version"], PromptTemplate(body["system"], body["question"], examples), row["created_at"]
    )
