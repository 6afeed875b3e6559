"""A PostgreSQL connection that takes the statements written for SQLite too, and gives rows by name and by place.

Knows placeholders, conflict targets and row shapes; knows no table and no transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import psycopg

_CONFLICT = re.compile(r"ON CONFLICT \((?=[a-z])")
_ORDERED_JOIN = re.compile(r"CROSS JOIN (?=\w+( AS \w+)? ON )")
_STRING = re.compile(r"('[^']*')")


@lru_cache(maxsize=2048)
def translated(sql: str, of_tenant: bool) -> bytes:
    """A statement as psycopg takes it.

    ``?`` become ``%s``; SQLite's ``CROSS JOIN … ON``, which only fixes an order, a plain join. Where the rows are a
    tenant's the conflict target begins with the tenant, as every unique constraint does.
    """
    parts = _STRING.split(sql.replace("%", "%%"))
    parts[::2] = [part.replace("?", "%s") for part in parts[::2]]  # not within literals
    sql = _ORDERED_JOIN.sub("JOIN ", "".join(parts))
    return (_CONFLICT.sub("ON CONFLICT (tenant, ", sql) if of_tenant else sql).encode()


class PostgresRow(tuple[Any, ...]):
    """A row: its values in order, and by the names of the columns."""

    __slots__ = ()
    places: ClassVar[dict[str, int]] = {}

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self.places[key] if isinstance(key, str) else key)

    def keys(self) -> list[str]:
        """The names of the columns."""
        return list(self.places)


@lru_cache(maxsize=2048)
def _row_type(names: tuple[str, ...]) -> type[PostgresRow]:
    return type("PostgresRow", (PostgresRow,), {"__slots__": (), "places": {name: i for i, name in enumerate(names)}})


def rows_by_name(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], PostgresRow]:
    """psycopg's row factory for `PostgresRow`."""
    return _row_type(tuple(column.name for column in cursor.description or ()))


class PostgresConnection:
    """A connection inside a transaction.

    Args:
        of_tenant: whether the rows are one tenant's.
    """

    def __init__(self, connection: psycopg.Connection[PostgresRow], of_tenant: bool) -> None:
        self._connection = connection
        self._of_tenant = of_tenant

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> PostgresCursor:
        """Run a statement."""
        cursor = self._connection.cursor()
        cursor.execute(translated(sql, self._of_tenant), _bound(parameters))
        return PostgresCursor(cursor)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> PostgresCursor:
        """Run a statement once for each row of parameters, in one go."""
        cursor = self._connection.cursor()
        every = [_bound(each) for each in parameters]
        if every:
            cursor.executemany(translated(sql, self._of_tenant), every)
        return PostgresCursor(cursor)


class PostgresCursor:
    """What a statement brought."""

    def __init__(self, cursor: psycopg.Cursor[PostgresRow]) -> None:
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        return self._cursor.rowcount

    def fetchone(self) -> Any:
        """The next row; None after the last one."""
        return self._cursor.fetchone()

    def fetchmany(self, size: int = 1, /) -> list[Any]:
        """Up to so many further rows."""
        return self._cursor.fetchmany(size)

    def fetchall(self) -> list[Any]:
        """All further rows."""
        return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)


def _bound(parameters: Sequence[Any]) -> list[Any]:
    """Parameters as PostgreSQL takes them: its text holds no NUL, so U+FFFD stands for one; offsets stay."""
    return [p.replace("\0", "\ufffd") if isinstance(p, str) and "\0" in p else p for p in parameters]
