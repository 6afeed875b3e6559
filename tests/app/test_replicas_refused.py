"""A process that would not do beside the others: of another version, or with a clock that is off. It says so, is not
ready, and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from app.local_server import LocalServer, local_server
from reliability.jumping_clock import Clock
from tests.app.test_postgres_over_http import serve
from tests.app.texts import LIGHTHOUSE, ask, ingest
from tests.databases import fresh_database

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(400)]
PATIENCE_S = 60.0


@pytest.fixture
def url(postgres_superuser: str) -> Iterator[str]:
    with fresh_database(postgres_superuser) as url:
        yield url


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.1)


def readiness(server: LocalServer) -> tuple[int, str]:
    response = httpx.get(f"{server.url}/readyz")
    return response.status_code, response.text


def versions(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT component, version FROM schema_version").fetchall())


def set_version(url: str, change: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE schema_version SET version = version + %s WHERE component = 'usage'", (change,))


def test_a_process_of_another_version_is_refused_and_one_that_serves_is_not_ready_any_more(
    url: str, postgres_superuser: str, tmp_path: Path
) -> None:
    settings = {"LOREBASE_DATABASE_URL": url}
    with local_server(environment=settings, data=tmp_path / "data") as running:
        set_version(url, -1)  # as if the software that starts now knew one more
        found = versions(url)
        told = serve(tmp_path / "data", **settings)
        assert (told.returncode, "Traceback" in told.stderr) == (1, False)
        assert "Stop all of them, then start this version" in told.stderr
        set_version(url, +2)  # a newer one has been here
        told = serve(tmp_path / "data", **settings)
        assert (told.returncode, "Traceback" in told.stderr) == (1, False)
        assert "run the newer version" in told.stderr
        assert versions(url) == {**found, "usage": found["usage"] + 2}
        with psycopg.connect(postgres_superuser, autocommit=True) as connection:  # as a link that was cut for a while
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lorebase replica' "
                "AND usename = %s",
                (psycopg.conninfo.conninfo_to_dict(url)["user"],),
            )
        until(lambda: readiness(running)[0] == 503 and "another version" in readiness(running)[1])


def test_a_process_whose_clock_is_off_is_not_ready_and_disturbs_no_work(url: str, tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    settings = {"LOREBASE_DATABASE_URL": url}
    key, data = "the-same-for-both", tmp_path / "data"
    with (
        local_server(environment=settings, default_key=key, data=data) as right,
        local_server(
            environment={**settings, **clock.environment},
            default_key=key,
            data=data,
            module="reliability.jumping_clock",
        ) as off,
    ):
        headers = {"Authorization": f"Bearer {key}"}
        for seconds, said in ((3600.0, "3600 s ahead of"), (-7200.0, "7200 s behind")):
            clock.set(seconds)
            until(lambda said=said: said in readiness(off)[1])  # type: ignore[misc]
            assert (readiness(off)[0], readiness(right)[0]) == (503, 200)
            for number, server in enumerate((right, off)):  # what it takes all the same is not lost, nor done twice
                with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
                    (document,) = ingest(client, f"{LIGHTHOUSE} It was painted {said} {number} times.")
                    assert document["status"] == "ready"
        with httpx.Client(base_url=right.url, headers=headers, timeout=60) as client:
            assert ask(client, "When was the lighthouse built?")["answer"] == "1874"
            assert client.get("/documents").json()["total"] == 4
        clock.set(0.0)
        until(lambda: readiness(off)[0] == 200)
