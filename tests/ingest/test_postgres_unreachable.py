"""A PostgreSQL server that does not answer any more: whoever waits is told, and it heals by itself."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ingest.errors import DatabaseUnavailable
from ingest.postgres import PostgresServer
from ingest.postgres.connecting import reached
from tests.databases import fresh_database
from tests.freezing_proxy import FreezingProxy, freezing_proxy
from tests.ingest.test_postgres import NOTES, bodies, put

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def url(postgres_superuser: str) -> Iterator[str]:
    with fresh_database(postgres_superuser) as url:
        yield url


@pytest.fixture
def proxy(url: str) -> Iterator[FreezingProxy]:
    place = conninfo_to_dict(url)
    host, port = str(place.get("host", "")), int(place.get("port") or 5432)

    def connect() -> socket.socket:
        if not host.startswith("/"):
            return socket.create_connection((host or "localhost", port))
        there = socket.socket(socket.AF_UNIX)
        there.connect(f"{host}/.s.PGSQL.{port}")
        return there

    with freezing_proxy(connect) as proxy:
        yield proxy


@pytest.fixture
def server(url: str, proxy: FreezingProxy) -> Iterator[PostgresServer]:
    there = make_conninfo(url, host="127.0.0.1", port=proxy.port)
    with closing(PostgresServer(there, {"notes": NOTES}, silence_seconds=1.0)) as server:
        yield server


def failure(server: PostgresServer) -> str:
    """Why it cannot be reached."""
    with pytest.raises(DatabaseUnavailable) as told:
        server.execute("SELECT 1")
    return str(told.value)


def until_it_is_back(server: PostgresServer) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            server.execute("SELECT 1")
        except DatabaseUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_a_server_that_stops_answering_is_told_of_and_used_again_when_it_answers(
    server: PostgresServer, proxy: FreezingProxy
) -> None:
    database = server.database(uuid4().hex)
    put(database, "before")
    proxy.freeze()
    with pytest.raises(DatabaseUnavailable):
        bodies(database)
    with pytest.raises(DatabaseUnavailable):
        server.execute("SELECT 1")
    proxy.thaw()
    until_it_is_back(server)
    put(database, "after", 2)
    assert bodies(database) == ["before", "after"]


def test_a_transaction_that_is_cut_off_leaves_nothing_behind(server: PostgresServer, proxy: FreezingProxy) -> None:
    database = server.database(uuid4().hex)

    def half() -> None:
        with database.write() as connection:
            connection.execute("INSERT INTO notes (id, body) VALUES (1, 'half')")
            proxy.freeze()
            connection.execute("INSERT INTO notes (id, body) VALUES (2, 'done')")

    with pytest.raises(DatabaseUnavailable):
        half()
    proxy.thaw()
    until_it_is_back(server)
    put(database, "whole", 3)  # its lock is free
    assert bodies(database) == ["whole"]


def test_while_one_finds_out_whether_it_is_back_others_are_told_at_once(
    server: PostgresServer, proxy: FreezingProxy
) -> None:
    server.execute("SELECT 1")
    proxy.freeze()
    with ThreadPoolExecutor(1) as pool:
        while "no connection" not in failure(server):  # the connections there are end one by one
            pass
        told, deadline = 0, time.monotonic() + PATIENCE_S
        while told < 2:  # if this one was the one that tried, once more
            assert time.monotonic() < deadline
            first, told = pool.submit(failure, server), 0
            time.sleep(0.2)
            while not first.done():
                failure(server)
                told += 1
    proxy.thaw()
    until_it_is_back(server)


def test_a_session_that_hears_nothing_any_more_is_lost(url: str, proxy: FreezingProxy) -> None:
    with closing(PostgresServer(make_conninfo(url, host="127.0.0.1", port=proxy.port), {"notes": NOTES})) as server:
        session = server.session("changes")
        assert session.open()
        assert session.hear(0.05) == []
        proxy.freeze()
        with pytest.raises(DatabaseUnavailable):
            session.execute("SELECT 1")
        assert not session.is_open
        proxy.thaw()
        session.close()


def test_a_statement_that_takes_long_is_not_cut_short_while_rows_arrive(server: PostgresServer) -> None:
    rows = server.execute("SELECT repeat('x', 8000), pg_sleep(0.1) FROM generate_series(1, 20)")
    assert len(rows) == 20


def test_what_the_url_says_of_its_limits_holds(url: str) -> None:
    found = conninfo_to_dict(reached(make_conninfo(url, connect_timeout=9, options="-c work_mem=8MB")))
    assert (found["connect_timeout"], found["keepalives_idle"], found["tcp_user_timeout"]) == ("9", "2", "5000")
    with psycopg.connect(reached(make_conninfo(url, options="-c work_mem=8MB"))) as connection:
        rows = connection.execute("SELECT current_setting('work_mem'), current_setting('tcp_keepalives_count')")
        assert rows.fetchone() is not None
