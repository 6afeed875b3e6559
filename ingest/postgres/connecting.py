"""How connections are opened, and how one that leads nowhere any more is noticed.

A host that is gone or cut off answers nothing, not even an error. TCP is told to find that out within seconds, on both
ends: here, so that whoever waits is told; in the server, so that the locks of a process that is gone are free. A server
whose host still answers but which itself does not, stopped or hung, is found by its silence. Knows libpq's settings;
knows no statement.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ingest.postgres.connection import PostgresRow, rows_by_name
from ingest.postgres.problems import told

T = TypeVar("T")
CONNECT_SECONDS = 3
SILENCE_SECONDS = 15.0
_GONE_SECONDS = 5  # until a host that answers nothing is taken for gone
_CLIENT_SIDE: dict[str, Any] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": _GONE_SECONDS - 2,
    "tcp_user_timeout": 1000 * _GONE_SECONDS,
}
_SERVER_SIDE = (
    f"-c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count={_GONE_SECONDS - 2} "
    f"-c tcp_user_timeout={1000 * _GONE_SECONDS}"
)


def reached(url: str, options: str = "") -> str:
    """How libpq reaches a server, its limits of time with it; what the URL says of these holds.

    Args:
        options: further settings of the session, as ``-c name=value``.
    """
    given = conninfo_to_dict(url)
    every = " ".join(str(part) for part in (_SERVER_SIDE, options, given.get("options")) if part)
    limits = {name: value for name, value in _CLIENT_SIDE.items() if name not in given}
    return make_conninfo(url, **{**limits, "options": every})


class AnsweringConnection(psycopg.Connection[PostgresRow]):
    """A connection that is given up when the server sends nothing for a while.

    Attributes:
        silence_seconds: so long; what arrives meanwhile begins the time anew.
    """

    silence_seconds = SILENCE_SECONDS

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """See psycopg. Raises OperationalError."""
        try:
            return super().wait(_answering(gen, self.silence_seconds), *arguments, **options)
        except _Silent as error:
            self.close()  # whatever it was doing is not known any more
            raise psycopg.OperationalError(str(error)) from None


class _Silent(Exception):
    """Nothing was sent for too long."""


def _answering(gen: Generator[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
    """psycopg's steps of an exchange, with an end where the other side sends nothing. A step is told what there is to
    read or write, or nothing once in a while."""
    try:
        wanted = next(gen)
        deadline = time.monotonic() + seconds
        while True:
            ready = yield wanted
            if ready:
                deadline = time.monotonic() + seconds
            elif time.monotonic() > deadline:
                gen.close()
                raise _Silent(f"the server has sent nothing for {seconds:.0f} s")
            wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[PostgresRow]]:
    """A connection of its own, each statement a transaction, which may take as long as it takes."""
    with told():
        connection = psycopg.connect(reached(url), autocommit=True, row_factory=rows_by_name)
    with connection, told():
        yield connection
